//! What image a `Prepare` belongs to: manifest and configuration from containerd's content store, else from the registry.

use crate::driver::{Advice, LocalBlobs};
use crate::grpc::{ContentClient, ContentError, RemoteError, RemoteErrorClass, RemoteRequest};
use crate::image::{CONFIG_BYTES_MAX, Image, MANIFEST_BYTES_MAX, Manifest, Platform, Reference};
use crate::registry::Registry;

/// Where images are looked up.
pub struct ImageSource {
    /// containerd's content store.
    pub content: ContentClient,
    /// The client for blobs, and for manifests containerd does not have.
    pub registry: Registry,
    /// The node's platform.
    pub platform: Platform,
    /// How failed requests are repeated.
    pub advice: Advice,
}

/// An image and the client its blobs are read with.
pub(super) struct FoundImage {
    pub(super) image: Image,
    pub(super) registry: Registry,
    /// Whether containerd gave its documents, and so may have its layers too.
    pub(super) is_local: bool,
}

impl ImageSource {
    pub(super) async fn image(
        &self,
        namespace: &str,
        request: &RemoteRequest,
    ) -> Result<FoundImage, RemoteError> {
        let failed = |class, message: String| RemoteError {
            class,
            message: format!("{}: {message}", request.image_ref),
        };
        let reference: Reference = request
            .image_ref
            .parse()
            .map_err(|error| failed(RemoteErrorClass::InvalidArgument, format!("{error}")))?;
        let mut is_local = true;
        let image = match self.in_content_store(namespace, request, &reference).await {
            Ok(image) => image,
            Err(Lookup::Absent(reason)) => {
                tracing::debug!(%reason, "asking the registry for the manifest");
                is_local = false;
                let pinned: Reference = format!(
                    "{}/{}@{}",
                    reference.domain(),
                    reference.repository(),
                    request.manifest_digest
                )
                .parse()
                .map_err(|error| failed(RemoteErrorClass::InvalidArgument, format!("{error}")))?;
                self.registry
                    .resolve(&pinned, &self.platform, &self.advice)
                    .await
                    .map_err(|error| failed(RemoteErrorClass::Unavailable, error.to_string()))?
            }
            Err(Lookup::Bad(reason)) => {
                return Err(failed(RemoteErrorClass::InvalidArgument, reason));
            }
        };
        Ok(FoundImage {
            image,
            registry: self.registry.clone(),
            is_local,
        })
    }

    /// Which layers of an image from `first` upward containerd has in this namespace.
    pub(super) async fn local_blobs(
        &self,
        namespace: &str,
        image: &Image,
        first: usize,
    ) -> LocalBlobs {
        LocalBlobs::look_up(&self.content, namespace, image, first).await
    }

    async fn in_content_store(
        &self,
        namespace: &str,
        request: &RemoteRequest,
        reference: &Reference,
    ) -> Result<Image, Lookup> {
        let digest = request.manifest_digest;
        let manifest_bytes = self
            .content
            .read_blob(namespace, &digest, MANIFEST_BYTES_MAX)
            .await?;
        let manifest =
            Manifest::parse(&manifest_bytes).map_err(|error| Lookup::Bad(error.to_string()))?;
        let config = self
            .content
            .read_blob(namespace, &manifest.config.digest, CONFIG_BYTES_MAX)
            .await?;
        Image::assemble(
            reference.clone(),
            digest,
            manifest_bytes,
            &config,
            &self.platform,
        )
        .map_err(|error| Lookup::Bad(error.to_string()))
    }
}

/// Why the content store gave no image.
enum Lookup {
    /// It is not there, or containerd cannot be asked.
    Absent(String),
    /// It is there and unusable.
    Bad(String),
}

impl From<ContentError> for Lookup {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::TooLarge { .. } | ContentError::Mismatch { .. } => {
                Self::Bad(error.to_string())
            }
            ContentError::NotFound { .. }
            | ContentError::Short { .. }
            | ContentError::Namespace(_)
            | ContentError::Call { .. } => Self::Absent(error.to_string()),
        }
    }
}
