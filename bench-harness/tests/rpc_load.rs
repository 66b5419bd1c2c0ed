//! `parapull-bench rpc-load` in its shortest form: that it works and what it writes, not how long anything takes.
//!
//! Needs the workspace's programs beside the test (`cargo build --bins`).

mod support;

use assert_cmd::Command;
use serde_json::Value;
use support::node::programs;

#[test]
fn every_call_is_measured_idle_and_under_load() {
    if programs("every_call_is_measured_idle_and_under_load").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::cargo_bin("parapull-bench")
        .unwrap()
        .args(["rpc-load", "--snapshots", "45", "--pulls", "2", "--json"])
        .args([
            "--image",
            "ml-like:20MB",
            "--reps",
            "2",
            "--idle-seconds",
            "0",
        ])
        .arg("--out")
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written = std::fs::read(folder.path().join("report.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), result);
    let calls = result["calls"].as_array().unwrap();
    for call in [
        "Stat",
        "List",
        "List (filter)",
        "Usage",
        "Prepare",
        "Commit",
        "Remove",
    ] {
        for state in ["idle", "load"] {
            let found = calls
                .iter()
                .find(|row| row["call"] == call && row["state"] == state);
            let row = found.unwrap_or_else(|| panic!("no {call} {state}: {calls:?}"));
            let number = |key: &str| row[key].as_f64().unwrap();
            assert!(number("n") >= 1.0 && number("p50_ms") > 0.0, "{row}");
            assert!(number("p50_ms") <= number("p99_ms"), "{row}");
            assert!(number("p99_ms") <= number("max_ms"), "{row}");
        }
    }
    assert_eq!(result["pull_seconds"].as_array().unwrap().len(), 2);
    let goals: Vec<&str> = result["goals"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|goal| goal["call"].as_str())
        .collect();
    assert_eq!(goals, ["Stat", "Commit"]);
    let report = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert!(
        report.contains("45 snapshots") && report.contains("| Commit |"),
        "{report}"
    );
}
