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
    Remote, RemoteError, RemoteErrorClass, RemoteOutcome, RemotePrepare,
};
use parapull_snapshotter::store::{CommitStaged, Format, Labels, Options, Store, Usage};
use prost_types::FieldMask;
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

/// A call and what of its request matters.
#[derive(Debug, Clone, Copy)]
enum Call {
    Prepare(&'static str, &'static str),
    View(&'static str, &'static str),
    Mounts(&'static str),
    Remove(&'static str),
    Stat(&'static str),
    Usage(&'static str),
    Update(&'static str, &'static str),
    List(&'static str),
    Cleanup,
}

impl Call {
    /// Makes the call; answers the code it ends with.
    async fn code(self, client: &mut Client) -> Code {
        let snapshotter = String::new();
        let key = |key: &str| key.to_owned();
        let result = match self {
            Self::Prepare(name, parent) => {
                client.prepare(prepare(name, parent, &[])).await.map(drop)
            }
            Self::View(name, parent) => {
                let labels = HashMap::new();
                let (key, parent) = (key(name), key(parent));
                client
                    .view(ViewSnapshotRequest {
                        snapshotter,
                        key,
                        parent,
                        labels,
                    })
                    .await
                    .map(drop)
            }
            Self::Mounts(name) => client
                .mounts(MountsRequest {
                    snapshotter,
                    key: key(name),
                })
                .await
                .map(drop),
            Self::Remove(name) => client
                .remove(RemoveSnapshotRequest {
                    snapshotter,
                    key: key(name),
                })
                .await
                .map(drop),
            Self::Stat(name) => client
                .stat(StatSnapshotRequest {
                    snapshotter,
                    key: key(name),
                })
                .await
                .map(drop),
            Self::Usage(name) => client
                .usage(UsageRequest {
                    snapshotter,
                    key: key(name),
                })
                .await
                .map(drop),
            Self::Update(name, path) => {
                let info = Some(Info {
                    name: key(name),
                    ..Info::default()
                });
                let update_mask = Some(FieldMask {
                    paths: vec![key(path)],
                });
                client
                    .update(UpdateSnapshotRequest {
                        snapshotter,
                        info,
                        update_mask,
                    })
                    .await
                    .map(drop)
            }
            Self::List(filter) => {
                let filters = vec![key(filter)];
                client
                    .list(ListSnapshotsRequest {
                        snapshotter,
                        filters,
                    })
                    .await
                    .map(drop)
            }
            Self::Cleanup => client
                .cleanup(CleanupRequest { snapshotter })
                .await
                .map(drop),
        };
        result.map_or_else(|status| status.code(), |()| Code::Ok)
    }
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
            std::fs::create_dir(staging.fs()).unwrap();
            let request = CommitStaged {
                snapshot_ref: prepare.request.snapshot_ref,
                parent: prepare.parent.clone(),
                namespace: prepare.namespace.clone(),
                labels: prepare.labels.clone(),
                fs: staging.fs(),
                usage: Usage::default(),
                format: Format::Overlay,
                opaque_root: false,
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
    let store = Store::open(root.join("store"), &Options::default()).unwrap();
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

    let table = [
        (Call::Prepare("x", "missing"), Code::NotFound),
        (Call::Prepare("x", "a"), Code::InvalidArgument),
        (Call::Prepare("a", ""), Code::AlreadyExists),
        (Call::View("a", ""), Code::AlreadyExists),
        (Call::View("x", "missing"), Code::NotFound),
        (Call::View("v", "base"), Code::Ok),
        (Call::Mounts("missing"), Code::NotFound),
        (Call::Mounts("base"), Code::FailedPrecondition),
        (Call::Mounts("v"), Code::Ok),
        (Call::Remove("base"), Code::FailedPrecondition),
        (Call::Remove("missing"), Code::NotFound),
        (Call::Stat("missing"), Code::NotFound),
        (Call::Usage("missing"), Code::NotFound),
        (Call::Usage("base"), Code::Ok),
        (Call::Update("missing", "labels"), Code::NotFound),
        (Call::Update("base", "parent"), Code::InvalidArgument),
        (Call::Update("base", "labels"), Code::Ok),
        (Call::List("name="), Code::InvalidArgument),
        (Call::Cleanup, Code::Ok),
    ];
    for (call, expected) in table {
        assert_eq!(call.code(&mut client).await, expected, "{call:?}");
    }
    let without_info = client
        .update(UpdateSnapshotRequest::default())
        .await
        .unwrap_err();
    assert_eq!(without_info.code(), Code::InvalidArgument);
    let commits = [
        ("base", "a", "", Code::AlreadyExists),
        ("new", "missing", "", Code::NotFound),
        ("new", "base", "", Code::FailedPrecondition),
        ("new", "child", "other", Code::InvalidArgument),
    ];
    for (name, key, parent, expected) in commits {
        assert_eq!(
            commit(&mut client, name, key, parent).await,
            Err(expected),
            "{name} {key}"
        );
    }
    served.stop().await;
}
