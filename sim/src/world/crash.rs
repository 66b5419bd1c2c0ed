//! The daemon ends without warning and starts again with what is on disk.
//!
//! Linked layers and whole staged trees are on disk. Ops, the window, the spool (which is emptied at the start) and trees
//! made for one place are gone. Whoever waited asks again.

use parapull_engine::{Engine, LayerError, Outcome, PullStats};

use super::{NANOS_PER_MILLI, World};
use crate::bound;
use crate::events::Coming;

impl World<'_> {
    pub(super) fn crash_if_due(&mut self) {
        let due = self.scenario.mishaps.crashes.contains(&self.record.inputs);
        let stops = self.scenario.shutdown_ms;
        // One that was told to stop does not start again.
        if due && stops.is_none_or(|ms| self.now < ms * NANOS_PER_MILLI) {
            self.crash();
        }
    }

    fn crash(&mut self) {
        self.record.crashes += 1;
        self.cover_crash();
        self.lives = self.lives.rotate_left(1) ^ self.engine.trace_hash();
        self.engine = Engine::new(self.plan.config, self.clock());
        self.wake = None;
        self.inbox.clear();
        self.late.clear();
        self.events.forget_daemon();
        for op in std::mem::take(&mut self.fetches).into_keys() {
            self.link.stop(self.now, op);
        }
        for op in std::mem::take(&mut self.lanes).into_keys() {
            self.cores.stop(self.now, op);
        }
        self.registry.disconnect_all();
        self.works.clear();
        self.held.clear();
        self.window_bytes = 0;
        self.promises.forget();
        for trees in self.trees.values_mut() {
            trees.survive();
        }
        for pull in 0..self.callers.len() {
            self.ask_again(pull);
        }
    }

    fn ask_again(&mut self, pull: usize) {
        let caller = &mut self.callers[pull];
        if !caller.requested || self.record.pulls[pull].finished.is_some() {
            return;
        }
        caller.requested = false;
        caller.forget_waiting();
        self.record.restart(pull, self.now, caller.linked);
        // Who has left does not ask again; who was told of a failure does.
        let left = self.scenario.pulls[pull]
            .cancel
            .is_some_and(|cancel| cancel.at_ms * NANOS_PER_MILLI <= self.now);
        if caller.gone && left {
            self.end_in_crash(pull);
            return;
        }
        caller.gone = false;
        let at = self.now + bound::setup_nanos(self.scenario);
        self.events.push(at, Coming::Request { pull });
    }

    /// A caller that leaves before it has asked again gets no answer any more.
    pub(super) fn cancel_in_crash(&mut self, pull: usize) -> bool {
        let waits = self.record.crashes > 0
            && !self.callers[pull].requested
            && self.record.pulls[pull].requested.is_some();
        if waits {
            self.callers[pull].gone = true;
            self.end_in_crash(pull);
        }
        waits
    }

    fn end_in_crash(&mut self, pull: usize) {
        let ended = &mut self.record.pulls[pull];
        for index in 0..ended.ready.len() {
            if ended.ready[index].is_none() {
                ended.failed[index] = Some(LayerError::Cancelled);
            }
        }
        ended.finished = Some((self.now, Outcome::Cancelled, PullStats::default()));
    }
}
