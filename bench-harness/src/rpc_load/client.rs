//! The snapshots service as containerd's metadata layer calls it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    CommitSnapshotRequest, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, UsageRequest,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use super::RpcLoadError;

/// A client on one connection, as containerd has one.
#[derive(Debug, Clone)]
pub(super) struct Client {
    snapshots: SnapshotsClient<Channel>,
}

impl Client {
    /// Connects at the first call.
    pub(super) fn new(socket: &Path) -> Self {
        let path: PathBuf = socket.into();
        // The authority is never resolved: every connection is the socket's.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        Self {
            snapshots: SnapshotsClient::new(channel),
        }
    }

    /// Prepares and commits so many snapshots, in chains; their names.
    pub(super) async fn fill(&self, count: usize) -> Result<Vec<String>, RpcLoadError> {
        let mut names: Vec<String> = Vec::with_capacity(count);
        for number in 0..count {
            let below = (number % CHAIN_LENGTH != 0).then(|| names.last()).flatten();
            let parent = below.cloned().unwrap_or_default();
            let (key, name) = (
                format!("k8s.io/{number}/fill"),
                format!("k8s.io/{number}/filled"),
            );
            self.prepare(&key, &parent, HashMap::new()).await?;
            self.commit(&name, &key).await?;
            names.push(name);
        }
        Ok(names)
    }

    /// Whether the snapshot exists already, as a remote `Prepare` is answered; else there are mounts.
    pub(super) async fn prepare(
        &self,
        key: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<bool, RpcLoadError> {
        let request = PrepareSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels,
            ..PrepareSnapshotRequest::default()
        };
        match self.snapshots.clone().prepare(request).await {
            Ok(_) => Ok(false),
            Err(status) if status.code() == Code::AlreadyExists => Ok(true),
            Err(status) => Err(failed("prepare", key)(status)),
        }
    }

    pub(super) async fn commit(&self, name: &str, key: &str) -> Result<(), RpcLoadError> {
        let request = CommitSnapshotRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            ..CommitSnapshotRequest::default()
        };
        let answer = self.snapshots.clone().commit(request).await;
        answer.map(drop).map_err(failed("commit", key))
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), RpcLoadError> {
        let request = RemoveSnapshotRequest {
            key: key.to_owned(),
            ..RemoveSnapshotRequest::default()
        };
        let answer = self.snapshots.clone().remove(request).await;
        answer.map(drop).map_err(failed("remove", key))
    }

    pub(super) async fn stat(&self, key: &str) -> Result<(), RpcLoadError> {
        let request = StatSnapshotRequest {
            key: key.to_owned(),
            ..StatSnapshotRequest::default()
        };
        let answer = self.snapshots.clone().stat(request).await;
        answer.map(drop).map_err(failed("stat", key))
    }

    pub(super) async fn usage(&self, key: &str) -> Result<(), RpcLoadError> {
        let request = UsageRequest {
            key: key.to_owned(),
            ..UsageRequest::default()
        };
        let answer = self.snapshots.clone().usage(request).await;
        answer.map(drop).map_err(failed("usage", key))
    }

    /// The names of what matches.
    pub(super) async fn list(&self, filter: &str) -> Result<Vec<String>, RpcLoadError> {
        let request = ListSnapshotsRequest {
            filters: [filter]
                .into_iter()
                .filter(|filter| !filter.is_empty())
                .map(str::to_owned)
                .collect(),
            ..ListSnapshotsRequest::default()
        };
        let mut names = Vec::new();
        let answer = self.snapshots.clone().list(request).await;
        let mut blocks = answer.map_err(failed("list", filter))?.into_inner();
        while let Some(block) = blocks.message().await.map_err(failed("list", filter))? {
            names.extend(block.info.into_iter().map(|info| info.name));
        }
        Ok(names)
    }
}

fn failed(call: &'static str, object: &str) -> impl Fn(Status) -> RpcLoadError {
    move |status| RpcLoadError::Call {
        call,
        object: object.to_owned(),
        status: Box::new(status),
    }
}

/// Layers of an ordinary image.
const CHAIN_LENGTH: usize = 20;
