//! The world's own lies, told only when the scenario asks for one: whether the checks see them.

use parapull_engine::OpId;
use parapull_scenario::Canary;

use super::World;
use crate::events::Coming;

impl World<'_> {
    pub(super) fn lies(&self, canary: Canary) -> bool {
        self.scenario.mishaps.canary == Some(canary)
    }

    pub(super) fn canary_at_first_byte(&mut self, op: OpId) {
        assert!(!self.lies(Canary::Panic), "the canary sings");
        if self.lies(Canary::Livelock) {
            self.events.push(self.now, Coming::FirstByte { op });
        }
    }
}
