//! The service `containerd.services.snapshots.v1.Snapshots`: ten calls, each a store operation, and one door to remote layers.
//!
//! Every store operation runs off the async threads, so no disk makes a call wait for another's. What a client asks for without the labels
//! of a pull is answered exactly as containerd's overlayfs snapshotter answers it.

use std::collections::HashMap;
use std::sync::Arc;

use prost_types::Timestamp;
use tonic::{Request, Response, Status, async_trait};

use super::MESSAGE_BYTES_MAX;
use super::errors::RemoteError;
use super::filters::Filters;
use super::labels::{RemoteRequest, namespace_of};
use super::proto::containerd::services::snapshots::v1::snapshots_server::{
    Snapshots, SnapshotsServer,
};
use super::proto::containerd::services::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, Info as InfoMessage, Kind as KindMessage,
    ListSnapshotsRequest, ListSnapshotsResponse, MountsRequest, MountsResponse,
    PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest, StatSnapshotRequest,
    StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest,
    UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use super::proto::containerd::types::Mount as MountMessage;
use crate::store::{Field, Info, Kind, Labels, Mount, Store, StoreError};

/// What can bring a layer by itself instead of letting containerd fetch and apply it.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    /// Brings the layer of `request` as a committed snapshot into the store.
    ///
    /// The future is dropped when the caller goes away; the work behind it must go on elsewhere, so that the next attempt finds it.
    ///
    /// # Errors
    /// A [`RemoteError`] fails the pull; whatever containerd could do itself is a fallback instead.
    async fn prepare_remote(&self, request: RemotePrepare) -> Result<RemoteOutcome, RemoteError>;
}

/// A `Prepare` that carries the labels of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePrepare {
    /// The containerd namespace of the pull.
    pub namespace: String,
    /// The key that the active snapshot would have had.
    pub key: String,
    /// The backend name of the committed snapshot below; none at the bottom.
    pub parent: Option<String>,
    /// All labels as they came.
    pub labels: Labels,
    /// What the labels say.
    pub request: RemoteRequest,
}

/// How a remote `Prepare` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteOutcome {
    /// The store has the committed snapshot: containerd is told that it already exists.
    Committed,
    /// containerd is to fetch and apply the layer itself.
    Fallback,
    /// As [`Self::Fallback`], and the layer has no parent although it is not the bottom one: containerd gets an overlay to apply it in.
    FallbackRebased,
}

/// Leaves every layer to containerd.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRemote;

#[async_trait]
impl Remote for NoRemote {
    async fn prepare_remote(&self, _request: RemotePrepare) -> Result<RemoteOutcome, RemoteError> {
        Ok(RemoteOutcome::Fallback)
    }
}

/// The snapshots service over a store.
#[derive(Debug)]
pub struct SnapshotsService<R> {
    store: Store,
    remote: Arc<R>,
}

impl<R: Remote> SnapshotsService<R> {
    /// Serves `store`, asking `remote` first where a call carries the labels of a pull.
    pub fn new(store: Store, remote: Arc<R>) -> Self {
        Self { store, remote }
    }

    /// The service with containerd's message limits, ready for a router.
    pub fn into_server(self) -> SnapshotsServer<Self> {
        SnapshotsServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Runs a store operation on a thread that may block; it completes even if the caller goes away.
    async fn with_store<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || operation(&store)).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Status::internal(format!(
                "snapshot operation panicked: {error}"
            ))),
        }
    }

    /// Asks the remote about a `Prepare` with the labels of a pull.
    async fn prepare_remote(&self, prepare: RemotePrepare) -> Result<RemoteOutcome, Status> {
        if prepare
            .request
            .is_rebased(prepare.parent.as_deref().unwrap_or_default())
        {
            tracing::warn!(
                image = prepare.request.image_ref,
                key = prepare.key,
                "containerd unpacks layers without their parents: remove \"rebase\" from the capabilities of this snapshotter in containerd's \
                 configuration; until then containerd fetches the layers itself"
            );
            return Ok(RemoteOutcome::FallbackRebased);
        }
        if self.is_committed(&prepare).await? {
            return Ok(RemoteOutcome::Committed);
        }
        let outcome = self.remote.prepare_remote(prepare.clone()).await?;
        if outcome == RemoteOutcome::Committed && !self.is_committed(&prepare).await? {
            let reference = prepare.request.snapshot_ref;
            return Err(Status::internal(format!(
                "snapshot {reference} was reported as committed but is not"
            )));
        }
        Ok(outcome)
    }

    /// Whether containerd would find what it looks for after being told that the snapshot exists.
    async fn is_committed(&self, prepare: &RemotePrepare) -> Result<bool, Status> {
        let (reference, parent) = (prepare.request.snapshot_ref, prepare.parent.clone());
        let found = self
            .with_store(move |store| store.find_committed(&reference, parent.as_deref()))
            .await?;
        Ok(found.is_some())
    }
}

