//! Lanes: which layer is unpacked next, and what becomes of the bytes it lets go.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::blob::{Blob, Mode, Settling};
use crate::budget::Permit;
use crate::config::UnpackOrder;
use crate::engine::Engine;
use crate::error::{LaneError, LayerError};
use crate::id::{ImageId, OpId};
use crate::input::Waiting;
use crate::layer::{Layer, LayerState, TreeId};
use crate::op::{Lane, OpKind};
use crate::output::Action;
use crate::snapshot::HoldReason;
use crate::widening::Pace;

/// What decides between layers; the smallest gets the next lane.
type Rank = (bool, u64, Reverse<u64>, u32, TreeId);

impl Engine {
    pub(crate) fn admit_lanes(&mut self) {
        while let Some((layer, payer)) = self.next_lane() {
            self.start_lane(layer, payer);
        }
    }

    /// The layer that gets the next lane, of the image whose turn it is.
    fn next_lane(&mut self) -> Option<(TreeId, ImageId)> {
        if !self.work_may_start || !self.unpacks_free() || self.budgets.threads.free() == 0 {
            return None;
        }
        let is_ready = |(id, layer): &(&TreeId, &Layer)| self.unpackable(**id, layer).is_ok();
        let can_pay = |image: &ImageId| self.images[image].unpacks.free() > 0;
        let images: BTreeSet<ImageId> = self
            .layers
            .iter()
            .filter(is_ready)
            .flat_map(|(_, layer)| layer.wanted.iter().map(|place| place.image))
            .filter(can_pay)
            .collect();
        let image = self.lane_time.next(images.iter().copied())?;
        let is_wanted = |layer: &Layer| layer.wanted.iter().any(|place| place.image == image);
        self.layers
            .iter()
            .filter(|(_, layer)| is_wanted(layer))
            .filter(|(id, layer)| self.unpackable(**id, layer).is_ok())
            .min_by_key(|(id, layer)| self.lane_rank(**id, layer))
            .map(|(id, _)| (*id, image))
    }

    /// The image that pays for a layer's lane, or what holds the layer.
    pub(crate) fn lane_payer(&self, id: TreeId, layer: &Layer) -> Result<ImageId, HoldReason> {
        self.unpackable(id, layer)?;
        layer
            .wanted
            .iter()
            .map(|place| place.image)
            .find(|image| self.images[image].unpacks.free() > 0)
            .ok_or(HoldReason::UnpacksPerImage)
    }

    /// Whether a layer could be unpacked if a lane were free.
    fn unpackable(&self, id: TreeId, layer: &Layer) -> Result<(), HoldReason> {
        if layer.state != LayerState::Waiting || layer.wanted.is_empty() {
            return Err(HoldReason::Nothing);
        }
        if !self.is_fed(id) {
            return Err(HoldReason::BlobInUse);
        }
        let blob = &self.blobs[&layer.blob];
        // What a lane has read to its end may be fetched and read anew only once its last fetch has closed.
        let is_closing = blob.consumed || blob.dropping.is_some();
        if blob.mode == Mode::Settling(Settling::Corrupt) || is_closing {
            return Err(HoldReason::Settling);
        }
        if self.limits_are_changing() && blob.charge.amount() == 0 {
            // Layers that hold bytes must get lanes, or what is held never shrinks.
            return Err(HoldReason::LimitsChanging);
        }
        if id.over.is_some() && !self.parent_is_linked(layer) {
            return Err(HoldReason::Parent);
        }
        match self.config.scheduling.unpack_order {
            UnpackOrder::LongestPath | UnpackOrder::BottomUp => Ok(()),
            UnpackOrder::Completion | UnpackOrder::Chain if !blob.is_complete() => {
                Err(HoldReason::Bytes)
            }
            UnpackOrder::Completion => Ok(()),
            UnpackOrder::Chain if self.parent_is_linked(layer) => Ok(()),
            UnpackOrder::Chain => Err(HoldReason::Parent),
        }
    }

    /// What holds a layer back from being unpacked, for people to see.
    pub(crate) fn lane_hold(&self, id: TreeId, layer: &Layer) -> HoldReason {
        match self.lane_payer(id, layer) {
            Err(hold) => hold,
            Ok(_) if !self.unpacks_free() => HoldReason::Unpacks,
            Ok(_) if self.budgets.threads.free() == 0 => HoldReason::Threads,
            Ok(_) => HoldReason::Nothing,
        }
    }

