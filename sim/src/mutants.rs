//! Bugs planted in the engine, and how long it takes until the swarm sees them.

use parapull_engine::{Mutant, plant};
use parapull_scenario::Scenario;

use crate::swarm::{Failure, swarm};

/// How a planted bug was noticed.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Scenarios that ran until then, the failing one included.
    pub seeds: u64,
    /// The failing scenario.
    pub scenario: Scenario,
    /// How it failed.
    pub failure: Failure,
}

/// Plants a bug and runs scenarios from seed 0 on until one fails; `None` when none of `seeds_max` does.
///
/// The bug is planted for the whole process, so one of these runs at a time; it is taken out again at the end.
#[must_use]
pub fn hunt_mutant(mutant: Mutant, seeds_max: u64) -> Option<Caught> {
    let mut caught = None;
    let mut seeds = 0;
    plant(Some(mutant));
    swarm(0..seeds_max, |scenario, result| {
        seeds += 1;
        if let Err(failure) = result {
            caught = Some(Caught {
                seeds,
                scenario: scenario.clone(),
                failure: failure.clone(),
            });
        }
        caught.is_none()
    });
    plant(None);
    caught
}
