//! Callers: who asks for images and waits for their layers.

use std::collections::BTreeSet;

use parapull_engine::{
    ByteRange, Have, HostId, ImageId, Input, LayerError, Place, Pull, PullLayer,
};
use parapull_scenario::{Awaiting, PullSpec};

use super::{Violation, World};
use crate::coverage::Point;
use crate::events::Coming;
use crate::plan::Plan;

/// Who waits for one pull.
#[derive(Debug, Default)]
pub(super) struct Caller {
    pub(super) requested: bool,
    pub(super) gone: bool,
    waiting: BTreeSet<u32>,
    /// What they waited for when they left for a while.
    away: BTreeSet<u32>,
    /// Layers that are linked, from the bottom.
    pub(super) linked: u32,
}

impl Caller {
    /// Nobody waits any more: the daemon is gone.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.away.clear();
    }
}

impl World<'_> {
    pub(super) fn on_request(&mut self, pull: usize) {
        let spec = &self.scenario.pulls[pull];
        if self.callers[pull].gone {
            return;
        }
        let image = Plan::image(pull);
        // What an earlier life of the daemon has linked is linked.
        let linked = spec.linked.max(self.callers[pull].linked);
        let mut layers = Vec::new();
        for (index, layer) in (0..).zip(self.plan.pulls[pull].clone()) {
            let have = if index < linked {
                Have::Linked
            } else if self.tell_staged(layer) {
                Have::Staged
            } else if self.is_elsewhere(layer) {
                Have::Elsewhere
            } else {
                local(spec, index, self.plan.layer(layer).compressed_bytes)
            };
            let planned = self.plan.layer(layer);
            layers.push(PullLayer {
                blob: self.plan.blob_of(layer),
                size: planned.compressed_bytes,
                layer,
                chain: self.plan.chain_of(Place { image, index }),
                hosts: (0..planned.sources)
                    .map(|host| HostId(host.into()))
                    .collect(),
                have,
            });
        }
        self.callers[pull].requested = true;
        self.callers[pull].linked = linked;
        self.record.request(self.now, image);
        self.inbox.push_back(Input::PullRequested(Pull {
            image,
            layers,
            weight: spec.weight,
        }));
        let count = self.layer_count(image);
        match spec.awaiting {
            Awaiting::Together => {
                for index in linked..count {
                    self.call(pull, index);
                }
            }
            Awaiting::BottomUp { .. } if linked < count => self.call(pull, linked),
            Awaiting::BottomUp { .. } => {}
        }
    }

    pub(super) fn on_call(&mut self, pull: usize, index: u32) {
        if !self.callers[pull].gone && self.callers[pull].requested {
            self.call(pull, index);
        }
    }

    /// Callers leave for a while; their pull has its grace period.
    pub(super) fn on_leave(&mut self, absence: usize) {
        let pull = self.scenario.mishaps.absences[absence].pull;
        let Some(caller) = self.callers.get_mut(pull) else {
            return;
        };
        let left = std::mem::take(&mut caller.waiting);
        if !left.is_empty() {
            self.sometimes(Point::CallersLeave);
        }
        for index in &left {
            self.leave(pull, *index);
        }
        self.callers[pull].away.extend(left);
    }

    /// Callers come back and wait for what they have not got.
    pub(super) fn on_return(&mut self, absence: usize) {
        let pull = self.scenario.mishaps.absences[absence].pull;
        let Some(caller) = self.callers.get_mut(pull) else {
            return;
        };
        let back = std::mem::take(&mut caller.away);
        let is_here = caller.requested && !caller.gone;
        let linked = caller.linked;
        for index in back.into_iter().filter(|index| is_here && *index >= linked) {
            self.sometimes(Point::CallersReturn);
            self.call(pull, index);
        }
    }

    fn leave(&mut self, pull: usize, index: u32) {
        let image = Plan::image(pull);
        for _ in 0..self.callers_each(pull) {
            self.inbox.push_back(Input::LayerLeft { image, index });
        }
    }

    fn callers_each(&self, pull: usize) -> usize {
        1 + usize::from(self.scenario.mishaps.doubled.contains(&pull))
    }

    fn call(&mut self, pull: usize, index: u32) {
        let image = Plan::image(pull);
        if !self.callers[pull].waiting.insert(index) {
            return;
        }
        if self.callers_each(pull) > 1 {
            self.sometimes(Point::CallersDoubled);
        }
        for _ in 0..self.callers_each(pull) {
            self.inbox.push_back(Input::LayerAwaited { image, index });
        }
    }

    pub(super) fn on_cancel(&mut self, pull: usize) {
        let image = Plan::image(pull);
        let outright = self.scenario.pulls[pull]
            .cancel
            .is_some_and(|cancel| cancel.outright);
        if self.cancel_in_crash(pull) {
            return;
        }
        let caller = &mut self.callers[pull];
        caller.gone = true;
        if outright {
            self.inbox.push_back(Input::PullCancelled { image });
        } else {
            let left = std::mem::take(&mut caller.waiting);
            self.sometimes(Point::CancelledByLeaving);
            for index in left {
                self.leave(pull, index);
            }
        }
    }

    /// A caller has its answer and goes; containerd's next one comes a little later.
    pub(super) fn on_ready(&mut self, place: Place) -> Result<(), Violation> {
        self.record.ready(self.now, place)?;
        let (image, index) = (place.image, place.index);
        if index >= self.linked(image) {
            return Err(Violation::Correctness(format!(
                "{place:?} is ready, but not linked"
            )));
        }
        let pull = image.0 as usize;
        self.answer(pull, index);
        let next = index + 1;
        if let Awaiting::BottomUp { pause_us } = self.scenario.pulls[pull].awaiting
            && next < self.layer_count(image)
            && !self.callers[pull].gone
        {
            let at = self.now + u64::from(pause_us) * NANOS_PER_MICRO;
            self.events.push(at, Coming::Call { pull, index: next });
        }
        Ok(())
    }

    pub(super) fn on_layer_failed(
        &mut self,
        place: Place,
        error: LayerError,
    ) -> Result<(), Violation> {
        self.record.failed(place, error)?;
        self.answer(place.image.0 as usize, place.index);
        self.callers[place.image.0 as usize].gone = true;
        Ok(())
    }

    fn answer(&mut self, pull: usize, index: u32) {
        if self.callers[pull].waiting.remove(&index) {
            let image = Plan::image(pull);
            self.inbox.push_back(Input::LayerLeft { image, index });
        }
    }

    pub(super) fn linked(&self, image: ImageId) -> u32 {
        self.callers[image.0 as usize].linked
    }

    pub(super) fn layer_count(&self, image: ImageId) -> u32 {
        u32::try_from(self.plan.pulls[image.0 as usize].len()).unwrap_or(u32::MAX)
    }
}

/// What of a layer's blob lies in the local store.
fn local(spec: &PullSpec, index: u32, size: u64) -> Have {
    let at = |permille: u32| {
        let bytes = u128::from(size) * u128::from(permille.min(1_000)) / 1_000;
        u64::try_from(bytes).unwrap_or(size)
    };
    let local = spec.local.iter().find(|local| local.index == index);
    match local.map(|local| (at(local.from_permille), at(local.to_permille))) {
        Some((0, end)) if end == size => Have::LocalBlob,
        Some((start, end)) if start < end => Have::Ranges(vec![ByteRange::new(start, end)]),
        Some(_) | None => Have::Nothing,
    }
}

const NANOS_PER_MICRO: u64 = 1_000;