    pub(crate) fn parent_is_linked(&self, layer: &Layer) -> bool {
        layer
            .wanted
            .iter()
            .any(|place| self.images[&place.image].next_link() == Some(place.index))
    }

    fn lane_rank(&self, id: TreeId, layer: &Layer) -> Rank {
        let blob = &self.blobs[&layer.blob];
        let index = layer.wanted.first().map_or(0, |place| place.index);
        match self.config.scheduling.unpack_order {
            UnpackOrder::LongestPath => {
                let awaited = self.is_awaited(layer);
                (!awaited, 0, Reverse(blob.remaining_nanos()), index, id)
            }
            UnpackOrder::BottomUp => (false, 0, Reverse(0), index, id),
            UnpackOrder::Completion | UnpackOrder::Chain => {
                let completed = blob.completed.unwrap_or(u64::MAX);
                (false, completed, Reverse(0), index, id)
            }
        }
    }

    fn start_lane(&mut self, layer_id: TreeId, payer: ImageId) {
        let (Some(total), Some(threads)) = (
            self.budgets.unpacks.try_take(1),
            self.budgets.threads.try_take(1),
        ) else {
            return;
        };
        let permit = self
            .images
            .get_mut(&payer)
            .and_then(|image| image.unpacks.try_take(1))
            .unwrap_or(Permit::none());
        let op = self.open(OpKind::Lane(Lane {
            layer: layer_id,
            total,
            image: (payer, permit),
            threads,
            threads_told: 1,
            charged_until: self.now,
            threads_said: 1,
            pace: Pace::default(),
        }));
        let Some(layer) = self.layers.get_mut(&layer_id) else {
            return;
        };
        layer.state = LayerState::Unpacking(op);
        let blob_id = layer.blob;
        if let Some(blob) = self.blobs.get_mut(&blob_id) {
            if !blob.laned && blob.destination == crate::output::Destination::Window {
                self.budgets.laneless -= blob.charge.amount();
            }
            blob.laned = true;
        }
        // Its blob may have waited, with a repetition too, for what only look-ahead has to wait for.
        self.queue.look_again();
        self.act(Action::StartLane {
            op,
            layer: layer_id.layer,
            blob: blob_id,
            threads: 1,
            over: layer_id.over,
        });
    }

    pub(crate) fn on_lane_advanced(
        &mut self,
        id: OpId,
        released: u64,
        produced: u64,
        entries: u64,
        waiting: Waiting,
    ) {
        assert!(
            id < self.next_op(),
            "invariant 5 (ops): {id:?} was never issued"
        );
        let Some(OpKind::Lane(lane)) = self.ops.get(&id).map(|op| &op.kind) else {
            self.stale += 1;
            return;
        };
        let Some(layer) = self.layers.get_unranked_mut(&lane.layer) else {
            return;
        };
        layer.produced = layer.produced.max(produced);
        layer.entries = layer.entries.max(entries);
        let blob = layer.blob;
        let nanos = self.charge_lane_time(id);
        self.progressed(blob);
        if waiting != Waiting::Input {
            self.note_lane_pace(blob, released, nanos);
        }
        self.release(blob, released);
        self.note_pace(id, waiting);
    }

