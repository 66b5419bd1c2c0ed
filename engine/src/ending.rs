//! How things end: images, layers, blobs, and what they still hold when they do.

use alloc::vec::Vec;

use crate::blob::{Mode, Settling};
use crate::engine::Engine;
use crate::error::LayerError;
use crate::id::{BlobId, ByteRange, ImageId, LayerId, OpId};
use crate::image::LinkState;
use crate::layer::{LayerState, TreeId};
use crate::op::OpKind;
use crate::output::{Action, Destination, Event, Outcome, Place, Tree};
use crate::timers::Deadline;

impl Engine {
    /// A layer cannot be had: every image that wants it fails.
    pub(crate) fn fail_layer(&mut self, layer: TreeId, error: LayerError) {
        let places: Vec<Place> = self
            .layers
            .get(&layer)
            .map(|layer| layer.wanted.iter().copied().collect())
            .unwrap_or_default();
        for place in places {
            let outcome = Outcome::Failed {
                index: place.index,
                error,
            };
            self.end_image(place.image, outcome);
        }
    }

    /// Begins the end of an image: callers are told, what nobody else wants is stopped.
    pub(crate) fn end_image(&mut self, id: ImageId, outcome: Outcome) {
        let Some(image) = self.images.get_mut(&id) else {
            self.stale += 1;
            return;
        };
        if !image.is_live() {
            return;
        }
        image.ending = Some(outcome);
        self.arm_progress(id, None);
        let Some(image) = self.images.get_mut(&id) else {
            return;
        };
        if let Some(at) = image.grace.take() {
            self.timers.stop(at, Deadline::Grace(id));
        }
        let count = u32::try_from(image.links.len()).unwrap_or(u32::MAX);
        let places = (0..count).map(|index| Place { image: id, index });
        // The cause comes first, so that whoever waits for another layer can be told it.
        let cause = |place: &Place| !matches!(outcome, Outcome::Failed { index, .. } if index == place.index);
        let mut told: Vec<Place> = places.clone().collect();
        told.sort_by_key(cause);
        for place in told {
            self.tell_failure(place, outcome);
        }
        for place in places {
            self.unlink(place);
        }
        self.finish_if_ended(id);
    }

    fn tell_failure(&mut self, place: Place, outcome: Outcome) {
        let done = self.images[&place.image]
            .link(place.index)
            .is_none_or(|link| link.state == LinkState::Done);
        if done {
            return;
        }
        let error = match outcome {
            Outcome::Failed { index, error } if index == place.index => error,
            Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Ready => LayerError::Cancelled,
        };
        self.tell(Event::LayerFailed { place, error });
    }

    /// Takes a place of an ending image away from its layer. A link or clone under way is waited for.
    pub(crate) fn unlink(&mut self, place: Place) {
        let Some(link) = self
            .images
            .get(&place.image)
            .and_then(|image| image.link(place.index))
        else {
            return;
        };
        let layer = link.tree;
        match link.state {
            LinkState::Linking(op) if self.needs_no_tree(op) => self.unwant(place, layer),
            LinkState::Done
            | LinkState::Linking(_)
            | LinkState::Cloning(_)
            | LinkState::Dropping(_) => {}
            LinkState::Cloned => self.drop_clone(place),
            LinkState::Pending => self.unwant(place, layer),
        }
    }

    /// Whether a link takes what is in place already.
    fn needs_no_tree(&self, link: OpId) -> bool {
        self.ops.get(&link).is_some_and(|op| {
            matches!(
                op.kind,
                OpKind::Link {
                    tree: Tree::Linked,
                    ..
                }
            )
        })
    }

    pub(crate) fn unwant(&mut self, place: Place, id: TreeId) {
        let Some(layer) = self.layers.get_mut(&id) else {
            return;
        };
        if !layer.wanted.remove(&place) {
            return;
        }
        if layer.wanted.is_empty() {
            if let Some(image) = self.images.get_mut(&place.image) {
                image.releasing.insert(id);
            }
        } else {
            self.move_charges(place.image, id);
        }
        self.release_layer(id);
    }

