//! Scenarios in which the world lies, one for each kind of lie: a harness that lets one pass would let any bug pass.

use parapull_engine::Strategy;
use parapull_scenario::{
    Canary, Encoding, Host, ImageSource, PlannedLayer, RegistryProfile, Scenario,
};

use crate::swarm::{Failure, try_scenario};

/// A scenario that must fail, and how.
#[derive(Clone, Debug)]
pub struct CanaryScenario {
    /// The scenario.
    pub scenario: Scenario,
    /// The exit code of its failure.
    pub exit_code: u8,
}

/// The scenarios that must fail.
#[must_use]
pub fn canaries() -> Vec<CanaryScenario> {
    let canary = |canary| CanaryScenario {
        scenario: scenario(canary),
        exit_code: match canary {
            Canary::Panic => 10,
            Canary::LostCompletion | Canary::Livelock => 11,
            Canary::CountedTwice | Canary::LeftTree => 12,
        },
    };
    Canary::ALL.into_iter().map(canary).collect()
}

/// Runs all of them.
///
/// # Errors
/// Names the first one that was not noticed, or taken for something else.
pub fn catch_canaries() -> Result<usize, String> {
    let canaries = canaries();
    for canary in &canaries {
        let seen = try_scenario(&canary.scenario).map(|run| run.ready());
        if seen.as_ref().map_err(Failure::exit_code) != Err(canary.exit_code) {
            let name = &canary.scenario.name;
            return Err(format!(
                "{name} was to fail with {}, but it went: {seen:?}",
                canary.exit_code
            ));
        }
    }
    Ok(canaries.len())
}

/// Two images that share a layer, so that there are fetches, lanes, clones and links to lie about.
fn scenario(canary: Canary) -> Scenario {
    let layer = |content| PlannedLayer {
        content,
        compressed_bytes: 3 << 20,
        uncompressed_bytes: 9 << 20,
        entries: 20,
        encoding: Encoding::Gzip,
        sources: 1,
    };
    let mut scenario = Scenario::single(
        ImageSource::Layers(vec![layer(0), layer(1)]),
        Host::default(),
        RegistryProfile::default(),
        Strategy::Streamed,
    );
    let mut second = scenario.pulls[0].clone();
    second.image = ImageSource::Layers(vec![layer(2), layer(1)]);
    scenario.pulls.push(second);
    scenario.name = format!("canary {canary:?}");
    scenario.mishaps.canary = Some(canary);
    scenario
}
