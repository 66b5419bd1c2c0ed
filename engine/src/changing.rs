//! Limits that change in mid-pull: when they take force, and what waits until then.

use alloc::vec::Vec;

use crate::blob::Blob;
use crate::engine::Engine;
use crate::error::LayerError;
use crate::layer::TreeId;
use crate::output::Destination;

impl Engine {
    /// Changed limits take force when what is held fits them; until then only what holds bytes goes on.
    pub(crate) fn adopt_limits(&mut self) {
        let Some(limits) = self.pending_limits else {
            return;
        };
        let raw = *limits.raw();
        let fits = self.budgets.window.used() <= raw.window_bytes_max
            && self.budgets.laneless <= limits.laneless_bytes_max()
            && self.budgets.unpacks.used() <= raw.unpacks_max.into();
        if !fits && !mutant!(LimitsAtOnce) {
            return;
        }
        self.pending_limits = None;
        self.config.limits = limits;
        self.pieces_shrank = true;
        (self.work_may_start, self.stirred) = (true, true);
        self.budgets.fetches.set_max(raw.fetches_max.into());
        self.budgets.unpacks.set_max(raw.unpacks_max.into());
        self.budgets.threads.set_max(raw.threads_max.into());
        self.budgets.window.set_max(raw.window_bytes_max);
        self.budgets.spool.set_max(raw.spool_bytes_max);
        for image in self.images.values_mut() {
            image.fetches.set_max(raw.fetches_per_image_max.into());
            image.unpacks.set_max(raw.unpacks_per_image_max.into());
        }
        self.blobs.touch_all();
        self.queue.look_again();
        self.bytes.set_quantum(limits.piece_bytes_max());
        self.fail_unstorable();
    }

    /// Fails the layers that changed limits leave no way to store.
    fn fail_unstorable(&mut self) {
        let spool_max = self.budgets.spool.max();
        let hopeless = |blob: &&Blob| {
            blob.destination == Destination::Spool
                && blob.size > spool_max
                && blob.charge.amount() == 0
                && !blob.ending
        };
        let layers: Vec<TreeId> = self
            .blobs
            .values()
            .filter(hopeless)
            .map(|blob| blob.layer)
            .collect();
        for layer in layers {
            self.fail_layer(layer, LayerError::SpoolTooSmall);
        }
    }

    /// Whether what holds nothing yet must wait for changed limits.
    pub(crate) const fn limits_are_changing(&self) -> bool {
        self.pending_limits.is_some()
    }

    /// Whether one more lane may run, also under limits that wait to take force.
    pub(crate) fn unpacks_free(&self) -> bool {
        let pending = self.pending_limits.map(|limits| limits.raw().unpacks_max);
        let max = pending.map_or(u64::MAX, u64::from);
        self.budgets.unpacks.free() > 0 && self.budgets.unpacks.used() < max
    }
}
