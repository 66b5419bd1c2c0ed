//! Clogs: times in which some connections carry nothing.

use parapull_engine::OpId;

use super::{NANOS_PER_MILLI, Violation, World};
use crate::coverage::Point;
use crate::draw::{self, Purpose};

impl World<'_> {
    /// A clog begins: the connections it holds stop in the middle of what they carry.
    pub(super) fn on_clog(&mut self, clog: usize) -> Result<(), Violation> {
        let until = self.clog_end(clog);
        let held: Vec<OpId> = self
            .fetches
            .keys()
            .copied()
            .filter(|op| self.is_clogged_by(*op, clog))
            .collect();
        for op in held {
            self.interrupt(op, until)?;
        }
        Ok(())
    }

    /// Until when a connection carries nothing; `None` when it carries.
    pub(super) fn clogged_until(&mut self, op: OpId) -> Option<u64> {
        let clogs = &self.scenario.mishaps.clogs;
        let until = (0..clogs.len())
            .filter(|clog| {
                clogs[*clog].at_ms * NANOS_PER_MILLI <= self.now
                    && self.now < self.clog_end(*clog)
                    && self.is_clogged_by(op, *clog)
            })
            .map(|clog| self.clog_end(clog))
            .max();
        if until.is_some() {
            self.sometimes(Point::Clogged);
        }
        until
    }

    fn clog_end(&self, clog: usize) -> u64 {
        let clog = self.scenario.mishaps.clogs[clog];
        (clog.at_ms + clog.for_ms) * NANOS_PER_MILLI
    }

    fn is_clogged_by(&self, op: OpId, clog: usize) -> bool {
        let parts = [clog as u64, op.0, 0];
        let drawn = draw::keyed(self.scenario.seed, Purpose::Clogged, parts) % 1_000;
        drawn < u64::from(self.scenario.mishaps.clogs[clog].permille)
    }
}
