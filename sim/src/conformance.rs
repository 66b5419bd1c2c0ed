//! Named scenarios whose traces are pinned, so that every change of what the scheduler decides shows in a review.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parapull_engine::Strategy;
use parapull_scenario::{Host, ImageSource, ImageSpec, RegistryProfile, Scenario};

use crate::generate::generate;
use crate::swarm::try_scenario;

/// The pinned traces: scenario, hash in hexadecimal.
pub type Pins = BTreeMap<String, String>;

/// Why there are no traces to pin.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// A preset is gone.
    #[error("a pinned scenario cannot be made: {0}")]
    Scenario(String),
    /// A run failed.
    #[error("the pinned scenario {name} fails: {message}")]
    Failed {
        /// The scenario.
        name: String,
        /// How.
        message: String,
    },
}

/// Runs every named scenario.
///
/// # Errors
/// When one cannot be made or fails.
pub fn traces() -> Result<Pins, ConformanceError> {
    let run = |(name, scenario): (String, Scenario)| match try_scenario(&scenario) {
        Ok(run) => Ok((name, format!("{:016x}", run.trace_hash()))),
        Err(failure) => Err(ConformanceError::Failed {
            name,
            message: failure.message().to_owned(),
        }),
    };
    named()?.into_iter().map(run).collect()
}

/// The text of the file that pins them.
#[must_use]
pub fn pinned_text(pins: &Pins) -> String {
    let mut text = String::from(HEADING);
    for (name, hash) in pins {
        let _ = writeln!(text, "\"{name}\" = \"{hash}\"");
    }
    text
}

/// What differs, a line each; empty when nothing does.
#[must_use]
pub fn differences(pinned: &Pins, traces: &Pins) -> Vec<String> {
    let mut told = Vec::new();
    for (name, hash) in traces {
        match pinned.get(name) {
            Some(before) if before == hash => {}
            Some(before) => told.push(format!("{name}: pinned is {before}, it goes {hash}")),
            None => told.push(format!("{name}: not pinned, it goes {hash}")),
        }
    }
    let gone = pinned.keys().filter(|name| !traces.contains_key(*name));
    told.extend(gone.map(|name| format!("{name}: pinned, but there is no such scenario")));
    told
}

/// Each strategy on small and big images near and far, and a few with trouble of every kind.
fn named() -> Result<Vec<(String, Scenario)>, ConformanceError> {
    let mut all = Vec::new();
    for (image, host, registry) in [
        ("tiny", "laptop", "loopback"),
        ("ml-like:1GiB", "gp3-1000", "s3-like"),
        ("ml-like:64MiB", "laptop", "s3-like"),
    ] {
        for strategy in Strategy::ALL {
            let mistake = |error: String| ConformanceError::Scenario(error);
            let scenario = Scenario::single(
                ImageSource::Spec(ImageSpec::preset(image).map_err(|e| mistake(e.to_string()))?),
                Host::named(host).map_err(|e| mistake(e.to_string()))?,
                RegistryProfile::named(registry).map_err(|e| mistake(e.to_string()))?,
                strategy,
            );
            all.push((format!("{image} {host} {registry} {strategy}"), scenario));
        }
    }
    for seed in TROUBLED {
        all.push((format!("seed {seed}"), generate(*seed)));
    }
    Ok(all)
}

const HEADING: &str = "\
# Hashes over all the scheduler is told and says in named scenarios. A line that changes says that it decides otherwise:
# say in the commit why. Written by
#     cargo run -p parapull-sim -- conformance --pin
";

const TROUBLED: &[u64] = &[3, 39, 313, 605, 4_708, 7_486, 10_449, 56_994];
