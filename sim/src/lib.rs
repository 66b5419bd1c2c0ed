//! A discrete-event world around the parapull engine: run, swarm, replay.

#![forbid(unsafe_code)]

mod bound;
mod draw;
mod events;
mod plan;
mod record;
mod registry;
mod report;
mod resource;
mod world;

pub use plan::ScenarioError;
pub use record::Bound;
pub use report::{LayerPrediction, Phase, Prediction, PullPrediction, Run, predict};
pub use world::{RunError, Violation};
