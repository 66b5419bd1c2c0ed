//! Descriptors: the typed, sized, digested pointers all image documents are made of.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{self, ImageError};
use super::platform::Platform;
use super::{BLOB_BYTES_MAX, CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::digest::Digest;

/// A pointer to a blob (OCI image specification, "Descriptors").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type as written.
    pub media_type: String,
    /// What the bytes must hash to.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// Annotations, empty if there are none.
    pub annotations: BTreeMap<String, String>,
}

/// What a media type says a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// An OCI index or a Docker manifest list.
    Index,
    /// An OCI or Docker schema 2 image manifest.
    Manifest,
    /// A Docker schema 1 manifest.
    Schema1,
    /// Anything else.
    Other,
}

/// How a layer blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerFormat {
    /// A bare tar stream.
    Tar,
    /// Gzip, the common case.
    TarGzip,
    /// Zstandard.
    TarZstd,
}

impl Descriptor {
    /// Checks a fetched document against this descriptor.
    ///
    /// # Errors
    /// `what` has another size or another digest.
    pub fn verify(&self, what: &'static str, bytes: &[u8]) -> Result<(), ImageError> {
        let actual = bytes.len() as u64;
        if actual != self.size {
            return Err(ImageError::WrongSize {
                what,
                digest: self.digest,
                expected: self.size,
                actual,
            });
        }
        error::verify(what, &self.digest, bytes)
    }

    /// How this layer is compressed, or nothing if it is not a layer we can unpack.
    ///
    /// Known are the layer types of OCI and Docker, with their non-distributable forms.
    pub fn layer_format(&self) -> Option<LayerFormat> {
        match self.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar" => Some(LayerFormat::Tar),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
                Some(LayerFormat::TarGzip)
            }
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(LayerFormat::TarZstd),
            _ => None,
        }
    }

    pub(super) fn check_size(&self, what: &'static str) -> Result<(), ImageError> {
        let bytes_max = match what {
            "configuration" => CONFIG_BYTES_MAX,
            "manifest" => MANIFEST_BYTES_MAX,
            _ => BLOB_BYTES_MAX,
        };
        if self.size <= bytes_max {
            return Ok(());
        }
        Err(ImageError::AbsurdSize {
            digest: self.digest,
            bytes: self.size,
            bytes_max,
        })
    }
}

impl MediaKind {
    /// Classifies a media type; parameters after `;` and case do not matter.
    pub fn of(media_type: &str) -> Self {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Self::Schema1,
            _ => Self::Other,
        }
    }

    /// The value of an `Accept` header that asks for everything we can read.
    pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
        application/vnd.oci.image.manifest.v1+json, \
        application/vnd.docker.distribution.manifest.list.v2+json, \
        application/vnd.docker.distribution.manifest.v2+json";
}

/// A descriptor as it stands in JSON.
#[derive(Deserialize)]
pub(super) struct RawDescriptor {
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
}

impl RawDescriptor {
    pub(super) fn into_descriptor(self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.unwrap_or_default(),
            digest: self.digest,
            size: self.size,
            annotations: self.annotations.unwrap_or_default(),
        }
    }
}
