//! Pauses: work on the node that stands still for a while.

use parapull_scenario::Paused;

use super::coverage::pause_point;
use super::{NANOS_PER_MILLI, World};

impl World<'_> {
    /// Where a lane that starts will stand still, and for how many nanoseconds.
    pub(super) fn pause_lane(&mut self, size: u64) -> Option<(u64, u64)> {
        let mut at = 0;
        let nanos = self.pause_of(|of| match of {
            Paused::Lane { at_permille } => {
                at = size * u64::from(at_permille.min(1_000)) / 1_000;
                true
            }
            Paused::Link | Paused::Drop => false,
        });
        (nanos > 0).then_some((at, nanos))
    }

    /// Nanoseconds that such work stands still, if it meets a pause that has not happened often enough; counts it.
    pub(super) fn pause_of(&mut self, mut fits: impl FnMut(Paused) -> bool) -> u64 {
        for (pause, count) in self.scenario.mishaps.pauses.iter().zip(&mut self.pauses) {
            if *count < pause.times && fits(pause.of) {
                *count += 1;
                self.record.coverage.sometimes(pause_point(pause.of));
                return u64::from(pause.for_ms) * NANOS_PER_MILLI;
            }
        }
        0
    }
}
