//! A real containerd with our socket as a proxy plugin: plain use through `ctr`, its garbage collection, and its content store.
//!
//! Goal: what containerd's metadata layer makes of our answers. Method: a private containerd on a temporary directory, Debian's `ctr`.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "conformance/containerd.rs"]
mod containerd;
#[path = "conformance/served.rs"]
mod served;

use std::fs;
use std::time::{Duration, Instant};

use containerd::{Containerd, missing};
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    Kind, PrepareSnapshotRequest, StatSnapshotRequest,
};
use parapull_snapshotter::grpc::{
    ContentClient, ContentError, Remote, RemoteError, RemoteOutcome, RemotePrepare,
};
use parapull_snapshotter::store::{CommitStaged, Format, Options, Store, Usage};
use served::{Served, connect, skip, temporary_directory};
use tonic::{Code, Request, async_trait};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctr_uses_us_as_an_ordinary_snapshotter() {
    if let Some(why) = missing() {
        return skip("ctr_uses_us_as_an_ordinary_snapshotter", why);
    }
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let containerd = Containerd::start(root.path(), served.socket());
    assert!(
        containerd
            .ctr(&["plugins", "ls"])
            .unwrap()
            .contains("parapull")
    );

    let tree = served.store.root().join("snapshots");
    containerd.snapshots(&["prepare", "active"]).unwrap();
    fs::write(tree.join("1/fs/file"), b"content").unwrap();
    containerd.snapshots(&["commit", "base", "active"]).unwrap();
    let mounts = containerd
        .snapshots(&["prepare", "--target", "/mnt", "over", "base"])
        .unwrap();
    assert!(
        mounts.contains("mount -t overlay overlay /mnt -o workdir=")
            && mounts.contains(&format!("lowerdir={}/1/fs", tree.display())),
        "{mounts}"
    );
    containerd.snapshots(&["view", "seen", "base"]).unwrap();
    assert!(
        containerd
            .snapshots(&["mounts", "/mnt", "over"])
            .unwrap()
            .contains("upperdir=")
    );

    let listed = containerd.snapshots(&["ls"]).unwrap();
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        vec!["base", "Committed"],
        vec!["over", "base", "Active"],
        vec!["seen", "base", "View"],
    ];
    assert_eq!(rows, expected, "{listed}");
    assert!(
        containerd
            .snapshots(&["info", "base"])
            .unwrap()
            .contains("\"Kind\": \"Committed\"")
    );
    assert!(
        containerd
            .snapshots(&["usage", "base"])
            .unwrap()
            .contains("base")
    );
    containerd
        .snapshots(&["label", "base", "containerd.io/snapshot/note=x"])
        .unwrap();
    assert_eq!(
        served.store.stat("default/2/base").unwrap().labels["containerd.io/snapshot/note"],
        "x"
    );

    let refused = containerd.snapshots(&["rm", "base"]).unwrap_err();
    assert!(
        refused.contains("cannot remove snapshot with child"),
        "{refused}"
    );
    for key in ["over", "seen", "base"] {
        containerd.snapshots(&["rm", key]).unwrap();
    }
    assert_eq!(containerd.snapshots(&["ls"]).unwrap().lines().count(), 1);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_collection_removes_what_containerd_does_not_know_and_spares_what_is_staged() {
    if let Some(why) = missing() {
        return skip(
            "garbage_collection_removes_what_containerd_does_not_know_and_spares_what_is_staged",
            why,
        );
    }
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let containerd = Containerd::start(root.path(), served.socket());
    let staging = served.store.staging_directory("job", "layer").unwrap();
    fs::create_dir(staging.fs()).unwrap();
    served
        .store
        .prepare("stray", "", Default::default())
        .unwrap();
    // A snapshot that was removed makes the next collection sweep this snapshotter; a synchronous deletion waits for one.
    containerd.snapshots(&["prepare", "active"]).unwrap();
    containerd.snapshots(&["rm", "active"]).unwrap();
    containerd
        .ctr(&["leases", "create", "--id", "one"])
        .unwrap();
    containerd.ctr(&["leases", "rm", "--sync", "one"]).unwrap();

    let mut names = Vec::new();
    served
        .store
        .walk(|info| {
            names.push(info.name);
            Ok(())
        })
        .unwrap();
    assert_eq!(names, [""; 0]);
    assert!(staging.fs().is_dir());
    served.stop().await;
}

/// Brings every layer, as a tree with one file named after its chain id.
struct Bringing(Store);

