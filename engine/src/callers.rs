//! Callers: who waits for which layer, and how long an image lives on that nobody waits for.

use crate::engine::Engine;
use crate::id::ImageId;
use crate::layer::Layer;
use crate::output::Place;
use crate::timers::Deadline;

impl Engine {
    pub(crate) fn await_layer(&mut self, place: Place) {
        let Some(image) = self.images.get_mut(&place.image) else {
            self.stale += 1;
            return;
        };
        let Some(link) = image.link_mut(place.index) else {
            self.stale += 1;
            return;
        };
        link.callers += 1;
        self.layers.touch(link.tree);
        image.callers += 1;
        if mutant!(GraceRunsOn) {
            return;
        }
        if let Some(at) = image.grace.take() {
            self.timers.stop(at, Deadline::Grace(place.image));
        }
    }

    pub(crate) fn leave_layer(&mut self, place: Place) {
        let Some(image) = self.images.get_mut(&place.image) else {
            return;
        };
        let Some(link) = image.link_mut(place.index) else {
            return;
        };
        if link.callers == 0 {
            self.stale += 1;
            return;
        }
        link.callers -= 1;
        self.layers.touch(link.tree);
        image.callers -= 1;
        self.start_grace(place.image);
    }

    /// Whoever waited for a layer that is ready waits no more.
    pub(crate) fn dismiss_callers(&mut self, place: Place) {
        let Some(image) = self.images.get_mut(&place.image) else {
            return;
        };
        let answered = image.link_mut(place.index).map_or(0, |link| {
            self.layers.touch(link.tree);
            core::mem::take(&mut link.callers)
        });
        image.callers -= answered;
        self.start_grace(place.image);
    }

    /// Starts the grace period of an image nobody waits for. One whose layers are all in their places has none: it only
    /// waits for what it no longer needs to be gone.
    pub(crate) fn start_grace(&mut self, id: ImageId) {
        let at = self.now.after_millis(self.config.timing.cancel_grace_ms);
        let Some(image) = self.images.get_mut(&id) else {
            return;
        };
        if image.next_link().is_none() {
            if let Some(at) = image.grace.take() {
                self.timers.stop(at, Deadline::Grace(id));
            }
            return;
        }
        if image.callers > 0
            || image.grace.is_some()
            || !image.is_live()
            || mutant!(GraceNeverStarts)
        {
            return;
        }
        image.grace = Some(at);
        self.timers.start(at, Deadline::Grace(id));
    }

    /// Whether anyone waits for a layer in any place.
    pub(crate) fn is_awaited(&self, layer: &Layer) -> bool {
        layer.wanted.iter().any(|place| {
            let image = &self.images[&place.image];
            image.link(place.index).is_some_and(|link| link.callers > 0)
        })
    }
}
