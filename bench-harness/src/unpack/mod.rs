//! How fast layers are unpacked, beside everybody who unpacks them: the same blob, interleaved, on file systems made for it.
//!
//! It makes the layers ([`TestLayer`]), lets each [`Contender`] unpack them, and tells what they took. What a lane costs
//! beyond a plain loop is counted in instructions ([`instructions`]), what inflating alone costs in processor time
//! ([`inflating`]). Nothing is pulled: no registry, no network.

mod contender;
mod content;
mod error;
mod inflate;
mod instructions;
mod layers;
mod markdown;
mod one;
mod place;
mod report;

use std::ffi::OsString;
use std::path::Path;

pub use contender::Contender;
pub use content::{LayerKind, Sizes};
pub use error::UnpackBenchError;
pub use inflate::{InflateCost, inflating};
pub use instructions::{Instructions, instructions};
pub use layers::{Compressor, TestLayer};
pub use markdown::markdown;
pub use one::{by_lane, by_plain_loop, sink};
pub use place::PlaceKind;
pub use report::{Goal, LayerSize, Line, SCHEMA, UnpackResult, UnpackRun, csv, write};

#[cfg(test)]
pub(crate) use report::tests;

use crate::measure::interleaved;

/// What is measured.
#[derive(Debug, Clone)]
pub struct UnpackPlan {
    /// Who unpacks.
    pub contenders: Vec<Contender>,
    /// Onto what.
    pub places: Vec<PlaceKind>,
    /// How often.
    pub reps: usize,
}

/// Lets every contender unpack `layer` onto every kind of file system, in turn, below the folder `work`.
///
/// # Errors
/// [`UnpackBenchError`] at the first that fails: a figure for half a layer is none.
pub fn unpack_all(
    layer: &TestLayer,
    plan: &UnpackPlan,
    work: &Path,
    say: &dyn Fn(&str),
) -> Result<Vec<UnpackRun>, UnpackBenchError> {
    let mut runs = Vec::new();
    for place in &plan.places {
        for turn in interleaved(plan.contenders.len(), plan.reps) {
            let contender = plan.contenders[turn.configuration];
            let (name, place_name) = (&layer.name, place.name());
            say(&format!(
                "{name} by {contender} onto {place_name}, run {}",
                turn.repetition + 1
            ));
            let taken = contender.unpack(layer, *place, work)?;
            runs.push(UnpackRun {
                layer: layer.name.clone(),
                filesystem: place_name.into(),
                contender: contender.to_string(),
                rep: turn.repetition,
                seconds: taken.seconds,
                cpu_seconds: taken.cpu_seconds,
            });
        }
    }
    Ok(runs)
}

/// The arguments that make this program unpack one layer; without `to` nothing is made of it.
fn unpack_one_arguments(
    layer: &TestLayer,
    by: &str,
    threads: u32,
    to: Option<&Path>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["unpack-one".into(), layer.blob.clone().into()];
    for (name, value) in [
        ("--digest", layer.spec.digest.to_string()),
        ("--diff-id", layer.spec.diff_id.to_string()),
        ("--by", by.into()),
        ("--threads", threads.to_string()),
    ] {
        arguments.extend([name.into(), value.into()]);
    }
    if let Some(to) = to {
        arguments.extend(["--to".into(), to.into()]);
    }
    arguments
}
