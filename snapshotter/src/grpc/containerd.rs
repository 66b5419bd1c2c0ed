//! A client of containerd's services as a pull needs them: leases, content, snapshots and images of one namespace.
//!
//! Each method is one step of a pull; what order they come in is the caller's. Only metadata is written: layers go by way of
//! the snapshotter.

use std::error::Error as _;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost_types::FieldMask;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::MESSAGE_BYTES_MAX;
use super::channel::{NAMESPACE_HEADER, lazy_channel};
use super::proto::containerd::services::content::v1::content_client::ContentClient;
use super::proto::containerd::services::content::v1::{
    AbortRequest, Info, InfoRequest, UpdateRequest, WriteAction, WriteContentRequest,
};
use super::proto::containerd::services::images::v1::images_client::ImagesClient;
use super::proto::containerd::services::images::v1::{
    CreateImageRequest, Image, UpdateImageRequest,
};
use super::proto::containerd::services::leases::v1::leases_client::LeasesClient;
use super::proto::containerd::services::leases::v1::{CreateRequest, DeleteRequest, ListRequest};
use super::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use super::proto::containerd::services::snapshots::v1::{
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use super::proto::containerd::types::Descriptor;
use crate::digest::Digest;
use crate::driver::with_sources;
use crate::store::Labels;

/// A client of one namespace of the containerd behind a socket; clones share the connection.
#[derive(Debug, Clone)]
pub struct Containerd {
    channel: Channel,
    socket: PathBuf,
    namespace: AsciiMetadataValue,
    lease: Option<AsciiMetadataValue>,
}

/// A lease: what it holds is not collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: String,
    /// Its labels.
    pub labels: Labels,
}

/// A document for the content store.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// All of it, at most [`MESSAGE_BYTES_MAX`].
    pub bytes: Bytes,
    /// Labels it must have, beside those it has.
    pub labels: Labels,
}

/// What an image's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTarget {
    /// The media type of the index or manifest.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

/// How a `Prepare` with `containerd.io/snapshot.ref` was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// The snapshot of that reference exists and is committed.
    Exists,
    /// The key is an active snapshot, for the client to fill.
    Mounted,
}

/// Why a call to containerd failed; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The namespace or lease cannot be sent as a header.
    #[error("name {0:?} to containerd: it is not printable ASCII")]
    Name(String),
    /// The call failed.
    #[error("{call} at containerd {}: {}", socket.display(), said(status))]
    Call {
        /// What was tried, with its object.
        call: String,
        /// Where containerd listens.
        socket: PathBuf,
        /// What the call ended with.
        status: Box<Status>,
    },
}

impl ContainerdError {
    /// The gRPC code of the answer, where there was one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Name(_) => None,
            Self::Call { status, .. } => Some(status.code()),
        }
    }

    /// Its kind, as `--json` names it; what containerd 1.6 passes on as "unknown" is `containerd`.
    pub fn kind(&self) -> &'static str {
        match self.code() {
            Some(Code::NotFound) => "not_found",
            Some(Code::Unauthenticated | Code::PermissionDenied) => "auth",
            Some(Code::DataLoss) => "corrupt",
            Some(Code::ResourceExhausted) => "disk",
            Some(Code::Cancelled | Code::DeadlineExceeded) => "cancelled",
            None => "config",
            Some(_) => "containerd",
        }
    }

    /// Whether containerd, or who it asked, cannot be had at the moment.
    pub fn is_unavailable(&self) -> bool {
        self.code() == Some(Code::Unavailable)
    }

    /// What containerd, or who it asked, said; without the call.
    pub fn message(&self) -> String {
        match self {
            Self::Name(_) => self.to_string(),
            Self::Call { status, .. } => said(status),
        }
    }
}

impl Containerd {
    /// A client of `namespace`; nothing is connected before the first call.
    ///
    /// # Errors
    /// If the namespace cannot stand in a header.
    pub fn new(socket: &Path, namespace: &str) -> Result<Self, ContainerdError> {
        Ok(Self {
            channel: lazy_channel(socket),
            socket: socket.to_path_buf(),
            namespace: header(namespace)?,
            lease: None,
        })
    }

