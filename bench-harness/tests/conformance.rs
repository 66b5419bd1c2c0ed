//! The snapshotter suite of containerd 2, over the socket of the daemon as it is started on a node.
//!
//! The suite is a Go module, pinned by checksums and compiled here; where the machine's Go is too old for it, Debian 13's is
//! unpacked into the cache. The suite of containerd 1.6 runs in `snapshotter/tests/conformance.rs`.
//!
//! Needs the workspace's programs beside the test (`cargo build --bins`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parapull_bench::processes::{Snapshotter, SnapshotterOptions, Workspace, debian};
use support::node::programs;

#[test]
fn passes_the_snapshotter_suite_of_containerd_2() {
    let test = "passes_the_snapshotter_suite_of_containerd_2";
    let Some(programs) = programs(test) else {
        return;
    };
    let suite = compiled_suite(test);
    let workspace = Workspace::new(None).unwrap();
    let folder = workspace.folder("p").unwrap();
    let options = SnapshotterOptions {
        // Manifests are read from containerd for pulls only, and the suite makes none.
        containerd_socket: workspace.path().join("absent.sock"),
        ..SnapshotterOptions::default()
    };
    let snapshotter = Snapshotter::start(&programs, &folder, &options).unwrap();
    let work = workspace.folder("work").unwrap();
    let output = Command::new(suite)
        // The suite insists on root and makes its own temporary directories.
        .args(["-test.v", "-test.root", "-test.timeout=300s"])
        .env("SNAPSHOTTER_SOCKET", &snapshotter.proxy().socket)
        .env("TMPDIR", &work)
        .current_dir(&work)
        .output()
        .unwrap();

    let cases = cases(&output);
    let bad: Vec<&(String, String)> = cases.iter().filter(|(_, end)| end != "PASS").collect();
    let report = String::from_utf8_lossy(&output.stdout);
    let log = snapshotter.log_tail();
    assert!(bad.is_empty(), "{bad:?}\n{report}\n{log}");
    assert_eq!(cases.len(), CASES, "{report}\n{log}");
    assert!(output.status.success(), "{report}\n{log}");
}

fn compiled_suite(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    let suite = folder.join("suite.test");
    let output = Command::new(go(test))
        .args(["test", "-c", "-o"])
        .arg(&suite)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"))
        // Neither another toolchain nor a changed module may creep in.
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly")
        .env("GO111MODULE", "on")
        .env("GOCACHE", folder.join("cache"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{test}: the suite does not compile: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    suite
}

/// The machine's Go where it is new enough, else Debian 13's.
fn go(test: &str) -> OsString {
    let version = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output();
    let text = version.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    if is_new_enough(text.trim()) {
        return "go".into();
    }
    let unpacked = debian::unpacked("trixie", &["golang-1.24-go", "golang-1.24-src"]);
    let folder = unpacked.unwrap_or_else(|error| panic!("{test}: failed to {error}"));
    folder.join("usr/lib/go-1.24/bin/go").into()
}

/// Whether `go1.26.8` and the like is at least what the module asks for.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("go").splitn(3, '.');
    let mut next = || {
        let number: Option<u32> = numbers.next()?.parse().ok();
        number
    };
    (next().unwrap_or(0), next().unwrap_or(0)) >= (1, 25)
}

#[test]
fn a_go_that_is_too_old_or_absent_is_told_apart() {
    for (version, expected) in [
        ("go1.19.8", false),
        ("go1.24.2", false),
        ("go1.25.0", true),
        ("go1.26.8", true),
        ("go2.0", true),
        ("", false),
    ] {
        assert_eq!(is_new_enough(version), expected, "{version}");
    }
}

/// The cases of the suite and how each ended.
fn cases(output: &Output) -> Vec<(String, String)> {
    let report = String::from_utf8_lossy(&output.stdout);
    let case = |line: &str| {
        let line = line.trim_start().strip_prefix("--- ")?;
        let (end, rest) = line.split_once(": TestSuite/")?;
        let name = rest.split([' ', '/']).next()?;
        Some((name.to_owned(), end.to_owned()))
    };
    report.lines().filter_map(case).collect()
}

/// How many cases the suite has.
const CASES: usize = 21;
