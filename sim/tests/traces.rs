//! Traces that the daemon recorded: the scheduler decides the same again, byte for byte.
//!
//! Each is one busy period of a real node; see `snapshotter/tests/serve/recorded.rs` for what happened in it.

use std::path::PathBuf;

use assert_cmd::Command;

#[test]
fn the_scheduler_decides_as_it_did_when_it_was_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let trace = entry.unwrap().path();
        let output = Command::new(env!("CARGO_BIN_EXE_parapull-sim"))
            .arg("replay")
            .arg(&trace)
            .output()
            .unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {text}\n{RECORD}",
            trace.display()
        );
        assert!(text.starts_with("every decision was made again"), "{text}");
        assert!(!text.contains("mid-pull"), "{text}");
        count += 1;
    }
    assert!(count > 0, "no trace is kept");
}

/// A trace with one answer changed must not pass.
#[test]
fn another_decision_is_noticed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("traces");
    let text = std::fs::read_to_string(folder.join("busy-period.jsonl")).unwrap();
    let changed = text.replacen(r#""threads":1"#, r#""threads":3"#, 1);
    assert_ne!(changed, text);
    let file = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
    std::fs::write(file.path(), changed).unwrap();
    let assert = Command::new(env!("CARGO_BIN_EXE_parapull-sim"))
        .arg("replay")
        .arg(file.path())
        .assert();
    let output = assert.code(12).get_output().stdout.clone();
    let said = String::from_utf8(output).unwrap();
    assert!(
        said.starts_with("the scheduler decides otherwise"),
        "{said}"
    );
}

const RECORD: &str = "If this is meant, record it anew as root and say in the commit why:\n  \
    PARAPULL_KEEP_TRACE=1 cargo test -p parapull-snapshotter --test serve recorded";
