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

/// Each kind of failure has its exit code, and what `replay` says is what was asked for.
#[test]
fn a_lie_of_each_kind_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut codes = Vec::new();
    for canary in parapull_sim::canaries() {
        let file = folder.path().join("canary.json");
        std::fs::write(&file, serde_json::to_string(&canary.scenario).unwrap()).unwrap();
        let assert = sim().arg("replay").arg(&file).assert();
        let output = assert
            .code(i32::from(canary.exit_code))
            .get_output()
            .clone();
        let text = String::from_utf8(output.stdout).unwrap();
        let kind = match canary.exit_code {
            10 => "Crash: ",
            11 => "Liveness: ",
            _ => "Correctness: ",
        };
        assert!(text.starts_with(kind), "{}: {text}", canary.scenario.name);
        codes.push(canary.exit_code);
    }
    codes.dedup();
    assert_eq!(codes, [10, 11, 12]);
}

#[test]
fn two_processes_go_the_same_way_and_a_difference_is_named() {
    let text = stdout(sim().args(["meta", "--seeds", "20", "--from", "100"]));
    assert!(text.starts_with("20 scenarios went the same way"), "{text}");
    let assert = sim().args(["meta", "--seeds", "3", "--canary"]).assert();
    let output = assert.code(12).get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(
        text.starts_with("seed 2: the processes part after"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3, "{text}");
}
