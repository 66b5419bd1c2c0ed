//! The end of the daemon: nothing new starts, lanes that have all of their bytes may finish, staged trees stay.

use alloc::vec::Vec;

use crate::engine::Engine;
use crate::id::ImageId;
use crate::layer::{LayerState, TreeId};
use crate::output::{Event, Outcome};
use crate::time::Instant;
use crate::timers::Deadline;

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Nobody asked for one.
    No,
    /// Until then lanes may finish.
    Grace(Instant),
    /// Everything is being cancelled, or was.
    Over,
}

impl Engine {
    /// Ends every image. What is staged, and what complete lanes still stage, stays for the next start.
    pub(crate) fn shut_down(&mut self) {
        if self.is_shutting_down() {
            return;
        }
        let timing = self.config.timing;
        self.shutdown = if timing.shutdown_grace_ms > 0 && timing.staging_ttl_ms > 0 {
            let at = self.now.after_millis(timing.shutdown_grace_ms);
            self.timers.start(at, Deadline::Shutdown);
            Shutdown::Grace(at)
        } else {
            Shutdown::Over
        };
        let images: Vec<ImageId> = self.images.keys().copied().collect();
        for image in images {
            self.end_image(image, Outcome::Cancelled);
        }
        self.drop_kept();
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown != Shutdown::No
    }

    /// Whether a lane nobody wants any more may finish: the daemon ends, and it has all of its bytes.
    pub(crate) fn may_finish(&self, id: TreeId) -> bool {
        let Some(layer) = self.layers.get(&id) else {
            return false;
        };
        let complete = self.blobs.get(&layer.blob).is_some_and(|blob| {
            blob.layer == id && blob.is_complete() && !blob.ending && blob.dropping.is_none()
        });
        matches!(self.shutdown, Shutdown::Grace(_)) && id.over.is_none() && complete
    }

    /// Leaves a staged tree where it lies: it belongs to the next start from here on.
    pub(crate) fn leave_staged(&mut self, id: TreeId) {
        if let Some(layer) = self.layers.get_mut(&id) {
            layer.state = LayerState::Consumed;
        }
        self.tell(Event::LayerKept { layer: id.layer });
        self.release_layer(id);
    }

    /// The grace is over: lanes that still run are cancelled.
    pub(crate) fn on_shutdown_due(&mut self) {
        if mutant!(ShutdownNeverOver) {
            return;
        }
        self.shutdown = Shutdown::Over;
        for id in self.finishing() {
            self.release_layer(id);
        }
    }

    /// Ends the grace early when no lane uses it.
    pub(crate) fn watch_shutdown(&mut self) {
        if let Shutdown::Grace(at) = self.shutdown
            && self.finishing().is_empty()
        {
            self.timers.stop(at, Deadline::Shutdown);
            self.shutdown = Shutdown::Over;
        }
    }

    /// Layers nobody wants whose lanes run.
    fn finishing(&self) -> Vec<TreeId> {
        let runs = |state| matches!(state, LayerState::Unpacking(_));
        self.layers
            .iter()
            .filter(|(_, layer)| layer.wanted.is_empty() && runs(layer.state))
            .map(|(id, _)| *id)
            .collect()
    }
}
