//! Random scenarios, and those that once failed.

use std::path::PathBuf;

use parapull_scenario::{Canary, Scenario};
use parapull_sim::{
    Bundle, Coverage, Run, canaries, catch_canaries, generate, shrink, swarm, try_scenario,
};

/// Each scenario runs in well under a millisecond of optimised code.
const SEEDS: u64 = 10_000;

#[test]
fn every_promise_holds() {
    let (mut ready, mut coverage) = (0, Coverage::default());
    swarm(0..SEEDS, |scenario, result| {
        match result {
            Ok(run) => {
                ready += run.ready();
                coverage.add(run.coverage());
            }
            Err(failure) => panic!(
                "{failure:?}\n{}",
                serde_json::to_string(scenario).unwrap_or_default()
            ),
        }
        true
    });
    // A harness in which nothing succeeds would hold every promise too.
    assert!(ready as u64 > SEEDS / 2, "only {ready} pulls became ready");
    assert_eq!(coverage.unreached(), [], "states no scenario was in");
}

/// Scenarios on which the engine once broke a promise; the values stay what they were when the generator changes.
#[test]
fn what_once_failed_holds() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: Scenario = serde_json::from_str(&text).unwrap();
        let result = try_scenario(&scenario);
        assert!(result.is_ok(), "{}: {:?}", path.display(), result.err());
        count += 1;
    }
    assert!(count >= 10, "the corpus is gone");
}

#[test]
fn a_scenario_decides_everything() {
    for seed in 0..50 {
        let scenario = generate(seed);
        let text = serde_json::to_string(&scenario).unwrap();
        let read: Scenario = serde_json::from_str(&text).unwrap();
        assert_eq!(read, scenario);
        let (one, two) = (Run::of(&scenario).unwrap(), Run::of(&read).unwrap());
        assert_eq!(one.trace_hash(), two.trace_hash(), "seed {seed}");
        assert_eq!(one.prediction(), two.prediction(), "seed {seed}");
    }
}

/// Each kind of trouble is absent in about half of the runs or more, and every fifth run has none at all.
#[test]
fn the_swarm_leaves_each_kind_out() {
    const SEEDS: u64 = 4_000;
    let absent = |is_absent: fn(&Scenario) -> bool| {
        let count = (0..SEEDS)
            .filter(|seed| is_absent(&generate(*seed)))
            .count();
        count as u64 * 100 / SEEDS
    };
    for (kind, percent) in [
        ("crashes", absent(|s| s.mishaps.crashes.is_empty())),
        ("clogs", absent(|s| s.mishaps.clogs.is_empty())),
        ("pauses", absent(|s| s.mishaps.pauses.is_empty())),
        ("connections", absent(|s| s.mishaps.connections.is_empty())),
        ("absences", absent(|s| s.mishaps.absences.is_empty())),
        ("delivery", absent(|s| s.mishaps.delivery.is_none())),
        ("sleeps", absent(|s| s.mishaps.sleeps.is_empty())),
        ("local faults", absent(|s| s.local_faults.is_empty())),
        ("limit changes", absent(|s| s.limit_changes.is_empty())),
        ("shutdown", absent(|s| s.shutdown_ms.is_none())),
        (
            "hedges",
            absent(|s| s.hedging.is_some_and(|rules| rules.bytes_permille == 0)),
        ),
    ] {
        assert!((50..=98).contains(&percent), "no {kind} in {percent} %");
    }
    let clean = absent(|s| s.faults.faults.is_empty() && s.mishaps.is_none());
    assert!((18..=30).contains(&clean), "{clean} % are clean");
}

/// The oracle is not blind: a fault that nothing survives must end in a failure it names.
#[test]
fn a_registry_without_the_blob_fails_the_pull() {
    let text = r#"{"pulls": [{"image": {"spec": {"preset": "tiny"}}}],
        "faults": {"faults": [{"target": {"layer": 1}, "kind": {"status": {"code": 404}}}]}}"#;
    let scenario: Scenario = serde_json::from_str(text).unwrap();
    let run = try_scenario(&scenario).unwrap();
    assert_eq!(run.ready(), 0);
    assert!(format!("{:?}", run.prediction().pulls[0].outcome).contains("NotFound"));
}

/// A harness that lets a lie of its own world pass would let any bug pass.
#[test]
fn every_canary_is_caught() {
    assert_eq!(catch_canaries(), Ok(5));
}

/// A bundle is the scenario, how it failed and how it came to that; it reads back as the same scenario.
#[test]
fn a_failure_is_kept_whole() {
    for canary in canaries() {
        let failure = try_scenario(&canary.scenario).unwrap_err();
        let bundle = Bundle::of(&canary.scenario, &failure);
        let text = serde_json::to_string_pretty(&bundle).unwrap();
        let read = Bundle::scenario_in(&text).unwrap();
        assert_eq!(read, canary.scenario);
        assert_eq!(try_scenario(&read).unwrap_err(), failure);
        assert!(
            (5..=200).contains(&bundle.trace_tail.len()),
            "{} lines",
            bundle.trace_tail.len()
        );
        assert_eq!(bundle.name().unwrap().len(), 16);
    }
}

/// Shrinking keeps how a scenario fails and makes it smaller.
#[test]
fn a_failure_shrinks_to_less_that_fails_alike() {
    let with_canary = |seed| {
        let mut scenario = generate(seed);
        scenario.mishaps.canary = Some(Canary::LeftTree);
        scenario
    };
    let scenario = (23..)
        .map(with_canary)
        .find(|scenario| try_scenario(scenario).is_err())
        .unwrap();
    let before = try_scenario(&scenario).unwrap_err();
    let shrunk = shrink(&scenario, 3_000).unwrap().unwrap();
    assert_eq!(shrunk.failure.check(), before.check());
    assert_eq!(try_scenario(&shrunk.scenario).unwrap_err(), shrunk.failure);
    let layers = |scenario: &Scenario| -> usize {
        let pulls = scenario.pulls.iter();
        pulls.map(|pull| pull.image.layers().len()).sum()
    };
    assert_eq!(layers(&shrunk.scenario), 1, "{:?}", shrunk.scenario);
    assert!(shrunk.scenario.faults.faults.is_empty());
    assert_eq!(
        shrink(&generate(scenario.seed), 10)
            .unwrap()
            .map(|s| s.runs),
        None
    );
}
