//! Pulls that get nowhere: whether an image whose bytes are being asked for has got any further lately.
//!
//! Time counts only while something could come: a fetch is open that may keep bytes, or a failed range waits out a backoff
//! of our own. Waiting for permits, credit, `Retry-After`, a lane or a caller is not the pull's fault.

use crate::blob::{Blob, ChunkState};
use crate::engine::Engine;
use crate::error::LayerError;
use crate::id::{BlobId, ImageId, OpId};
use crate::layer::LayerState;
use crate::op::OpKind;
use crate::output::Outcome;
use crate::time::Instant;
use crate::timers::Deadline;

impl Engine {
    /// Begins to watch an image.
    pub(crate) fn watch_progress(&mut self, id: ImageId) {
        let (now, limit_ms) = (self.now, self.config.timing.progress_ms);
        if let Some(image) = self.images.get_mut(&id) {
            image.heard_at = now;
            let at = (limit_ms > 0 && image.is_live()).then(|| now.after_millis(limit_ms));
            self.arm_progress(id, at);
        }
    }

    /// Ends to watch an image, or looks at it again at another time.
    pub(crate) fn arm_progress(&mut self, id: ImageId, at: Option<Instant>) {
        let Some(image) = self.images.get_mut(&id) else {
            return;
        };
        if let Some(old) = core::mem::replace(&mut image.progress_at, at) {
            self.timers.stop(old, Deadline::Progress(id));
        }
        if let Some(at) = at {
            self.timers.start(at, Deadline::Progress(id));
        }
    }

    /// Notes that every image that wants a blob's layer has got further.
    pub(crate) fn progressed(&mut self, id: BlobId) {
        let Some(layer) = self
            .blobs
            .get(&id)
            .and_then(|blob| self.layers.get(&blob.layer))
        else {
            return;
        };
        for place in &layer.wanted {
            if let Some(image) = self.images.get_mut(&place.image) {
                image.heard_at = self.now;
            }
        }
    }

    /// A fetch is about to be opened: one that had to wait for something starts the images' time anew.
    pub(crate) fn note_wait_over(&mut self, id: BlobId) {
        let retries = self
            .blobs
            .get(&id)
            .is_some_and(|blob| blob.backed_off_at == Some(self.now));
        if !retries && self.blobs.get(&id).is_some_and(|blob| !self.is_tried(blob)) {
            self.progressed(id);
        }
    }

    /// Looks whether an image has got further in time; one that has not fails.
    pub(crate) fn on_progress_check(&mut self, id: ImageId) {
        let (now, limit_ms) = (self.now, self.config.timing.progress_ms);
        let Some(image) = self.images.get_mut(&id) else {
            return;
        };
        let armed = image.progress_at.take();
        let due = image.heard_at.after_millis(limit_ms);
        // A look that comes far too late says that this node slept, not that nothing came.
        let slept = armed.is_some_and(|at| now > at.after_millis(SLEEP_MS_MIN));
        let stuck = self.stuck_layer(id);
        match stuck {
            Some(index) if due <= now && !slept => {
                let error = LayerError::NoProgress;
                self.end_image(id, Outcome::Failed { index, error });
            }
            Some(_) if due > now => self.arm_progress(id, Some(due)),
            _ => self.watch_progress(id),
        }
    }

    /// When a fetch that has sent nothing should have; nothing when it has, when that time is over, or when it reads what is
    /// on this node.
    pub(crate) fn first_byte_due(&self, id: OpId) -> Option<Instant> {
        let OpKind::Fetch(fetch) = &self.ops.get(&id)?.kind else {
            return None;
        };
        let due = fetch
            .asked_at
            .after_millis(self.config.timing.first_byte_ms);
        (fetch.host.is_some() && !fetch.spoke && due > self.now).then_some(due)
    }

    /// A fetch has sent its first byte: from here on it must go on at the least pace.
    pub(crate) fn watch_from_first_byte(&mut self, id: OpId) {
        let at = self.now.after_millis(self.config.timing.stall_ms);
        let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            return;
        };
        if let Some((old, read_before)) = fetch.stall {
            fetch.stall = Some((at, read_before));
            self.timers.stop(old, Deadline::Stall(id));
            self.timers.start(at, Deadline::Stall(id));
        }
    }

    /// The first layer of an image whose bytes are asked for in vain; nothing while a lane of the image has work.
    fn stuck_layer(&self, id: ImageId) -> Option<u32> {
        let image = self.images.get(&id)?;
        let mut stuck = None;
        for (link, index) in image.links.iter().zip(0..) {
            let Some(layer) = self.layers.get(&link.tree) else {
                continue;
            };
            // A layer that is here already may still be fetched for others.
            if !layer.wanted.iter().any(|place| place.image == id) {
                continue;
            }
            let blob = self.blobs.get(&layer.blob);
            let Some(blob) = blob.filter(|blob| blob.layer == link.tree) else {
                continue;
            };
            let unpacking = matches!(layer.state, LayerState::Unpacking(_));
            if unpacking && blob.frontier_bytes() > blob.released {
                return None;
            }
            if stuck.is_none() && self.is_tried(blob) {
                stuck = Some(index);
            }
        }
        stuck
    }

    /// Whether bytes of a blob could come without anything else happening first.
    fn is_tried(&self, blob: &Blob) -> bool {
        let may_keep = |op| {
            self.ops.get(op).is_some_and(
                |op| matches!(&op.kind, OpKind::Fetch(fetch) if fetch.kept < fetch.granted),
            )
        };
        let backs_off = |chunk: u32| {
            matches!(
                blob.chunk(chunk).state,
                ChunkState::Backoff { told: false, .. }
            )
        };
        blob.open.iter().any(may_keep) || (blob.frontier..blob.next).any(backs_off)
    }
}

/// A deadline missed by so much was missed because nothing ran.
const SLEEP_MS_MIN: u64 = 5_000;
