//! The snapshots service over a real socket: what containerd's metadata layer relies on and the suite does not test.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "conformance/served.rs"]
mod served;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, MountsRequest,
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest,
    UsageRequest, ViewSnapshotRequest,
};
use parapull_snapshotter::grpc::{
    BoundSocket, Remote, RemoteError, RemoteErrorClass, RemoteOutcome, RemotePrepare, ServeError,
};
use parapull_snapshotter::store::{CommitStaged, Format, Labels, Store, Usage};
use served::{Served, connect, temporary_directory};
use tokio::sync::{Notify, mpsc};
use tonic::transport::Channel;
use tonic::{Code, Request, async_trait};

type Client = SnapshotsClient<Channel>;

fn prepare(key: &str, parent: &str, labels: &[(&str, &str)]) -> PrepareSnapshotRequest {
    PrepareSnapshotRequest {
        snapshotter: "parapull".to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: map(labels),
    }
}

fn map(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The labels of a pull for the layer of this chain id.
fn pull_labels(chain: &Digest) -> HashMap<String, String> {
    let (chain, layer, manifest) = (
        chain.to_string(),
        Digest::of(b"layer").to_string(),
        Digest::of(b"manifest").to_string(),
    );
    map(&[
        ("containerd.io/snapshot.ref", &chain),
        (
            "containerd.io/snapshot/cri.image-ref",
            "registry.example/a:1",
        ),
        ("containerd.io/snapshot/cri.layer-digest", &layer),
        ("containerd.io/snapshot/cri.image-layers", &layer),
        ("containerd.io/snapshot/cri.manifest-digest", &manifest),
    ])
}

async fn list(client: &mut Client, filters: &[&str]) -> Vec<Vec<Info>> {
    let request = ListSnapshotsRequest {
        snapshotter: String::new(),
        filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
    };
    let mut stream = client.list(request).await.unwrap().into_inner();
    let mut blocks = Vec::new();
    while let Some(block) = stream.message().await.unwrap() {
        blocks.push(block.info);
    }
    blocks
}

async fn commit(client: &mut Client, name: &str, key: &str, parent: &str) -> Result<(), Code> {
    let request = CommitSnapshotRequest {
        name: name.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        ..CommitSnapshotRequest::default()
    };
    client
        .commit(request)
        .await
        .map(|_| ())
        .map_err(|status| status.code())
}

/// A remote that commits an empty tree, or ends as told.
struct Scripted {
    store: Store,
    ends: Result<RemoteOutcome, RemoteError>,
    asked: mpsc::UnboundedSender<RemotePrepare>,
    /// Whether "committed" is true.
    commits: bool,
}

#[async_trait]
impl Remote for Scripted {
    async fn prepare_remote(&self, prepare: RemotePrepare) -> Result<RemoteOutcome, RemoteError> {
        if self.commits {
            let staging = self.store.staging_directory("job", "layer").unwrap();
            let request = CommitStaged {
                snapshot_ref: prepare.request.snapshot_ref,
                parent: prepare.parent.clone(),
                namespace: prepare.namespace.clone(),
                labels: prepare.labels.clone(),
                fs: staging.fs(),
                usage: Usage::default(),
                format: Format::Overlay,
            };
            self.store.commit_staged(request).unwrap();
        }
        self.asked.send(prepare).unwrap();
        self.ends.clone()
    }
}

/// A server whose remote ends as told, a client of it, and what the remote is asked.
async fn scripted(
    root: &Path,
    ends: Result<RemoteOutcome, RemoteError>,
    commits: bool,
) -> (Served, Client, mpsc::UnboundedReceiver<RemotePrepare>) {
    let store = Store::open(
        root.join("store"),
        &parapull_snapshotter::store::Options::default(),
    )
    .unwrap();
    let (asked, questions) = mpsc::unbounded_channel();
    let remote = Scripted {
        store: store.clone(),
        ends,
        asked,
        commits,
    };
    let served = Served::start_over(root, store, remote).await;
    let client = connect(served.socket()).await;
    (served, client, questions)
}

#[tokio::test]
async fn a_remote_layer_ends_as_containerd_s_metadata_layer_expects() {
    let root = temporary_directory();
    let (served, mut client, mut questions) =
        scripted(root.path(), Ok(RemoteOutcome::Committed), true).await;
    let mut parent = String::new();
    for layer in ["one", "two", "three"] {
        let chain = Digest::of(layer.as_bytes());
        let key = format!("k8s.io/7/extract-1 {chain}");
        let request = PrepareSnapshotRequest {
            labels: pull_labels(&chain),
            ..prepare(&key, &parent, &[])
        };
        let status = client.prepare(request).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(
            status.message(),
            format!("target snapshot \"{chain}\": already exists")
        );

        let asked = questions.recv().await.unwrap();
        assert_eq!(
            (asked.namespace.as_str(), asked.key.as_str()),
            ("k8s.io", key.as_str())
        );
        assert_eq!(asked.parent.as_deref().unwrap_or_default(), parent);

        // What containerd does next (metadata/snapshot.go): find it by label and parent, then ask for it by name.
        let filter = format!("labels.\"containerd.io/snapshot.ref\"=={chain},parent==\"{parent}\"");
        let found = list(&mut client, &[&filter]).await.concat();
        assert_eq!(found.len(), 1, "{filter}");
        assert_eq!(
            (found[0].kind(), &found[0].parent),
            (Kind::Committed, &parent)
        );
        let stat = StatSnapshotRequest {
            key: found[0].name.clone(),
            ..StatSnapshotRequest::default()
        };
        assert_eq!(
            client.stat(stat).await.unwrap().into_inner().info.as_ref(),
            Some(&found[0])
        );
        parent.clone_from(&found[0].name);
    }
    let mounts = client
        .prepare(prepare("k8s.io/9/container", &parent, &[]))
        .await
        .unwrap()
        .into_inner()
        .mounts;
    assert_eq!(mounts[0].r#type, "overlay");
    served.stop().await;
}

#[tokio::test]
async fn a_layer_that_is_there_is_answered_without_asking_again() {
    let root = temporary_directory();
    let (served, mut client, mut questions) =
        scripted(root.path(), Ok(RemoteOutcome::Committed), true).await;
    let labels = pull_labels(&Digest::of(b"chain"));
    for key in ["a/1/x", "b/1/x"] {
        let request = PrepareSnapshotRequest {
            labels: labels.clone(),
            ..prepare(key, "", &[])
        };
        assert_eq!(
            client.prepare(request).await.unwrap_err().code(),
            Code::AlreadyExists
        );
    }
    assert_eq!(questions.recv().await.unwrap().namespace, "a");
    assert!(questions.try_recv().is_err());
    served.stop().await;
}

#[tokio::test]
async fn what_the_remote_leaves_is_prepared_as_ever() {
    let root = temporary_directory();
    let (served, mut client, mut questions) =
        scripted(root.path(), Ok(RemoteOutcome::Fallback), false).await;
    let chain = Digest::of(b"chain");
    let request = PrepareSnapshotRequest {
        labels: pull_labels(&chain),
        ..prepare("k8s.io/1/x", "", &[])
    };
    let mounts = client.prepare(request).await.unwrap().into_inner().mounts;
    assert_eq!(mounts[0].r#type, "bind");
    assert!(questions.recv().await.is_some());
    // With fewer labels there is nothing to ask.
    let chain = chain.to_string();
    for labels in [&[][..], &[("containerd.io/snapshot.ref", chain.as_str())]] {
        let key = format!("k8s.io/2/{}", labels.len());
        client.prepare(prepare(&key, "", labels)).await.unwrap();
    }
    assert!(questions.try_recv().is_err());
    served.stop().await;
}

#[tokio::test]
async fn a_layer_without_its_parent_is_left_to_containerd_with_an_overlay() {
    let root = temporary_directory();
    let (served, mut client, mut questions) =
        scripted(root.path(), Ok(RemoteOutcome::Committed), true).await;
    let mut labels = pull_labels(&Digest::of(b"chain"));
    labels.insert(
        "containerd.io/snapshot/diff-id".to_owned(),
        Digest::of(b"diff").to_string(),
    );
    let request = PrepareSnapshotRequest {
        labels,
        ..prepare("k8s.io/1/x", "", &[])
    };
    let mounts = client.prepare(request).await.unwrap().into_inner().mounts;
    assert_eq!(mounts[0].r#type, "overlay");
    assert!(
        mounts[0]
            .options
            .iter()
            .any(|option| option.starts_with("upperdir="))
    );
    assert!(questions.try_recv().is_err());
    // containerd then links it with the parent it kept back.
    client
        .prepare(prepare("k8s.io/1/below", "", &[]))
        .await
        .unwrap();
    commit(&mut client, "k8s.io/1/base", "k8s.io/1/below", "")
        .await
        .unwrap();
    commit(&mut client, "k8s.io/1/top", "k8s.io/1/x", "k8s.io/1/base")
        .await
        .unwrap();
    let found = list(&mut client, &["parent==\"k8s.io/1/base\""])
        .await
        .concat();
    assert_eq!(found[0].name, "k8s.io/1/top");
    served.stop().await;
}

#[tokio::test]
async fn errors_of_the_remote_reach_the_caller_and_a_false_claim_does_not_pass() {
    let root = temporary_directory();
    let error = RemoteError {
        class: RemoteErrorClass::Unauthenticated,
        message: "registry.example: layer 3: no credentials".to_owned(),
    };
    for (ends, code) in [
        (Err(error), Code::Unauthenticated),
        (Ok(RemoteOutcome::Committed), Code::Internal),
    ] {
        let (served, mut client, _questions) = scripted(root.path(), ends, false).await;
        let request = PrepareSnapshotRequest {
            labels: pull_labels(&Digest::of(b"chain")),
            ..prepare("k8s.io/1/x", "", &[])
        };
        assert_eq!(client.prepare(request).await.unwrap_err().code(), code);
        drop(client);
        served.stop().await;
    }
}

/// Never ends; says when it is asked and when it is dropped.
#[derive(Clone, Default)]
struct Endless {
    asked: Arc<Notify>,
    dropped: Arc<Notify>,
}

struct SaysWhenDropped(Arc<Notify>);

impl Drop for SaysWhenDropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Remote for Endless {
    async fn prepare_remote(&self, _prepare: RemotePrepare) -> Result<RemoteOutcome, RemoteError> {
        let _says = SaysWhenDropped(self.dropped.clone());
        self.asked.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_waiting_prepare_keeps_nobody_out_and_ends_with_its_caller() {
    let root = temporary_directory();
    let remote = Endless::default();
    let served = Served::start_with(root.path(), remote.clone()).await;
    let mut client = connect(served.socket()).await;
    let mut waiting = Vec::new();
    // More than hyper's default of 200 streams, on the one connection that containerd would use.
    for number in 0..300 {
        let mut client = client.clone();
        let request = PrepareSnapshotRequest {
            labels: pull_labels(&Digest::of(b"chain")),
            ..prepare(&format!("k8s.io/1/{number}"), "", &[])
        };
        waiting.push(tokio::spawn(async move { client.prepare(request).await }));
    }
    for _ in 0..300 {
        // One permit is kept at most, so this may lag behind, but every waiter above was started before the next line.
        tokio::task::yield_now().await;
    }
    remote.asked.notified().await;
    client
        .prepare(prepare("k8s.io/1/plain", "", &[]))
        .await
        .unwrap();
    let last = waiting.pop().unwrap();
    last.abort();
    tokio::time::timeout(Duration::from_secs(20), remote.dropped.notified())
        .await
        .unwrap();
    for task in waiting {
        task.abort();
    }
    let mut request = Request::new(PrepareSnapshotRequest {
        labels: pull_labels(&Digest::of(b"chain")),
        ..prepare("k8s.io/1/deadline", "", &[])
    });
    request.set_timeout(Duration::from_millis(50));
    let status = client.prepare(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded),
        "{status}"
    );
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_list_comes_in_blocks_of_a_hundred() {
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let mut client = connect(served.socket()).await;
    assert_eq!(list(&mut client, &[]).await.len(), 0);
    for number in 0..201 {
        let parity = if number % 2 == 0 { "even" } else { "odd" };
        served
            .store
            .view(
                &format!("v{number}"),
                "",
                Labels::from([("parity".to_owned(), parity.to_owned())]),
            )
            .unwrap();
    }
    let sizes = |blocks: Vec<Vec<Info>>| -> Vec<usize> { blocks.iter().map(Vec::len).collect() };
    assert_eq!(sizes(list(&mut client, &[]).await), [100, 100, 1]);
    assert_eq!(
        sizes(list(&mut client, &["labels.parity==odd"]).await),
        [100]
    );
    assert_eq!(
        sizes(list(&mut client, &["name==v7", "name==v8", "kind==active"]).await),
        [2]
    );
    served.stop().await;
}

#[tokio::test]
async fn every_call_answers_errors_with_containerd_s_codes() {
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let mut client = connect(served.socket()).await;
    client.prepare(prepare("a", "", &[])).await.unwrap();
    client.prepare(prepare("b", "", &[])).await.unwrap();
    commit(&mut client, "base", "b", "").await.unwrap();
    client.prepare(prepare("child", "base", &[])).await.unwrap();

    let missing = || "missing".to_owned();
    let view = |key: &str, parent: &str| ViewSnapshotRequest {
        key: key.to_owned(),
        parent: parent.to_owned(),
        ..ViewSnapshotRequest::default()
    };
    let code = |result: Result<(), tonic::Status>| {
        result.map_or_else(|status| status.code(), |()| Code::Ok)
    };
    let ended = [
        (
            "prepare parent",
            code(client.prepare(prepare("x", "missing", &[])).await.map(drop)),
            Code::NotFound,
        ),
        (
            "prepare active",
            code(client.prepare(prepare("x", "a", &[])).await.map(drop)),
            Code::InvalidArgument,
        ),
        (
            "prepare twice",
            code(client.prepare(prepare("a", "", &[])).await.map(drop)),
            Code::AlreadyExists,
        ),
        (
            "view twice",
            code(client.view(view("a", "")).await.map(drop)),
            Code::AlreadyExists,
        ),
        (
            "view",
            code(client.view(view("v", "base")).await.map(drop)),
            Code::Ok,
        ),
        (
            "mounts",
            code(
                client
                    .mounts(MountsRequest {
                        key: missing(),
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::NotFound,
        ),
        (
            "mounts committed",
            code(
                client
                    .mounts(MountsRequest {
                        key: "base".to_owned(),
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::FailedPrecondition,
        ),
        (
            "remove parent",
            code(
                client
                    .remove(RemoveSnapshotRequest {
                        key: "base".to_owned(),
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::FailedPrecondition,
        ),
        (
            "remove",
            code(
                client
                    .remove(RemoveSnapshotRequest {
                        key: missing(),
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::NotFound,
        ),
        (
            "stat",
            code(
                client
                    .stat(StatSnapshotRequest {
                        key: missing(),
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::NotFound,
        ),
        (
            "usage",
            code(
                client
                    .usage(UsageRequest {
                        key: missing(),
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::NotFound,
        ),
        (
            "update without info",
            code(
                client
                    .update(UpdateSnapshotRequest::default())
                    .await
                    .map(drop),
            ),
            Code::InvalidArgument,
        ),
        (
            "list",
            code(
                client
                    .list(ListSnapshotsRequest {
                        filters: vec!["name=".to_owned()],
                        ..Default::default()
                    })
                    .await
                    .map(drop),
            ),
            Code::InvalidArgument,
        ),
        (
            "cleanup",
            code(client.cleanup(CleanupRequest::default()).await.map(drop)),
            Code::Ok,
        ),
    ];
    for (call, code, expected) in ended {
        assert_eq!(code, expected, "{call}");
    }
    assert_eq!(
        commit(&mut client, "base", "a", "").await,
        Err(Code::AlreadyExists)
    );
    assert_eq!(
        commit(&mut client, "new", "missing", "").await,
        Err(Code::NotFound)
    );
    assert_eq!(
        commit(&mut client, "new", "base", "").await,
        Err(Code::FailedPrecondition)
    );
    assert_eq!(
        commit(&mut client, "new", "child", "other").await,
        Err(Code::InvalidArgument)
    );
    served.stop().await;
}

#[tokio::test]
async fn a_socket_is_protected_taken_over_when_stale_and_never_stolen() {
    use std::os::unix::fs::PermissionsExt;
    let root = temporary_directory();
    let path = root.path().join("run/parapull/snapshotter.sock");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket as a killed daemon leaves it");
    let bound = BoundSocket::bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(matches!(
        BoundSocket::bind(&path),
        Err(ServeError::InUse(_))
    ));
    drop(bound);
    assert!(!path.exists());
    assert!(BoundSocket::from_systemd().unwrap().is_none());
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    use parapull_snapshotter::grpc::proto::runtime::v1::ListImagesRequest;
    use parapull_snapshotter::grpc::proto::runtime::v1::image_service_client::ImageServiceClient;
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let mut client = ImageServiceClient::new(served::channel(served.socket()).await);
    let status = client
        .list_images(ListImagesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    drop(client);
    served.stop().await;
}