#[async_trait]
impl Remote for Bringing {
    async fn prepare_remote(&self, prepare: RemotePrepare) -> Result<RemoteOutcome, RemoteError> {
        let chain = prepare.request.snapshot_ref;
        let staging = self.0.staging_directory("job", &chain.short()).unwrap();
        fs::create_dir(staging.fs()).unwrap();
        fs::write(staging.fs().join(chain.short()), b"content").unwrap();
        let request = CommitStaged {
            snapshot_ref: chain,
            parent: prepare.parent,
            namespace: prepare.namespace,
            labels: prepare.labels,
            fs: staging.fs(),
            usage: Usage {
                bytes: 4096,
                inodes: 2,
            },
            format: Format::Overlay,
            opaque_root: false,
        };
        self.0.commit_staged(request).unwrap();
        Ok(RemoteOutcome::Committed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_takes_over_the_layers_of_a_remote_pull() {
    if let Some(why) = missing() {
        return skip("containerd_takes_over_the_layers_of_a_remote_pull", why);
    }
    let root = temporary_directory();
    let store = Store::open(root.path().join("store"), &Options::default()).unwrap();
    let served = Served::start_over(root.path(), store.clone(), Bringing(store)).await;
    let containerd = Containerd::start(root.path(), served.socket());
    // What CRI and other clients do, for two namespaces: one call per layer to containerd's own snapshots service.
    for namespace in ["k8s.io", "moby"] {
        let mut client = connect(&containerd.socket()).await;
        let mut parent = String::new();
        for layer in 0..3 {
            let chain = Digest::of(format!("layer {layer}").as_bytes()).to_string();
            let status = client
                .prepare(in_namespace(namespace, pull(layer, &chain, &parent)))
                .await
                .unwrap_err();
            assert_eq!(
                status.code(),
                Code::AlreadyExists,
                "{namespace} {layer}: {status}"
            );
            let stat = StatSnapshotRequest {
                snapshotter: "parapull".to_owned(),
                key: chain.clone(),
            };
            let info = client
                .stat(in_namespace(namespace, stat))
                .await
                .unwrap()
                .into_inner()
                .info
                .unwrap();
            assert_eq!(
                (info.kind(), &info.name, &info.parent),
                (Kind::Committed, &chain, &parent)
            );
            parent = chain;
        }
        let top = |arguments: &[&str]| {
            containerd.ctr(
                &[
                    &["-n", namespace, "snapshots", "--snapshotter", "parapull"],
                    arguments,
                ]
                .concat(),
            )
        };
        let mounts = top(&["prepare", "--target", "/mnt", "container", &parent]).unwrap();
        assert_eq!(
            mounts.matches("/fs:").count(),
            2,
            "three lower layers: {mounts}"
        );
        assert!(top(&["usage", &parent]).unwrap().contains("4.0 KiB"));
    }
    // Both namespaces refer to the same three snapshots, beside the two active ones.
    let mut names = Vec::new();
    served
        .store
        .walk(|info| {
            names.push(info.name);
            Ok(())
        })
        .unwrap();
    assert_eq!(names.len(), 5, "{names:?}");
    served.stop().await;
}

/// A `Prepare` as the unpacker of a pull sends it.
fn pull(layer: usize, chain: &str, parent: &str) -> PrepareSnapshotRequest {
    let (blob, manifest) = (
        Digest::of(b"blob").to_string(),
        Digest::of(b"manifest").to_string(),
    );
    let labels = [
        ("containerd.io/snapshot.ref", chain),
        (
            "containerd.io/snapshot/cri.image-ref",
            "registry.example/a:1",
        ),
        ("containerd.io/snapshot/cri.layer-digest", &blob),
        ("containerd.io/snapshot/cri.image-layers", &blob),
        ("containerd.io/snapshot/cri.manifest-digest", &manifest),
    ];
    PrepareSnapshotRequest {
        snapshotter: "parapull".to_owned(),
        key: format!("extract-{layer} {chain}"),
        parent: parent.to_owned(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

fn in_namespace<T>(namespace: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_blobs_from_containerd_s_content_store() {
    if let Some(why) = missing() {
        return skip("reads_blobs_from_containerd_s_content_store", why);
    }
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let client = ContentClient::new(root.path().join("containerd.sock"));
    let blob: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let digest = Digest::of(&blob);

    let early = client
        .read_blob("default", &digest, 4 << 20)
        .await
        .unwrap_err();
    assert!(
        matches!(early, ContentError::Call { .. }),
        "nobody listens yet: {early}"
    );

    let containerd = Containerd::start(root.path(), served.socket());
    containerd
        .ctr_with(
            &[
                "content",
                "ingest",
                "--expected-digest",
                &digest.to_string(),
                "ref",
            ],
            &blob,
        )
        .unwrap();
    assert_eq!(
        client.read_blob("default", &digest, 4 << 20).await.unwrap(),
        blob
    );
    let large = client
        .read_blob("default", &digest, 2_999_999)
        .await
        .unwrap_err();
    assert!(matches!(large, ContentError::TooLarge { .. }), "{large}");
    for (namespace, digest) in [("other", digest), ("default", Digest::of(b"nothing"))] {
        let absent = client
            .read_blob(namespace, &digest, 4 << 20)
            .await
            .unwrap_err();
        assert!(matches!(absent, ContentError::NotFound { .. }), "{absent}");
    }

    let file = root
        .path()
        .join("root/io.containerd.content.v1.content/blobs/sha256")
        .join(digest.hex());
    fs::write(&file, b"something else").unwrap();
    let wrong = client
        .read_blob("default", &digest, 4 << 20)
        .await
        .unwrap_err();
    assert!(matches!(wrong, ContentError::Mismatch { .. }), "{wrong}");
    fs::write(&file, &blob).unwrap();

    drop(containerd);
    let gone = client
        .read_blob("default", &digest, 4 << 20)
        .await
        .unwrap_err();
    assert!(matches!(gone, ContentError::Call { .. }), "{gone}");
    let containerd = Containerd::start(root.path(), served.socket());
    assert_eq!(
        client.read_blob("default", &digest, 4 << 20).await.unwrap(),
        blob,
        "after a restart"
    );
    drop(containerd);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_goes_on_after_we_were_restarted() {
    if let Some(why) = missing() {
        return skip("containerd_goes_on_after_we_were_restarted", why);
    }
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let containerd = Containerd::start(root.path(), served.socket());
    containerd.snapshots(&["prepare", "active"]).unwrap();
    served.stop().await;
    let refused = containerd.snapshots(&["info", "active"]).unwrap_err();
    assert!(refused.contains("unavailable"), "{refused}");

    let served = Served::start(root.path()).await;
    assert_eq!(served.store.recovery().dropped, []);
    let deadline = Instant::now() + Duration::from_secs(20);
    // containerd connects again within 3 s, its longest backoff.
    while let Err(error) = containerd.snapshots(&["info", "active"]) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    containerd.snapshots(&["commit", "base", "active"]).unwrap();
    served.stop().await;
}