#[async_trait]
impl<R: Remote> Snapshots for SnapshotsService<R> {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let header_namespace = namespace_header(&request);
        let PrepareSnapshotRequest {
            key,
            parent,
            labels,
            ..
        } = request.into_inner();
        let labels = from_labels(labels);
        let outcome = match remote_prepare(&key, &parent, &labels, header_namespace) {
            Some(prepare) => self.prepare_remote(prepare).await?,
            None => RemoteOutcome::Fallback,
        };
        let mounts = match outcome {
            RemoteOutcome::Committed => {
                let target = labels
                    .get(crate::store::REFERENCE_LABEL)
                    .cloned()
                    .unwrap_or_default();
                return Err(Status::already_exists(format!(
                    "target snapshot {target:?}: already exists"
                )));
            }
            RemoteOutcome::Fallback => {
                self.with_store(move |store| store.prepare(&key, &parent, labels))
                    .await?
            }
            RemoteOutcome::FallbackRebased => {
                self.with_store(move |store| store.prepare_with_upper(&key, &parent, labels))
                    .await?
            }
        };
        Ok(Response::new(PrepareSnapshotResponse {
            mounts: to_mounts(mounts),
        }))
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        let ViewSnapshotRequest {
            key,
            parent,
            labels,
            ..
        } = request.into_inner();
        let labels = from_labels(labels);
        let mounts = self
            .with_store(move |store| store.view(&key, &parent, labels))
            .await?;
        Ok(Response::new(ViewSnapshotResponse {
            mounts: to_mounts(mounts),
        }))
    }

    async fn mounts(
        &self,
        request: Request<MountsRequest>,
    ) -> Result<Response<MountsResponse>, Status> {
        let key = request.into_inner().key;
        let mounts = self.with_store(move |store| store.mounts(&key)).await?;
        Ok(Response::new(MountsResponse {
            mounts: to_mounts(mounts),
        }))
    }

    async fn commit(
        &self,
        request: Request<CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let CommitSnapshotRequest {
            name,
            key,
            labels,
            parent,
            ..
        } = request.into_inner();
        let labels = from_labels(labels);
        self.with_store(move |store| {
            let parent = Some(parent.as_str()).filter(|parent| !parent.is_empty());
            store.commit(&name, &key, labels, parent)
        })
        .await?;
        Ok(Response::new(()))
    }

    async fn remove(
        &self,
        request: Request<RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        self.with_store(move |store| store.remove(&key)).await?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        let info = self.with_store(move |store| store.stat(&key)).await?;
        Ok(Response::new(StatSnapshotResponse {
            info: Some(to_info(info)),
        }))
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let UpdateSnapshotRequest {
            info, update_mask, ..
        } = request.into_inner();
        let InfoMessage { name, labels, .. } =
            info.ok_or_else(|| Status::invalid_argument("update without info: invalid argument"))?;
        let labels = from_labels(labels);
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        let fields: Vec<Field> = paths.iter().map(|path| Field::from_path(path)).collect();
        let info = self
            .with_store(move |store| store.update(&name, &labels, &fields))
            .await?;
        Ok(Response::new(UpdateSnapshotResponse {
            info: Some(to_info(info)),
        }))
    }

    type ListStream = tokio_stream::Iter<std::vec::IntoIter<Result<ListSnapshotsResponse, Status>>>;

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = Filters::parse(&request.into_inner().filters)?;
        let found = self
            .with_store(move |store| {
                let mut found = Vec::new();
                store.walk(|info| {
                    if filters.matches(&|path| field_of(&info, path)) {
                        found.push(to_info(info));
                    }
                    Ok(())
                })?;
                Ok(found)
            })
            .await?;
        let blocks: Vec<_> = found
            .chunks(LIST_BLOCK)
            .map(|block| {
                Ok(ListSnapshotsResponse {
                    info: block.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(tokio_stream::iter(blocks)))
    }

    async fn usage(
        &self,
        request: Request<UsageRequest>,
    ) -> Result<Response<UsageResponse>, Status> {
        let key = request.into_inner().key;
        let usage = self.with_store(move |store| store.usage(&key)).await?;
        Ok(Response::new(UsageResponse {
            size: i64::try_from(usage.bytes).unwrap_or(i64::MAX),
            inodes: i64::try_from(usage.inodes).unwrap_or(i64::MAX),
        }))
    }

    async fn cleanup(&self, _request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        self.store.cleanup();
        Ok(Response::new(()))
    }
}

/// The remote side of a `Prepare`, if its labels are those of a pull; labels that cannot be read leave the layer to containerd.
fn remote_prepare(
    key: &str,
    parent: &str,
    labels: &Labels,
    header_namespace: Option<String>,
) -> Option<RemotePrepare> {
    let request = match RemoteRequest::parse(labels) {
        Ok(request) => request?,
        Err(error) => {
            tracing::warn!(key, %error, "leaving a layer to containerd because its labels cannot be read");
            return None;
        }
    };
    let namespace = namespace_of(key).map(str::to_owned).or(header_namespace);
    Some(RemotePrepare {
        namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        key: key.to_owned(),
        parent: Some(parent.to_owned()).filter(|parent| !parent.is_empty()),
        labels: labels.clone(),
        request,
    })
}

/// The namespace header, which only some of containerd's clients send.
fn namespace_header<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("containerd-namespace")?;
    value.to_str().ok().map(str::to_owned)
}

