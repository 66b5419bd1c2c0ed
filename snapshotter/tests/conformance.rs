//! containerd's own snapshotter suite, run over the wire against our server.
//!
//! Goal: every case that containerd's overlayfs passes, we pass. Method: a Go program made of Debian's packaged containerd sources dials a
//! server that runs in this process, with its store on a tmpfs, and mounts what it is told to mount.

#[path = "conformance/served.rs"]
mod served;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use served::{Served, skip, temporary_directory};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_containerd_s_snapshotter_suite() {
    let suite = match compiled_suite() {
        Ok(suite) => suite,
        Err(why) => return skip("passes_containerd_s_snapshotter_suite", &why),
    };
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let mut command = Command::new(suite);
    // The suite insists on root and makes its own temporary directories.
    command
        .args(["-test.v", "-test.root", "-test.timeout=300s"])
        .env("SNAPSHOTTER_SOCKET", served.socket())
        .env("TMPDIR", root.path())
        .current_dir(root.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    served.stop().await;

    let cases = cases(&output);
    let with = |result: &str| -> Vec<&str> {
        let found = cases.iter().filter(|(_, ended)| ended == result);
        found.map(|(name, _)| name.as_str()).collect()
    };
    let report = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(with("FAIL"), [""; 0], "{report}\n{log}");
    assert_eq!(
        with("SKIP"),
        ["Rename"],
        "the suite skips this one itself:\n{report}"
    );
    assert_eq!(with("PASS").len(), CASES - 1, "{report}\n{log}");
    assert!(output.status.success(), "{report}\n{log}");
}

/// Compiles the suite, or says what is missing for that.
fn compiled_suite() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("mounting needs root".to_owned());
    }
    if !Path::new(PACKAGED).is_dir() {
        return Err(
            "the Debian package golang-github-containerd-containerd-dev is not installed"
                .to_owned(),
        );
    }
    let go_path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    let suite = go_path.join("suite.test");
    let output = Command::new("go")
        .args(["test", "-c", "-o"])
        .arg(&suite)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"))
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", format!("{}:{GO_CODE}", go_path.display()))
        .env("GOCACHE", go_path.join("cache"))
        .output()
        .map_err(|error| format!("cannot run go: {error}"))?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(suite)
}

/// The cases of the suite and how each ended.
fn cases(output: &Output) -> Vec<(String, String)> {
    let report = String::from_utf8_lossy(&output.stdout);
    let case = |line: &str| {
        let (result, rest) = line
            .trim_start()
            .strip_prefix("--- ")?
            .split_once(": TestSuite/")?;
        let name = rest.split([' ', '/']).next()?;
        Some((name.to_owned(), result.to_owned()))
    };
    report.lines().filter_map(case).collect()
}

const GO_CODE: &str = "/usr/share/gocode";
const PACKAGED: &str = "/usr/share/gocode/src/github.com/containerd/containerd/snapshots/testsuite";
/// How many cases the suite of containerd 1.6.20 has.
const CASES: usize = 21;
