//! What images share: whose permits pay for it, and which layer a blob serves first.

use alloc::vec::Vec;

use crate::engine::Engine;
use crate::id::{BlobId, ImageId, OpId};
use crate::layer::{LayerState, TreeId};
use crate::op::OpKind;

impl Engine {
    /// Work that goes on for another image is paid by that one from here on, even past its limit.
    pub(crate) fn move_charges(&mut self, from: ImageId, id: TreeId) {
        let Some(layer) = self.layers.get(&id) else {
            return;
        };
        let Some(to) = layer
            .wanted
            .iter()
            .map(|place| place.image)
            .filter(|image| *image != from)
            .min_by_key(|image| (!self.images[image].is_live(), *image))
        else {
            return;
        };
        let mut ops: Vec<OpId> = Vec::new();
        if self.is_fed(id) {
            ops.extend(self.blobs[&layer.blob].open.iter());
        }
        if let LayerState::Unpacking(lane) = layer.state {
            ops.push(lane);
        }
        if mutant!(ChargeLeftBehind) {
            return;
        }
        let mut moved = (0, 0);
        for op in ops {
            let (image, count) = match self.ops.get_mut(&op).map(|op| &mut op.kind) {
                Some(OpKind::Fetch(fetch)) => (&mut fetch.image, &mut moved.0),
                Some(OpKind::Lane(lane)) => (&mut lane.image, &mut moved.1),
                _ => continue,
            };
            if image.0 == from {
                image.0 = to;
                *count += image.1.amount();
            }
        }
        let Some(mut heir) = self.images.remove(&to) else {
            return;
        };
        if let Some(image) = self.images.get_mut(&from) {
            heir.fetches.take_over(&mut image.fetches, moved.0);
            heir.unpacks.take_over(&mut image.unpacks, moved.1);
        }
        self.images.insert(to, heir);
    }

    /// Lets a blob serve another layer first, if that lies lower and no lane reads the blob.
    ///
    /// The same bytes may be wanted as a bottom layer and as an upper one. The upper one waits for what lies below it,
    /// so the lower must never wait for the upper.
    pub(crate) fn hand_over(&mut self, id: BlobId, to: TreeId) {
        let Some(blob) = self.blobs.get(&id) else {
            return;
        };
        let from = blob.layer;
        let busy = blob.laned || blob.ending || blob.consumed;
        if busy || from == to || self.lowest_index(to) >= self.lowest_index(from) {
            return;
        }
        let Some(heir) = self.layers[&to].wanted.first().map(|place| place.image) else {
            return;
        };
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.layer = to;
        }
        self.unfed.remove(&to);
        self.unfed.insert(from);
        self.charge_heir(id, heir);
    }

    /// All fetches of a blob are paid by one image from here on, even past its limit.
    fn charge_heir(&mut self, id: BlobId, to: ImageId) {
        let Some(mut heir) = self.images.remove(&to) else {
            return;
        };
        let open: Vec<OpId> = self.blobs[&id].open.iter().copied().collect();
        for op in open {
            if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&op).map(|op| &mut op.kind)
                && fetch.image.0 != to
            {
                let from = core::mem::replace(&mut fetch.image.0, to);
                if let Some(image) = self.images.get_mut(&from) {
                    heir.fetches
                        .take_over(&mut image.fetches, fetch.image.1.amount());
                }
            }
        }
        self.images.insert(to, heir);
    }

    /// The lowest index at which a layer is wanted.
    pub(crate) fn lowest_index(&self, id: TreeId) -> u32 {
        let wanted = self.layers.get(&id).map(|layer| layer.wanted.iter());
        wanted
            .and_then(|places| places.map(|place| place.index).min())
            .unwrap_or(u32::MAX)
    }
}