    /// Learns how fast a lane is from what it let go of in a time in which it did not wait for bytes.
    fn note_lane_pace(&mut self, id: crate::id::BlobId, released: u64, nanos: u64) {
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.lane_nanos_per_kib = smoothed(
                blob.lane_nanos_per_kib,
                nanos,
                released.saturating_sub(blob.released),
            );
            let (was, is) = (self.lane_nanos_per_kib, blob.lane_nanos_per_kib);
            self.lane_nanos_per_kib = was - was / 16 + is / 16;
        }
    }

    /// Charges an image for the time its lane has run since the last look.
    /// Returns how long that was, in nanoseconds.
    fn charge_lane_time(&mut self, id: OpId) -> u64 {
        let now = self.now;
        let Some(OpKind::Lane(lane)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            return 0;
        };
        let nanos = now.0 - lane.charged_until.0;
        lane.charged_until = now;
        self.lane_time.charge(lane.image.0, nanos);
        nanos
    }

    fn release(&mut self, id: crate::id::BlobId, released: u64) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let freed = blob.release(released);
        self.uncharge(id, freed);
        self.complete_if_present(id);
    }

    pub(crate) fn on_lane_finished(&mut self, id: OpId, produced: u64, entries: u64) {
        let Some(lane) = self.close_lane(id) else {
            return;
        };
        let Some(layer) = self.layers.get_mut(&lane.layer) else {
            return;
        };
        layer.state = LayerState::Staged;
        layer.made += 1;
        (layer.produced, layer.entries) = (produced, entries);
        let (blob_id, size) = (layer.blob, layer.size);
        self.release(blob_id, size);
        if let Some(blob) = self.blobs.get_mut(&blob_id) {
            blob.consumed = true;
            // A hedge brought what these were asked for, and nobody will let them go on.
            for op in blob.open.iter().copied().collect::<Vec<_>>() {
                self.cancel(op);
            }
        }
        self.end_blob(blob_id);
        self.release_layer(lane.layer);
    }

    pub(crate) fn on_lane_failed(&mut self, id: OpId, error: LaneError) {
        let Some(lane) = self.close_lane(id) else {
            return;
        };
        let Some(layer) = self.layers.get_mut(&lane.layer) else {
            return;
        };
        layer.state = LayerState::Waiting;
        let blob_id = layer.blob;
        let first_life = self
            .blobs
            .get(&blob_id)
            .is_some_and(|blob: &Blob| blob.life == 0 && !blob.ending);
        if layer.wanted.is_empty() || !self.is_fed(lane.layer) {
            // A lane that finishes for the next start has a blob that nobody has stopped.
            self.release_layer(lane.layer);
            self.end_blob(blob_id);
        } else if error == LaneError::Corrupt && first_life && !mutant!(NoSecondLife) {
            self.begin_life(blob_id);
        } else {
            self.fail_layer(lane.layer, LayerError::Lane(error));
        }
    }

    /// A cancelled lane ended and left nothing behind.
    pub(crate) fn on_lane_cancelled(&mut self, id: OpId) {
        let Some(lane) = self.close_lane(id) else {
            return;
        };
        let Some(layer) = self.layers.get_mut(&lane.layer) else {
            return;
        };
        layer.state = LayerState::Waiting;
        let blob = layer.blob;
        self.end_blob(blob);
    }

    /// Closes a lane and returns its permits.
    fn close_lane(&mut self, id: OpId) -> Option<Lane> {
        self.charge_lane_time(id);
        let OpKind::Lane(mut lane) = self.close(id)?.kind else {
            return None;
        };
        self.budgets.unpacks.put(lane.total.take());
        self.budgets.threads.put(lane.threads.take());
        if let Some(image) = self.images.get_mut(&lane.image.0) {
            image.unpacks.put(lane.image.1.take());
        }
        Some(lane)
    }
}

/// A lane's pace, three quarters of what it was and one of what was seen; too little says nothing.
fn smoothed(nanos_per_kib: u64, nanos: u64, bytes: u64) -> u64 {
    if bytes < PACE_BYTES_MIN {
        return nanos_per_kib;
    }
    let seen = u128::from(nanos) * 1_024 / u128::from(bytes);
    let seen = u64::try_from(seen)
        .unwrap_or(u64::MAX)
        .clamp(1, NANOS_PER_KIB_MAX);
    nanos_per_kib - nanos_per_kib / 4 + seen / 4
}

/// What a lane takes for 1 KiB of compressed bytes while none has told: 175 MB/s, a gzip layer on one core.
pub(crate) const NANOS_PER_KIB_ASSUMED: u64 = 5_850;
/// 1 MB/s: slower lanes wait for something else.
const NANOS_PER_KIB_MAX: u64 = 1_024_000;
const PACE_BYTES_MIN: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_as_fast_as_it_was_lately() {
        let mut pace = NANOS_PER_KIB_ASSUMED;
        for _ in 0..20 {
            pace = smoothed(pace, 100_000_000, 1 << 20);
        }
        let exact = 100_000_000 / 1_024;
        assert!(pace.abs_diff(exact) < exact / 50, "{pace} for {exact}");
        assert_eq!(smoothed(pace, 1, 1_000), pace, "too little says nothing");
        assert_eq!(smoothed(4, u64::MAX, 1 << 20), 3 + NANOS_PER_KIB_MAX / 4);
    }
}
