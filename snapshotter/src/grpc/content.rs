//! A client of containerd's content store: manifests and configurations that containerd has already fetched.
//!
//! It only reads, verifies what it reads, and connects when first used and again after containerd was restarted.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::MESSAGE_BYTES_MAX;
use super::channel::{NAMESPACE_HEADER, lazy_channel};
use super::proto::containerd::services::content::v1::content_client::ContentClient as Client;
use super::proto::containerd::services::content::v1::{ReadContentRequest, ReadContentResponse};
use crate::digest::Digest;

/// A client of the content store behind a containerd socket; clones share the connection.
#[derive(Debug, Clone)]
pub struct ContentClient {
    client: Client<Channel>,
    socket: PathBuf,
}

/// Why a blob could not be read from containerd's content store.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// containerd does not have the blob in this namespace.
    #[error("containerd's content store has no {digest} in namespace {namespace:?}")]
    NotFound {
        /// What was asked for.
        digest: Digest,
        /// In which namespace.
        namespace: String,
    },
    /// The blob is larger than allowed.
    #[error("{digest} in containerd's content store is larger than {bytes_max} bytes")]
    TooLarge {
        /// What was asked for.
        digest: Digest,
        /// What was allowed.
        bytes_max: u64,
    },
    /// The bytes are not those of the digest.
    #[error("containerd's content store answered {found} for {digest}")]
    Mismatch {
        /// What was asked for.
        digest: Digest,
        /// What came.
        found: Digest,
    },
    /// The namespace cannot be sent as a header.
    #[error("{0:?} is not a containerd namespace")]
    Namespace(String),
    /// The call failed.
    #[error("call to containerd at {} failed with {:?}: {}", socket.display(), status.code(), status.message())]
    Call {
        /// Where containerd listens.
        socket: PathBuf,
        /// What the call ended with.
        status: Box<Status>,
    },
}

impl ContentClient {
    /// Prepares a client of the containerd at `socket`; nothing is connected before the first call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        let channel = lazy_channel(&socket);
        Self {
            client: Client::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
            socket,
        }
    }

    /// Where containerd listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads the whole blob, of at most `bytes_max` bytes, and verifies it.
    ///
    /// # Errors
    /// [`ContentError`]; a call that failed may be tried again.
    pub async fn read_blob(
        &self,
        namespace: &str,
        digest: &Digest,
        bytes_max: u64,
    ) -> Result<Bytes, ContentError> {
        let mut request = Request::new(ReadContentRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        });
        let header = AsciiMetadataValue::try_from(namespace)
            .map_err(|_| ContentError::Namespace(namespace.to_owned()))?;
        request.metadata_mut().insert(NAMESPACE_HEADER, header);
        let failed = |status| self.failed(status, namespace, digest);

        let mut messages = self
            .client
            .clone()
            .read(request)
            .await
            .map_err(failed)?
            .into_inner();
        let mut blob = Vec::new();
        while let Some(ReadContentResponse { data, .. }) =
            messages.message().await.map_err(failed)?
        {
            let bytes = (blob.len() as u64).saturating_add(data.len() as u64);
            if bytes > bytes_max {
                return Err(ContentError::TooLarge {
                    digest: *digest,
                    bytes_max,
                });
            }
            blob.extend_from_slice(&data);
        }
        match Digest::of(&blob) {
            found if found == *digest => Ok(blob.into()),
            found => Err(ContentError::Mismatch {
                digest: *digest,
                found,
            }),
        }
    }

    fn failed(&self, status: Status, namespace: &str, digest: &Digest) -> ContentError {
        if status.code() == Code::NotFound {
            return ContentError::NotFound {
                digest: *digest,
                namespace: namespace.to_owned(),
            };
        }
        ContentError::Call {
            socket: self.socket.clone(),
            status: Box::new(status),
        }
    }
}
