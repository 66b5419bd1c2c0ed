//! What holds a pull up, moment by moment.

use parapull_scenario::PullSpec;

use super::fetches::Fetch;
use super::lanes::Lane;
use super::{NANOS_PER_MILLI, World};
use crate::record::Bound;

impl World<'_> {
    /// What holds everything up at this moment.
    pub(super) fn bound(&mut self) -> Bound {
        let waits = |lane: &Lane| lane.waits_for_bytes();
        let is_asking = |(pull, spec): (usize, &PullSpec)| {
            spec.at_ms * NANOS_PER_MILLI <= self.now && !self.callers[pull].requested
        };
        if self.record.is_quiet() {
            let mut specs = self.scenario.pulls.iter().enumerate();
            if specs.any(is_asking) {
                Bound::Latency
            } else {
                Bound::Idle
            }
        } else if self.lanes.values().any(Lane::waits_for_disk)
            || self.fetches.values().any(Fetch::waits_for_disk)
        {
            Bound::Disk
        } else if self.cores.is_saturated() {
            Bound::Cpu
        } else if !self.lanes.is_empty() && !self.lanes.values().any(waits) {
            Bound::Lane
        } else if self.link.is_saturated() {
            Bound::Link
        } else if !self.link.is_empty() {
            Bound::Connection
        } else if self.fetches.values().any(Fetch::waits_for_answer) {
            Bound::Latency
        } else if !self.cores.is_empty() {
            Bound::Lane
        } else {
            Bound::Commit
        }
    }
}
