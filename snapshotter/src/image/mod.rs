//! What an image is: names, descriptors, platforms, manifests and configurations, as values.
//!
//! Everything here is pure parsing of bytes that somebody else fetched. It opens no socket and no file, knows nothing of
//! HTTP, and lets nothing out of a document whose digest was not checked against its descriptor first.

mod configuration;
mod descriptor;
mod documents;
mod error;
mod manifest;
mod platform;
mod reference;

use std::collections::HashMap;

use bytes::Bytes;

pub use configuration::Configuration;
pub use descriptor::{Descriptor, LayerFormat, MediaKind};
pub use documents::{DocumentKind, SourceDocument};
pub use error::ImageError;
pub use manifest::{Document, Index, IndexEntry, Manifest};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

use crate::digest::Digest;

/// The largest manifest or index that is read: 4 MiB, the limit registries themselves set.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// The largest image configuration that is read: 8 MiB.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// The most layers an image may have; overlayfs stops near 500 and builders at 127, so this only bounds memory.
pub const LAYERS_MAX: usize = 1_000;

/// The largest blob a descriptor may claim: 16 TiB, above any registry's limit and far below where sums overflow.
pub const BLOB_BYTES_MAX: u64 = 16 << 40;

/// One platform's image, complete and verified: what a pull needs to know before its first layer byte.
#[derive(Clone, Debug)]
pub struct Image {
    /// What was asked for.
    pub reference: Reference,
    /// The digest of `manifest_bytes`, never that of an index above it.
    pub manifest_digest: Digest,
    /// The platform's manifest, byte for byte as the registry served it.
    pub manifest_bytes: Bytes,
    /// The digest of the configuration.
    pub config_digest: Digest,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
}

/// One layer: its compressed blob, and the digest of what that blob inflates to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar stream.
    pub diff_id: Digest,
    /// How the blob is compressed, according to its media type.
    pub format: LayerFormat,
}

impl Image {
    /// Joins a manifest and the configuration it names.
    ///
    /// Both are checked against their digests here, whatever the caller checked before.
    ///
    /// # Errors
    /// A document that is not what its descriptor says, layers and diff ids that do not pair up, or a configuration for
    /// another platform than `platform`.
    pub fn assemble(
        reference: Reference,
        manifest_digest: Digest,
        manifest_bytes: Bytes,
        config_bytes: &[u8],
        platform: &Platform,
    ) -> Result<Self, ImageError> {
        error::verify("manifest", &manifest_digest, &manifest_bytes)?;
        let manifest = Manifest::parse(&manifest_bytes)?;
        manifest.config.verify("configuration", config_bytes)?;
        let configuration = Configuration::parse(config_bytes)?;
        configuration.check_platform(platform)?;
        Ok(Self {
            reference,
            manifest_digest,
            manifest_bytes,
            config_digest: manifest.config.digest,
            layers: pair(manifest.layers, &configuration.diff_ids)?,
        })
    }

    /// The chain id of every layer, bottom first: the names under which containerd knows their snapshots.
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chains: Vec<Digest> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let below = chains.last();
            chains.push(below.map_or(layer.diff_id, |below| below.chain(&layer.diff_id)));
        }
        chains
    }

    /// Bytes of all layer blobs, a repeated blob counted once.
    pub fn compressed_bytes(&self) -> u64 {
        let sizes: HashMap<_, _> = self
            .layers
            .iter()
            .map(|layer| (layer.descriptor.digest, layer.descriptor.size))
            .collect();
        sizes.values().sum()
    }
}

/// Pairs each blob with its diff id and refuses contradictions between layers that share a blob.
fn pair(blobs: Vec<Descriptor>, diff_ids: &[Digest]) -> Result<Vec<Layer>, ImageError> {
    if blobs.len() != diff_ids.len() {
        return Err(ImageError::LayerCount {
            layers: blobs.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let mut seen: HashMap<Digest, (u64, Digest)> = HashMap::new();
    let mut layers = Vec::with_capacity(blobs.len());
    for (index, (descriptor, diff_id)) in blobs.into_iter().zip(diff_ids).enumerate() {
        let facts = (descriptor.size, *diff_id);
        if *seen.entry(descriptor.digest).or_insert(facts) != facts {
            return Err(ImageError::Contradiction {
                digest: descriptor.digest,
            });
        }
        let format = descriptor
            .layer_format()
            .ok_or_else(|| ImageError::LayerMediaType {
                index,
                media_type: error::excerpt(&descriptor.media_type),
            })?;
        layers.push(Layer {
            descriptor,
            diff_id: *diff_id,
            format,
        });
    }
    Ok(layers)
}

#[cfg(test)]
mod tests;
