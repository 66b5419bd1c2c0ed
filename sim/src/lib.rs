//! A discrete-event world around the parapull engine: run, swarm, replay.
//!
//! The engine is the one the daemon runs; link, registry, cores, disk and callers are models in integer virtual time.
//! One [`Scenario`](parapull_scenario::Scenario) value decides everything, so the same value gives the same run on every
//! machine.
//!
//! ```
//! use parapull_engine::Strategy;
//! use parapull_scenario::{Host, ImageSource, ImageSpec, RegistryProfile, Scenario};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let image = ImageSource::Spec(ImageSpec::preset("ml-like:1GiB")?);
//! let (host, registry) = (Host::named("gp3-1000")?, RegistryProfile::named("s3-like")?);
//! let scenario = Scenario::single(image, host, registry, Strategy::Streamed);
//! let prediction = parapull_sim::predict(&scenario)?;
//! assert!(prediction.seconds >= prediction.lower_bound_seconds);
//! # Ok(())
//! # }
//! ```
//!
//! # What is modelled
//! A link shared max-min fair under a cap for each connection, with the first byte's latency before it; a registry with
//! range support, request and connection limits, redirects and faults; cores shared by lanes whose stages pipeline over
//! their threads; a disk behind a page cache; links one after the other; callers that wait together or bottom up.
//!
//! # What is not
//! Connection set-up and slow start, re-reading an evicted spool, parallel inflate inside one layer, memory pressure.
//! A scenario that asks for what has no model is refused.

#![forbid(unsafe_code)]

mod allowed;
mod bound;
mod bundle;
mod canary;
mod check;
mod conformance;
mod coverage;
mod draw;
mod events;
pub mod gantt;
mod generate;
mod mishaps;
#[cfg(feature = "mutants")]
mod mutants;
mod plan;
pub mod preset;
mod record;
mod registry;
mod report;
mod resource;
mod shrink;
mod swarm;
mod trouble;
mod world;

pub use bundle::{Bundle, line};
pub use canary::{CanaryScenario, canaries, catch_canaries};
pub use check::check;
pub use conformance::{ConformanceError, Pins, differences, pinned_text, traces};
pub use coverage::{Coverage, Point};
pub use generate::generate;
#[cfg(feature = "mutants")]
pub use mutants::{Caught, hunt_mutant};
pub use plan::ScenarioError;
pub use record::Bound;
pub use report::{LayerPrediction, Phase, Prediction, PullPrediction, Run, Seen, bytes, predict};
pub use shrink::{Shrunk, shrink};
pub use swarm::{Failure, FailureKind, swarm, try_observed, try_scenario};
pub use world::{Observer, RunError, Violation};
