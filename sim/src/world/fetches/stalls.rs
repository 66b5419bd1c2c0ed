//! Fetches of which nothing comes for a while.

use parapull_engine::OpId;

use super::Stage;
use crate::events::Coming;
use crate::world::{Violation, World};

impl World<'_> {
    /// Nothing more comes until then, or ever.
    pub(super) fn stall(&mut self, op: OpId, until: Option<u64>) {
        if let Some(fetch) = self.fetches.get_mut(&op) {
            fetch.stage = Stage::Stalled;
            fetch.stalled_until = until.unwrap_or(u64::MAX);
        }
        self.link.stop(self.now, op);
        if let Some(until) = until {
            self.events.push(until, Coming::StallOver { op });
        }
    }

    /// Stops a body in the middle of a portion; what of it has come is kept.
    pub(in crate::world) fn interrupt(&mut self, op: OpId, until: u64) -> Result<(), Violation> {
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return Ok(());
        };
        match fetch.stage {
            Stage::Receiving(_) => {
                let done = self.link.stop(self.now, op);
                if done > 0 {
                    self.keep(op, done)?;
                }
            }
            Stage::Skipping(_) => {
                let done = self.link.stop(self.now, op);
                fetch.skip -= done;
                fetch.received += done;
            }
            Stage::Queued | Stage::Asked | Stage::Storing(_) | Stage::Held | Stage::Stalled => {
                return Ok(());
            }
        }
        self.stall(op, Some(until));
        Ok(())
    }

    pub(in crate::world) fn on_stall_over(&mut self, op: OpId) -> Result<(), Violation> {
        if self
            .fetches
            .get(&op)
            .is_some_and(|fetch| fetch.stage == Stage::Stalled && fetch.stalled_until <= self.now)
        {
            self.proceed(op);
        }
        Ok(())
    }
}
