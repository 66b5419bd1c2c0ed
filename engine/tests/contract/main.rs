//! The engine's contract, a sentence a test.

#[path = "../bench/mod.rs"]
mod bench;
mod cost;
mod ending;
mod fairness;
mod fetching;
mod hosts;
mod limits;
mod linking;
mod local;
mod progress;
mod shutdown;
