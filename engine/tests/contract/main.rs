//! The engine's contract, a sentence a test.

#[path = "../bench/mod.rs"]
mod bench;
mod changing;
mod cost;
mod ending;
mod fairness;
mod fetching;
mod hedging;
mod holds;
mod hosts;
mod invariants;
mod limits;
mod linking;
mod local;
mod map;
mod order;
mod progress;
mod retrying;
mod sharing;
mod shutdown;
mod standstill;
mod widening;
mod window;
