//! A discrete-event world around the parapull engine: run, swarm, replay.

#![forbid(unsafe_code)]

mod bound;
mod check;
mod draw;
mod events;
mod generate;
mod plan;
mod record;
mod registry;
mod report;
mod resource;
mod swarm;
mod world;

pub use check::check;
pub use generate::generate;
pub use plan::ScenarioError;
pub use record::Bound;
pub use report::{LayerPrediction, Phase, Prediction, PullPrediction, Run, predict};
pub use swarm::{Failure, swarm, try_scenario};
pub use world::{Observer, RunError, Violation};
