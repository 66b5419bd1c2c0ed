//! Random scenarios, and those that once failed.

use std::path::PathBuf;

use parapull_scenario::Scenario;
use parapull_sim::{Bundle, Run, canaries, catch_canaries, generate, swarm, try_scenario};

/// Each scenario runs in well under a millisecond of optimised code.
const SEEDS: u64 = 10_000;

#[test]
fn every_promise_holds() {
    let mut ready = 0;
    swarm(0..SEEDS, |scenario, result| {
        match result {
            Ok(run) => ready += run.ready(),
            Err(failure) => panic!(
                "{failure:?}\n{}",
                serde_json::to_string(scenario).unwrap_or_default()
            ),
        }
        true
    });
    // A harness in which nothing succeeds would hold every promise too.
    assert!(ready as u64 > SEEDS / 2, "only {ready} pulls became ready");
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

/// The generator must not quietly stop making what it is there for.
#[test]
fn the_swarm_meets_everything_it_is_meant_to() {
    let (mut degraded, mut corrupt, mut retried, mut local, mut clean) = (0, 0, 0, 0, 0);
    swarm(0..2_000, |scenario, result| {
        if let Ok(run) = result {
            let seen = run.seen();
            degraded += seen.degraded;
            corrupt += seen.new_lives;
            retried += seen.retries;
            local += seen.local_faults;
            clean += u64::from(scenario.faults.faults.is_empty() && seen.faults_met == 0);
        }
        true
    });
    for (what, count) in [
        ("refused ranges", degraded),
        ("corrupt blobs", corrupt),
        ("retries", retried),
        ("faults of the node", local),
        ("clean runs", clean),
    ] {
        assert!(count >= 50, "only {count} {what}");
    }
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