/// The value of a filter's field path, as containerd's `adaptSnapshot` resolves it.
fn field_of(info: &Info, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "kind" => Some(info.kind.name().to_owned()),
        "name" => Some(info.name.clone()),
        "parent" => Some(info.parent.clone()),
        "labels" => info.labels.get(&rest.join(".")).cloned(),
        _ => None,
    }
}

fn from_labels(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

fn to_mounts(mounts: Vec<Mount>) -> Vec<MountMessage> {
    let message = |mount: Mount| MountMessage {
        r#type: mount.kind.to_owned(),
        source: mount.source,
        options: mount.options,
        ..MountMessage::default()
    };
    mounts.into_iter().map(message).collect()
}

fn to_info(info: Info) -> InfoMessage {
    let kind = match info.kind {
        Kind::View => KindMessage::View,
        Kind::Active => KindMessage::Active,
        Kind::Committed => KindMessage::Committed,
    };
    InfoMessage {
        name: info.name,
        parent: info.parent,
        kind: kind.into(),
        created_at: Some(to_timestamp(info.created_ns)),
        updated_at: Some(to_timestamp(info.updated_ns)),
        labels: info.labels.into_iter().collect(),
    }
}

fn to_timestamp(ns: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(ns / NS_PER_S).unwrap_or(i64::MAX),
        nanos: i32::try_from(ns % NS_PER_S).unwrap_or_default(),
    }
}

/// As containerd's own service sends them.
const LIST_BLOCK: usize = 100;
const NS_PER_S: u64 = 1_000_000_000;
/// containerd's name for the namespace of clients that choose none.
const DEFAULT_NAMESPACE: &str = "default";
