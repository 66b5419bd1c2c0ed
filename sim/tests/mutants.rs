//! Bugs planted in the engine, each of which the swarm must notice.

#![cfg(feature = "mutants")]

use parapull_engine::Mutant;
use parapull_sim::hunt_mutant;

/// One test, because a bug is planted for the whole process.
#[test]
fn every_planted_bug_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let alive: Vec<&str> = Mutant::ALL
        .iter()
        .filter(|mutant| hunt_mutant(**mutant, 10_000).is_none())
        .map(|mutant| mutant.name())
        .collect();
    let _ = std::panic::take_hook();
    assert_eq!(alive, [""; 0]);
    assert!(Mutant::ALL.len() >= 12);
}
