//! The engine's contract, a sentence a test.

#[path = "../bench/mod.rs"]
mod bench;
mod chunks;
mod ending;
mod fairness;
mod fetching;
mod holds;
mod hosts;
mod limits;
mod linking;
mod local;
mod progress;
mod properties;
mod shutdown;
