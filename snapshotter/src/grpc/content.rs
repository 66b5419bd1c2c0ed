//! A client of containerd's content store: manifests, configurations and layers that containerd has already fetched.
//!
//! It only reads, verifies documents (layers are verified by whoever unpacks them), and connects when first used and again after containerd was restarted.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::MESSAGE_BYTES_MAX;
use super::channel::{NAMESPACE_HEADER, lazy_channel};
use super::proto::containerd::services::content::v1::content_client::ContentClient as Client;
use super::proto::containerd::services::content::v1::{
    InfoRequest, ReadContentRequest, ReadContentResponse,
};
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
    /// The blob ended before the bytes asked for.
    #[error("{digest} in containerd's content store lacks its last {missing} bytes")]
    Short {
        /// What was asked for.
        digest: Digest,
        /// Bytes that did not come.
        missing: u64,
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
        let failed = |status| self.failed(status, namespace, digest);
        let mut messages = self.read(namespace, digest, 0..0).await?;
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

    /// The size of a blob that containerd has whole in this namespace, in bytes; none when it does not.
    ///
    /// # Errors
    /// [`ContentError`]; a call that failed may be tried again.
    pub async fn size_of(
        &self,
        namespace: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, ContentError> {
        let request = InfoRequest {
            digest: digest.to_string(),
        };
        let request = in_namespace(namespace, request)?;
        match self.client.clone().info(request).await {
            Ok(answer) => {
                let info = answer.into_inner().info;
                Ok(info.and_then(|info| u64::try_from(info.size).ok()))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(status, namespace, digest)),
        }
    }

    /// Begins to read bytes of a blob, which nobody has verified.
    ///
    /// # Errors
    /// [`ContentError`].
    pub async fn open_blob(
        &self,
        namespace: &str,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<ContentBody, ContentError> {
        let left = range.end.saturating_sub(range.start);
        Ok(ContentBody {
            messages: self.read(namespace, digest, range).await?,
            left,
            client: self.clone(),
            namespace: namespace.to_owned(),
            digest: *digest,
        })
    }

    /// Reads a range; an empty one is the whole blob.
    async fn read(
        &self,
        namespace: &str,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Streaming<ReadContentResponse>, ContentError> {
        let size = range.end.saturating_sub(range.start);
        let request = ReadContentRequest {
            digest: digest.to_string(),
            offset: i64::try_from(range.start).unwrap_or(i64::MAX),
            size: i64::try_from(size).unwrap_or(i64::MAX),
        };
        let request = in_namespace(namespace, request)?;
        let answer = self.client.clone().read(request).await;
        let answer = answer.map_err(|status| self.failed(status, namespace, digest))?;
        Ok(answer.into_inner())
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

/// Bytes of a blob on their way from containerd; a reader that does not ask for more stops the stream.
#[derive(Debug)]
pub struct ContentBody {
    messages: Streaming<ReadContentResponse>,
    left: u64,
    client: ContentClient,
    namespace: String,
    digest: Digest,
}

impl ContentBody {
    /// The next piece, `None` once exactly the bytes asked for have come.
    ///
    /// # Errors
    /// The call failed, or the blob is shorter than it was said to be.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        while self.left > 0 {
            let message = self.messages.message().await;
            let message = message
                .map_err(|status| self.client.failed(status, &self.namespace, &self.digest))?;
            let Some(message) = message else {
                return Err(ContentError::Short {
                    digest: self.digest,
                    missing: self.left,
                });
            };
            let mut piece = Bytes::from(message.data);
            piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= piece.len() as u64;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

fn in_namespace<T>(namespace: &str, message: T) -> Result<Request<T>, ContentError> {
    let header = AsciiMetadataValue::try_from(namespace)
        .map_err(|_| ContentError::Namespace(namespace.to_owned()))?;
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_HEADER, header);
    Ok(request)
}
