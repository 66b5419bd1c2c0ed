//! Blobs that lie on this node already, in containerd's content store: read from there like from a registry, verified like any.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use parapull_engine::FetchError;

use super::failure::{Cause, with_sources};
use crate::digest::Digest;
use crate::grpc::{ContentBody, ContentClient, ContentError};
use crate::image::Image;
use crate::registry::Body;

/// The blobs that one namespace of a containerd has of an image.
#[derive(Clone, Debug)]
pub struct LocalBlobs {
    content: ContentClient,
    namespace: String,
    digests: BTreeSet<Digest>,
}

impl LocalBlobs {
    /// Asks containerd which layers of an image from `first` upward it has, at the size the manifest says. What it does not
    /// tell in time it does not have.
    pub async fn look_up(
        content: &ContentClient,
        namespace: &str,
        image: &Image,
        first: usize,
    ) -> Self {
        let mut asked = tokio::task::JoinSet::new();
        for layer in &image.layers[first..] {
            let (content, namespace) = (content.clone(), namespace.to_owned());
            let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
            asked.spawn(async move {
                let found = content.size_of(&namespace, &digest).await;
                let found =
                    found.inspect_err(|error| tracing::debug!(%error, "a layer is fetched"));
                matches!(found, Ok(Some(found)) if found == size).then_some(digest)
            });
        }
        let mut digests = BTreeSet::new();
        let all = async {
            while let Some(found) = asked.join_next().await {
                digests.extend(found.ok().flatten());
            }
        };
        if tokio::time::timeout(LOOK_UP_TIMEOUT, all).await.is_err() {
            tracing::warn!("containerd does not tell which layers it has; they are fetched");
        }
        Self {
            content: content.clone(),
            namespace: namespace.to_owned(),
            digests,
        }
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    pub(super) async fn open(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BlobBody, ReadError> {
        let body = self
            .content
            .open_blob(&self.namespace, digest, range)
            .await?;
        Ok(BlobBody::Local(Box::new(body)))
    }
}

/// The bytes of a blob on their way from wherever it is.
pub(super) enum BlobBody {
    Registry(Body),
    Local(Box<ContentBody>),
}

/// Why they did not come.
pub(super) enum ReadError {
    Registry(crate::registry::FetchError),
    Local(ContentError),
}

impl BlobBody {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        match self {
            Self::Registry(body) => Ok(body.next().await?),
            Self::Local(body) => Ok(body.next().await?),
        }
    }
}

impl From<crate::registry::FetchError> for ReadError {
    fn from(error: crate::registry::FetchError) -> Self {
        Self::Registry(error)
    }
}

impl From<ContentError> for ReadError {
    fn from(error: ContentError) -> Self {
        Self::Local(error)
    }
}

/// The engine's name for bytes that containerd does not give.
pub(super) fn content_error(error: &ContentError) -> (FetchError, Cause) {
    let class = match error {
        ContentError::NotFound { .. } => FetchError::NotFound,
        _ => FetchError::Connection,
    };
    (class, Cause::of_disk(with_sources(error)))
}

/// containerd answers in microseconds or is in trouble; a pull need not wait for it.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