    /// The same client, for whose calls a lease holds everything they make or find.
    ///
    /// # Errors
    /// If the lease's name cannot stand in a header.
    pub fn with_lease(&self, lease: &str) -> Result<Self, ContainerdError> {
        Ok(Self {
            lease: Some(header(lease)?),
            ..self.clone()
        })
    }

    /// Makes a lease; `containerd.io/gc.expire` among its labels bounds its life.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn create_lease(&self, lease: &Lease) -> Result<(), ContainerdError> {
        let request = self.request(CreateRequest {
            id: lease.id.clone(),
            labels: lease.labels.clone().into_iter().collect(),
        });
        let answer = LeasesClient::new(self.channel.clone())
            .create(request)
            .await;
        self.told(answer, "create lease", &lease.id).map(drop)
    }

    /// Ends a lease and waits until what only it held is collected; one that is not there is no error.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn delete_lease(&self, id: &str, sync: bool) -> Result<(), ContainerdError> {
        let request = self.request(DeleteRequest {
            id: id.to_owned(),
            sync,
        });
        let answer = LeasesClient::new(self.channel.clone())
            .delete(request)
            .await;
        unless_absent(self.told(answer, "delete lease", id)).map(drop)
    }

    /// The leases that have this label.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn leases_with(&self, label: &str) -> Result<Vec<Lease>, ContainerdError> {
        let request = self.request(ListRequest {
            filters: vec![format!("labels.{label:?}")],
        });
        let answer = LeasesClient::new(self.channel.clone()).list(request).await;
        let leases = self.told(answer, "list leases with", label)?.leases;
        let lease = |lease: super::proto::containerd::services::leases::v1::Lease| Lease {
            id: lease.id,
            labels: lease.labels.into_iter().collect(),
        };
        Ok(leases.into_iter().map(lease).collect())
    }

    /// Puts a document into the content store, or labels the one that is there.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn put_blob(&self, blob: &Blob) -> Result<(), ContainerdError> {
        match self.write_blob(blob).await {
            Err(error) if error.code() == Some(Code::AlreadyExists) => {
                self.label_blob(&blob.digest, &blob.labels).await
            }
            outcome => outcome,
        }
    }

    /// Adds labels to a blob in the content store.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn label_blob(
        &self,
        digest: &Digest,
        labels: &Labels,
    ) -> Result<(), ContainerdError> {
        let request = self.request(UpdateRequest {
            info: Some(Info {
                digest: digest.to_string(),
                labels: labels.clone().into_iter().collect(),
                ..Info::default()
            }),
            update_mask: Some(FieldMask {
                paths: labels.keys().map(|key| format!("labels.{key}")).collect(),
            }),
        });
        let answer = self.content().update(request).await;
        self.told(answer, "label", digest).map(drop)
    }

    /// The labels of a blob in the content store; none when it is not there.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn blob_labels(&self, digest: &Digest) -> Result<Option<Labels>, ContainerdError> {
        let request = self.request(InfoRequest {
            digest: digest.to_string(),
        });
        let answer = self.content().info(request).await;
        let found = unless_absent(self.told(answer, "look up", digest))?;
        let labels = |info: Info| info.labels.into_iter().collect();
        Ok(found.map(|answer| answer.info.map(labels).unwrap_or_default()))
    }

    /// Asks a snapshotter for an active snapshot, with the labels of a pull.
    ///
    /// # Errors
    /// [`ContainerdError::Call`] with the snapshotter's own message.
    pub async fn prepare(
        &self,
        snapshotter: &str,
        key: &str,
        parent: &str,
        labels: &Labels,
    ) -> Result<Prepared, ContainerdError> {
        let request = self.request(PrepareSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.clone().into_iter().collect(),
        });
        let answer = self.snapshots().prepare(request).await;
        match self.told(answer, "prepare", key) {
            Ok(_) => Ok(Prepared::Mounted),
            Err(error) if error.code() == Some(Code::AlreadyExists) => Ok(Prepared::Exists),
            Err(error) => Err(error),
        }
    }

    /// Whether a snapshotter has a snapshot.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn has_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<bool, ContainerdError> {
        let request = self.request(StatSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
        });
        let answer = self.snapshots().stat(request).await;
        let found = unless_absent(self.told(answer, "stat snapshot", key))?;
        Ok(found.is_some())
    }

    /// Removes a snapshot; one that is not there is no error.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn remove_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<(), ContainerdError> {
        let request = self.request(RemoveSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
        });
        let answer = self.snapshots().remove(request).await;
        unless_absent(self.told(answer, "remove snapshot", key)).map(drop)
    }

    /// Lets a name stand for an image from here on; labels that the record has stay.
    ///
    /// # Errors
    /// [`ContainerdError::Call`].
    pub async fn put_image(&self, name: &str, target: &ImageTarget) -> Result<(), ContainerdError> {
        let image = Image {
            name: name.to_owned(),
            target: Some(Descriptor {
                media_type: target.media_type.clone(),
                digest: target.digest.to_string(),
                size: i64::try_from(target.bytes).unwrap_or(i64::MAX),
                ..Descriptor::default()
            }),
            ..Image::default()
        };
        let mut client = ImagesClient::new(self.channel.clone());
        // Whoever removes it between the two calls removes an older image, not this one.
        loop {
            let request = self.request(CreateImageRequest {
                image: Some(image.clone()),
                ..CreateImageRequest::default()
            });
            let answer = client.create(request).await;
            match self.told(answer, "create image", name) {
                Err(error) if error.code() == Some(Code::AlreadyExists) => {}
                outcome => return outcome.map(drop),
            }
            let request = self.request(UpdateImageRequest {
                image: Some(image.clone()),
                update_mask: Some(FieldMask {
                    paths: vec!["target".to_owned()],
                }),
                ..UpdateImageRequest::default()
            });
            let answer = client.update(request).await;
            if unless_absent(self.told(answer, "update image", name))?.is_some() {
                return Ok(());
            }
        }
    }

    async fn write_blob(&self, blob: &Blob) -> Result<(), ContainerdError> {
        let total = i64::try_from(blob.bytes.len()).unwrap_or(i64::MAX);
        // A name of its own: nobody else's write of the same blob is in the way, or resumed.
        let lease = self.lease.as_ref().and_then(|lease| lease.to_str().ok());
        let reference = format!("{}-{}", lease.unwrap_or("parapull"), blob.digest);
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: reference.clone(),
            total,
            expected: blob.digest.to_string(),
            offset: 0,
            data: blob.bytes.to_vec(),
            labels: blob.labels.clone().into_iter().collect(),
        };
        let messages = self.request(tokio_stream::iter([commit]));
        let answer = match self.content().write(messages).await {
            Ok(stream) => last_message(stream.into_inner()).await,
            Err(status) => Err(status),
        };
        let written = self.told(answer.map(Response::new), "write", blob.digest);
        if written
            .as_ref()
            .is_err_and(|error| error.code() != Some(Code::AlreadyExists))
        {
            let abort = self.request(AbortRequest { r#ref: reference });
            let _ = self.content().abort(abort).await;
        }
        written
    }

    fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(NAMESPACE_HEADER, self.namespace.clone());
        if let Some(lease) = &self.lease {
            headers.insert(LEASE_HEADER, lease.clone());
        }
        request
    }

    fn told<T>(
        &self,
        answer: Result<Response<T>, Status>,
        call: &str,
        object: impl Display,
    ) -> Result<T, ContainerdError> {
        answer
            .map(Response::into_inner)
            .map_err(|status| ContainerdError::Call {
                call: format!("{call} {object}"),
                socket: self.socket.clone(),
                status: Box::new(status),
            })
    }
}

/// What a call ended with, in words; where it did not get through, why.
fn said(status: &Status) -> String {
    match status.source() {
        Some(source) => with_sources(source),
        None => status.message().to_owned(),
    }
}

/// Reads answers to the end; what matters is how it ends.
async fn last_message<T>(mut stream: tonic::Streaming<T>) -> Result<(), Status> {
    while stream.message().await?.is_some() {}
    Ok(())
}

fn unless_absent<T>(outcome: Result<T, ContainerdError>) -> Result<Option<T>, ContainerdError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn header(name: &str) -> Result<AsciiMetadataValue, ContainerdError> {
    AsciiMetadataValue::try_from(name).map_err(|_| ContainerdError::Name(name.to_owned()))
}

/// Which lease a call is under.
const LEASE_HEADER: &str = "containerd-lease";
