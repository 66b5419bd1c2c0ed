//! Digests outside, small numbers inside: the one table between them.

use std::collections::BTreeMap;

use parapull_engine::{BlobId, ChainId, HostId, ImageId, LayerId, SourceId};

use super::local::LocalBlobs;
use super::request::PullRequest;
use crate::digest::Digest;
use crate::image::{Descriptor, Layer, Reference};
use crate::registry::Registry;
use crate::unpack::{Encoding, LayerSpec};

/// Where a blob can be had.
#[derive(Clone)]
pub(super) struct BlobOrigin {
    pub(super) registry: Registry,
    pub(super) reference: Reference,
    pub(super) descriptor: Descriptor,
    /// In the order of the engine's sources.
    pub(super) hosts: Vec<String>,
    /// What may be on this node.
    pub(super) local: Option<LocalBlobs>,
}

impl BlobOrigin {
    pub(super) fn host(&self, source: SourceId) -> Option<&String> {
        self.hosts.get(usize::from(source.0))
    }
}

impl std::fmt::Debug for BlobOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}", self.descriptor.digest, self.hosts)
    }
}

/// What makes a layer, whichever blob it is unpacked from.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerName {
    pub(super) diff_id: Digest,
    /// Whether it is a bottom layer: containerd applies those differently.
    pub(super) is_bottom: bool,
}

/// Ids handed out. A digest keeps its id while an image uses it.
#[derive(Debug, Default)]
pub(super) struct Names {
    blobs: BTreeMap<BlobId, BlobOrigin>,
    blob_ids: BTreeMap<Digest, BlobId>,
    layers: BTreeMap<LayerId, LayerName>,
    layer_ids: BTreeMap<(Digest, bool), LayerId>,
    users: BTreeMap<ImageId, Vec<(BlobId, LayerId)>>,
    /// Every host that ever served a blob: as many as there are registries and mirrors.
    host_ids: BTreeMap<String, HostId>,
    chain_ids: BTreeMap<Digest, ChainId>,
    chain_users: BTreeMap<ImageId, Vec<Digest>>,
    next_image: u32,
    next_blob: u32,
    next_layer: u32,
    next_chain: u32,
}

impl Names {
    pub(super) fn image(&mut self) -> ImageId {
        let image = ImageId(self.next_image);
        self.next_image += 1;
        image
    }

    /// The ids of a layer of an image, which uses them from here on.
    pub(super) fn layer(
        &mut self,
        image: ImageId,
        layer: &Layer,
        is_bottom: bool,
        request: &PullRequest,
    ) -> (BlobId, LayerId) {
        let blob = *self
            .blob_ids
            .entry(layer.descriptor.digest)
            .or_insert_with(|| {
                self.next_blob += 1;
                BlobId(self.next_blob - 1)
            });
        // The origin of whoever reads the blob stays: another registry's troubles are not its own.
        let in_use = self.users.values().flatten().any(|(used, _)| *used == blob);
        if !in_use {
            let origin = BlobOrigin {
                registry: request.registry.clone(),
                reference: request.image.reference.clone(),
                descriptor: layer.descriptor.clone(),
                hosts: request.hosts.clone(),
                local: None,
            };
            self.blobs.insert(blob, origin);
        }
        let has = |local: &&LocalBlobs| local.has(&layer.descriptor.digest);
        if let (Some(origin), Some(local)) = (
            self.blobs.get_mut(&blob),
            request.local.as_ref().filter(has),
        ) {
            origin.local = Some(local.clone());
        }
        let key = (layer.diff_id, is_bottom);
        let id = *self.layer_ids.entry(key).or_insert_with(|| {
            self.next_layer += 1;
            LayerId(self.next_layer - 1)
        });
        let name = LayerName {
            diff_id: layer.diff_id,
            is_bottom,
        };
        self.layers.insert(id, name);
        self.users.entry(image).or_default().push((blob, id));
        (blob, id)
    }

    /// The ids of the hosts a blob is read from, in the order of its sources.
    pub(super) fn hosts(&mut self, id: BlobId) -> Vec<HostId> {
        let Some(origin) = self.blobs.get(&id) else {
            return Vec::new();
        };
        let mut next = u32::try_from(self.host_ids.len()).unwrap_or(u32::MAX);
        let ids = origin.hosts.iter().map(|host| {
            *self.host_ids.entry(host.clone()).or_insert_with(|| {
                next += 1;
                HostId(next - 1)
            })
        });
        ids.collect()
    }

    /// The number of a chain of layers, which an image uses from here on.
    pub(super) fn chain(&mut self, image: ImageId, chain: Digest) -> ChainId {
        self.chain_users.entry(image).or_default().push(chain);
        *self.chain_ids.entry(chain).or_insert_with(|| {
            self.next_chain += 1;
            ChainId(self.next_chain - 1)
        })
    }

    pub(super) fn layer_name(&self, id: LayerId) -> Option<LayerName> {
        self.layers.get(&id).copied()
    }

    pub(super) fn blob(&self, id: BlobId) -> Option<&BlobOrigin> {
        self.blobs.get(&id)
    }

    /// What a lane must find when it unpacks a layer from a blob.
    pub(super) fn spec(&self, layer: LayerId, blob: BlobId) -> Option<(LayerSpec, LayerName)> {
        let (name, origin) = (*self.layers.get(&layer)?, self.blobs.get(&blob)?);
        let spec = LayerSpec {
            encoding: Encoding::of_media_type(&origin.descriptor.media_type)
                .unwrap_or(Encoding::Sniffed),
            digest: origin.descriptor.digest,
            size: origin.descriptor.size,
            diff_id: name.diff_id,
        };
        Some((spec, name))
    }

    /// Whether another image than this one uses a layer.
    pub(super) fn is_used_beside(&self, image: ImageId, layer: LayerId) -> bool {
        let others = self.users.iter().filter(|(user, _)| **user != image);
        others
            .flat_map(|(_, used)| used)
            .any(|(_, used)| *used == layer)
    }

    /// Forgets an image, and what no other image uses unless the engine `keeps` it.
    pub(super) fn forget(&mut self, image: ImageId, keeps: impl Fn(LayerId) -> bool) {
        for chain in self.chain_users.remove(&image).unwrap_or_default() {
            if !self
                .chain_users
                .values()
                .flatten()
                .any(|used| *used == chain)
            {
                self.chain_ids.remove(&chain);
            }
        }
        let Some(used) = self.users.remove(&image) else {
            return;
        };
        for (blob, layer) in used {
            if !keeps(layer) {
                self.forget_layer(layer);
            }
            if !self
                .users
                .values()
                .flatten()
                .any(|(other, _)| *other == blob)
            {
                self.blobs.remove(&blob);
                self.blob_ids.retain(|_, id| *id != blob);
            }
        }
    }

    /// Forgets a layer that no image uses.
    pub(super) fn forget_layer(&mut self, layer: LayerId) {
        if !self
            .users
            .values()
            .flatten()
            .any(|(_, other)| *other == layer)
        {
            self.layers.remove(&layer);
            self.layer_ids.retain(|_, id| *id != layer);
        }
    }
}