    /// Lets go of a layer nobody wants.
    pub(crate) fn release_layer(&mut self, id: TreeId) {
        let Some(layer) = self.layers.get(&id) else {
            return;
        };
        if !layer.wanted.is_empty() && !mutant!(SharedCancelled) {
            return;
        }
        let blob = layer.blob;
        match layer.state {
            LayerState::Waiting => self.stop_blob(blob, id),
            LayerState::Unpacking(_) if self.may_finish(id) => {}
            LayerState::Unpacking(op) => {
                self.cancel(op);
                self.stop_blob(blob, id);
            }
            LayerState::Staged => self.keep_staged(id),
            LayerState::Consumed | LayerState::Absent => self.forget_layer(id),
            LayerState::Leaving(_) | LayerState::Dropping(_) => {}
        }
    }

    /// Keeps a staged tree for a while in case it is asked for again.
    fn keep_staged(&mut self, id: TreeId) {
        let ttl_ms = self.config.timing.staging_ttl_ms;
        if ttl_ms == 0 || id.over.is_some() {
            self.drop_staged(id);
            return;
        }
        if self.is_shutting_down() {
            if mutant!(ShutdownDrops) {
                return self.drop_staged(id);
            }
            return self.leave_staged(id);
        }
        let at = self.now.after_millis(ttl_ms);
        let Some(layer) = self.layers.get_mut(&id) else {
            return;
        };
        if layer.expires.is_none() {
            layer.expires = Some(at);
            self.timers.start(at, Deadline::Staging(id.layer));
        }
        // Its lane may have read bytes that no fetch has reported yet: those who pay for the fetch wait for its end.
        if !self.is_being_read(id) {
            self.released(id);
        }
    }

    /// Whether the blob that was opened for a layer is still there.
    fn is_being_read(&self, id: TreeId) -> bool {
        let layer = self.layers.get(&id);
        layer
            .and_then(|layer| self.blobs.get(&layer.blob))
            .is_some_and(|blob| blob.layer == id)
    }

    /// Lets go of every staged tree that was kept in case someone asks for it again.
    pub(crate) fn drop_kept(&mut self) {
        let kept: Vec<TreeId> = self
            .layers
            .iter()
            .filter(|(_, layer)| layer.wanted.is_empty() && layer.state == LayerState::Staged)
            .map(|(id, _)| *id)
            .collect();
        for id in kept {
            if let Some(at) = self
                .layers
                .get_mut(&id)
                .and_then(|layer| layer.expires.take())
            {
                self.timers.stop(at, Deadline::Staging(id.layer));
            }
            self.release_layer(id);
        }
    }

    pub(crate) fn on_staging_expired(&mut self, layer: LayerId) {
        let id = TreeId::shared(layer);
        let Some(layer) = self.layers.get_mut(&id) else {
            return;
        };
        layer.expires = None;
        if mutant!(StagingKept) {
            layer.expires = Some(self.now);
            return;
        }
        if layer.wanted.is_empty() && layer.state == LayerState::Staged {
            self.drop_staged(id);
        }
    }

    pub(crate) fn drop_staged(&mut self, id: TreeId) {
        let op = self.open(OpKind::DropStaged { layer: id });
        if let Some(layer) = self.layers.get_mut(&id) {
            layer.state = LayerState::Dropping(op);
        }
        self.act(Action::DropStaged {
            op,
            layer: id.layer,
            tree: id.name(),
        });
    }

    pub(crate) fn drop_clone(&mut self, place: Place) {
        let link = self
            .images
            .get(&place.image)
            .and_then(|image| image.link(place.index));
        let Some(layer) = link.map(|link| link.tree.layer) else {
            return;
        };
        let op = self.open(OpKind::DropClone { place });
        self.set_link(place, LinkState::Dropping(op));
        self.act(Action::DropStaged {
            op,
            layer,
            tree: Tree::Own(place),
        });
    }

