//! How the engine is told: late, after what happened later, or twice; never out of order within one op.

use parapull_engine::{Input, OpId};

use super::{Violation, World};
use crate::coverage::Point;
use crate::draw::{self, Purpose};
use crate::events::Coming;

impl World<'_> {
    /// A fact that is told at once; one that comes late is kept for later.
    pub(super) fn unless_late(&mut self, input: Input) -> Option<Input> {
        let Some(nanos) = op_of(&input).and_then(|op| self.lateness(op)) else {
            return Some(input);
        };
        self.sometimes(Point::ToldLate);
        self.keep_for_later(nanos, input);
        None
    }

    /// The end of an op that is told twice is kept to be told again.
    pub(super) fn tell_again(&mut self, input: &Input) {
        let Some(delivery) = self.scenario.mishaps.delivery else {
            return;
        };
        let Some(op) = op_of(input).filter(|_| is_end(input)) else {
            return;
        };
        let parts = [op.0, self.record.crashes, 0];
        let drawn = draw::keyed(self.scenario.seed, Purpose::Twice, parts);
        if drawn % 1_000 < u64::from(delivery.twice_permille) && self.promises.repeat(op) {
            self.sometimes(Point::ToldTwice);
            let nanos = drawn % (u64::from(delivery.late_us_max) * NANOS_PER_MICRO + 1);
            self.keep_for_later(nanos, input.clone());
        }
    }

    pub(super) fn on_told(&mut self, slot: u64) -> Result<(), Violation> {
        match self.late.remove(&slot) {
            Some(input) => self.feed(input),
            None => Ok(()),
        }
    }

    fn keep_for_later(&mut self, nanos: u64, input: Input) {
        let slot = self.late.last_key_value().map_or(0, |(slot, _)| slot + 1);
        self.late.insert(slot, input);
        self.events.push(self.now + nanos, Coming::Told { slot });
    }

    /// By how much everything that is told of an op is late.
    fn lateness(&self, op: OpId) -> Option<u64> {
        let delivery = self.scenario.mishaps.delivery?;
        let parts = [op.0, self.record.crashes, 0];
        let drawn = draw::keyed(self.scenario.seed, Purpose::Late, parts);
        let is_late = drawn % 1_000 < u64::from(delivery.late_permille);
        let bound = u64::from(delivery.late_us_max) * NANOS_PER_MICRO;
        is_late.then_some((drawn >> 10) % (bound + 1))
    }
}

/// The op a fact is about.
pub(super) const fn op_of(input: &Input) -> Option<OpId> {
    match *input {
        Input::RangeProgressed { op, .. }
        | Input::RangeFetched { op }
        | Input::RangeFailed { op, .. }
        | Input::RangesRefused { op }
        | Input::LaneAdvanced { op, .. }
        | Input::LaneResized { op, .. }
        | Input::LaneFinished { op, .. }
        | Input::LaneFailed { op, .. }
        | Input::Linked { op }
        | Input::Cloned { op }
        | Input::LinkFailed { op, .. }
        | Input::Dropped { op }
        | Input::BytesDropped { op }
        | Input::OpCancelled { op, .. } => Some(op),
        Input::PullRequested(_)
        | Input::LayerAwaited { .. }
        | Input::LayerLeft { .. }
        | Input::PullCancelled { .. }
        | Input::LimitsChanged(_)
        | Input::TimerReached
        | Input::ShutdownRequested => None,
    }
}

const fn is_end(input: &Input) -> bool {
    !matches!(
        input,
        Input::RangeProgressed { .. }
            | Input::RangesRefused { .. }
            | Input::LaneAdvanced { .. }
            | Input::LaneResized { .. }
    )
}

const NANOS_PER_MICRO: u64 = 1_000;
