//! The command line as operators use it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use assert_cmd::Command;

fn sim() -> Command {
    Command::new(env!("CARGO_BIN_EXE_parapull-sim"))
}

fn stdout(command: &mut Command) -> String {
    let output = command.assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

#[test]
fn run_tells_seconds_and_draws() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("pull.svg");
    let text = stdout(
        sim()
            .args(["run", "--image", "ml-like:1GiB", "--host", "gp3-1000"])
            .args(["--registry", "s3-like", "--gantt"])
            .arg(&picture),
    );
    assert!(
        text.contains("lower bound") && text.contains("Ready"),
        "{text}"
    );
    let svg = std::fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("time in seconds"));
}

#[test]
fn json_is_one_document_and_the_same_every_time() {
    let run = || stdout(sim().args(["run", "--image", "tiny", "--json", "--seed", "7"]));
    let text = run();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["seed"], 7);
    assert!(document["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(text, run());
}

#[test]
fn mistakes_are_named() {
    for (arguments, code, said) in [
        (vec!["run", "--image", "huge"], 1, "known are"),
        (vec!["run"], 1, "presets"),
        (
            vec!["run", "--image", "tiny", "--strategy", "fast"],
            2,
            "streamed",
        ),
        (vec!["replay", "/nonexistent.json"], 1, "failed to read"),
    ] {
        let assert = sim().args(&arguments).assert().code(code);
        let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn the_swarm_counts_and_replay_agrees() {
    let text = stdout(sim().args(["swarm", "--seeds", "200"]));
    assert!(text.starts_with("200 scenarios held"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.json");
    let scenario = parapull_sim::generate(3);
    std::fs::write(&file, serde_json::to_string(&scenario).unwrap()).unwrap();
    let hash = |text: String| text.rsplit(' ').next().map(str::to_owned);
    let once = hash(stdout(sim().arg("replay").arg(&file)));
    assert_eq!(once, hash(stdout(sim().arg("replay").arg(&file))));
}