    pub(crate) fn on_dropped(&mut self, id: OpId) {
        let Some(op) = self.close(id) else { return };
        match op.kind {
            OpKind::DropClone { place } => self.on_clone_dropped(place),
            OpKind::DropStaged { layer } if self.layers[&layer].wanted.is_empty() => {
                // If its bytes are still being dropped, it goes with them.
                if let Some(entry) = self.layers.get_mut(&layer) {
                    entry.state = LayerState::Waiting;
                }
                self.forget_layer(layer);
            }
            OpKind::DropStaged { layer } => self.unpack_again(layer),
            _ => {}
        }
    }

    /// A clone is gone: because its image ends, or because it depends on what lies below.
    fn on_clone_dropped(&mut self, place: Place) {
        self.set_link(place, LinkState::Pending);
        let image = self.images.get(&place.image);
        let needs_parents = image
            .filter(|image| image.is_live())
            .and_then(|image| image.link(place.index))
            .is_some_and(|link| link.needs_parents);
        if needs_parents {
            self.make_over_parents(place);
            return;
        }
        self.unlink(place);
        self.finish_if_ended(place.image);
    }

    /// Stops reading a blob whose layer nobody wants.
    fn stop_blob(&mut self, id: BlobId, layer: TreeId) {
        if !self.is_fed(layer) {
            self.unfed.remove(&layer);
            // A blob that already ends for this layer takes the layer with it.
            if self.blobs.get(&id).is_none_or(|blob| blob.layer != layer) {
                self.forget_layer(layer);
            }
            return;
        }
        self.stop_chunks(id, None);
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.ending = true;
        }
        self.end_blob(id);
    }

    /// Forgets a blob that is done with, once its fetches and its lane are closed and its bytes are gone.
    pub(crate) fn end_blob(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get(&id) else {
            return;
        };
        let layer_id = blob.layer;
        let unpacking = matches!(self.layers[&layer_id].state, LayerState::Unpacking(_));
        if !(blob.ending || blob.consumed)
            || unpacking
            || !blob.open.is_empty()
            || blob.dropping.is_some()
        {
            return;
        }
        if blob.consumed && blob.destination == Destination::Window {
            self.forget_blob(id);
            return;
        }
        let bytes = blob.charge.amount();
        let range = ByteRange::new(0, blob.size);
        let op = self.open(OpKind::DropBytes {
            blob: id,
            from: 0,
            bytes,
        });
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.dropping = Some(op);
        }
        self.act(Action::DropBytes {
            op,
            blob: id,
            range,
        });
    }

    pub(crate) fn forget_blob(&mut self, id: BlobId) {
        self.count_unneeded(id);
        self.uncharge_all(id);
        let Some(blob) = self.blobs.remove(&id) else {
            return;
        };
        self.released(blob.layer);
        if let Some(layer) = self.layers.get(&blob.layer) {
            match (layer.state, layer.wanted.is_empty()) {
                (LayerState::Waiting, true) => self.forget_layer(blob.layer),
                (LayerState::Waiting, false) => {
                    self.unfed.insert(blob.layer);
                }
                (LayerState::Consumed | LayerState::Absent, true) => self.forget_layer(blob.layer),
                _ => {}
            }
        }
        let of_blob = |layer: &&TreeId| self.layers[*layer].blob == id;
        let mut hungry: Vec<TreeId> = self.unfed.iter().filter(of_blob).copied().collect();
        hungry.sort_by_key(|layer| self.lowest_index(*layer));
        for layer in hungry {
            self.feed(layer);
        }
    }

    /// Counts what was read for a layer that turned up where it belongs in the meantime.
    fn count_unneeded(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get(&id).filter(|blob| !blob.consumed) else {
            return;
        };
        // What a lane had released of a wrong life was counted when it turned out wrong.
        let is_counted = blob.mode == Mode::Settling(Settling::Corrupt);
        let released = if is_counted { 0 } else { blob.released };
        let (layer, bytes) = (blob.layer, released + blob.unread_bytes());
        let mut images = self.images.values_mut();
        if let Some(image) =
            images.find(|image| image.is_live() && image.releasing.contains(&layer))
        {
            image.stats.bytes_retried += bytes;
        }
    }

    fn forget_layer(&mut self, id: TreeId) {
        if self.is_being_read(id) || !self.layers.contains_key(&id) {
            return;
        }
        self.layers.remove(&id);
        self.unfed.remove(&id);
        self.released(id);
    }

    /// An image whose layer's blob is still closing does not end before it has.
    pub(crate) fn retain_until_forgotten(&mut self, id: ImageId, layer: TreeId) {
        let closing = self.layers.get(&layer).is_some_and(|entry| {
            self.blobs
                .get(&entry.blob)
                .is_some_and(|blob| blob.layer == layer && entry.wanted.is_empty())
        });
        if let (true, Some(image)) = (closing, self.images.get_mut(&id)) {
            image.releasing.insert(layer);
        }
    }

    /// Nothing of a layer is held any more for images that let go of it.
    fn released(&mut self, layer: TreeId) {
        let holders: Vec<ImageId> = self
            .images
            .iter_mut()
            .filter_map(|(id, image)| image.releasing.remove(&layer).then_some(*id))
            .collect();
        for image in holders {
            self.finish_if_linked(image);
            self.finish_if_ended(image);
        }
    }

    /// Finishes an ending image once nothing mentions it.
    pub(crate) fn finish_if_ended(&mut self, id: ImageId) {
        let Some(image) = self.images.get(&id) else {
            return;
        };
        let Some(outcome) = image.ending else { return };
        let busy = image.links.iter().zip(0..).any(|(link, index)| {
            let place = Place { image: id, index };
            let layer = self.layers.get(&link.tree);
            // While the places of an image are let go of one by one, some are still wanted.
            layer.is_some_and(|layer| layer.wanted.contains(&place))
                || matches!(
                    link.state,
                    LinkState::Linking(_)
                        | LinkState::Cloning(_)
                        | LinkState::Cloned
                        | LinkState::Dropping(_)
                )
        });
        if !busy && image.releasing.is_empty() {
            self.finish(id, outcome);
        }
    }

    pub(crate) fn finish(&mut self, id: ImageId, outcome: Outcome) {
        self.arm_progress(id, None);
        let Some(image) = self.images.remove(&id) else {
            return;
        };
        if let Some(at) = image.grace {
            self.timers.stop(at, Deadline::Grace(id));
        }
        self.queue.leave(id);
        self.bytes.leave(id);
        self.lane_time.leave(id);
        for (link, index) in image.links.iter().zip(0..) {
            self.chains.leave(link.chain, Place { image: id, index });
        }
        self.tell(Event::PullFinished {
            image: id,
            outcome,
            stats: image.stats,
        });
    }

    /// An op that was cancelled ended without doing what it was asked for.
    pub(crate) fn on_cancelled(&mut self, id: OpId, received: u64) {
        let Some(op) = self.ops.get(&id) else {
            self.close(id);
            return;
        };
        match op.kind {
            OpKind::Fetch(_) => self.on_fetch_cancelled(id, received),
            OpKind::Lane(_) => self.on_lane_cancelled(id),
            OpKind::Clone { .. } | OpKind::Link { .. } => {
                self.on_link_failed(id, crate::error::LinkError::Disk);
            }
            OpKind::DropClone { .. } | OpKind::DropStaged { .. } => self.on_dropped(id),
            OpKind::DropBytes { .. } => self.on_bytes_dropped(id),
        }
    }
}
