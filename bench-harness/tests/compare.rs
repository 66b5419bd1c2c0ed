//! The program itself against real peers: a report is written, the trees are equal, nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use parapull_bench::processes::mounts_below;
use serde_json::Value;
use support::{can_run, directory, file, hello_program, write_layout};

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_parapull-bench"))
}

/// A few megabytes in three layers, half of them hard to compress.
fn write_image(to: &Path) {
    let mut state = 1_u32;
    let mut noise = |bytes: usize| -> Vec<u8> {
        let next = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        });
        next.take(bytes).collect()
    };
    let layers = [
        vec![
            directory("bin/", 0o755, 1_500_000_000),
            file("bin/hello", 0o755, &hello_program()),
            directory("dev/", 0o755, 1_500_000_000),
            directory("proc/", 0o555, 1_500_000_000),
            directory("sys/", 0o555, 1_500_000_000),
        ],
        vec![
            file("opt/model", 0o644, &noise(6 << 20)),
            file("opt/zeros", 0o644, &vec![0; 8 << 20]),
        ],
        vec![
            file("opt/other", 0o644, &noise(2 << 20)),
            file("opt/.wh.zeros", 0o644, b""),
        ],
    ];
    write_layout(to, &layers, &["/bin/hello"]);
}

#[test]
fn peers_are_compared_and_reported() {
    if !can_run(
        "compare",
        &["containerd", "runc", "docker-registry", "skopeo", "unpigz"],
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write_image(&layout);
    let (out, work) = (folder.path().join("out"), folder.path().join("work"));
    let output = bench()
        .args([
            "compare",
            "--registry",
            "docker",
            "--peers",
            "containerd:go,containerd:unpigz",
        ])
        .args(["--reps", "2", "--json", "--out"])
        .arg(&out)
        .arg("--work")
        .arg(&work)
        .arg("--image")
        .arg(&layout)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_result(&result);
    for name in ["report.json", "runs.csv", "report.md", "comparison.svg"] {
        assert!(out.join(name).is_file(), "{name} is missing");
    }
    assert!(mounts_below(folder.path()).is_empty());
    assert_eq!(
        fs::read_dir(&work).unwrap().count(),
        0,
        "the workspace is left"
    );

    let shown = bench().arg("report").arg(&out).output().unwrap();
    assert!(shown.status.success());
    assert!(String::from_utf8_lossy(&shown.stdout).contains("containerd:unpigz"));
    assert!(out.join("index.html").is_file());
}

fn assert_result(result: &Value) {
    assert_eq!(result["schema"], 1);
    assert_eq!(result["image"]["layers"], 3);
    let runs = result["runs"].as_array().unwrap();
    let order: Vec<&str> = runs
        .iter()
        .map(|run| run["peer"].as_str().unwrap())
        .collect();
    assert_eq!(
        order,
        [
            "containerd:go",
            "containerd:unpigz",
            "containerd:unpigz",
            "containerd:go"
        ]
    );
    for run in runs {
        assert_eq!(run["tree_sha256"], runs[0]["tree_sha256"]);
        assert!(run["seconds"].as_f64().unwrap() > 0.0);
        assert!(run["peak_rss_bytes"].as_u64().unwrap() > 10 << 20);
        assert!(
            run["bytes_fetched"].as_u64().unwrap()
                >= result["image"]["compressed_bytes"].as_u64().unwrap()
        );
    }
    assert_eq!(result["summary"][0]["n"], 2);
    let limits = &result["limits"];
    assert!(limits["fetch_bytes_per_second"].as_f64().unwrap() > 1e6);
    assert!(result["summary"][0]["ratio_to_limit"].as_f64().unwrap() > 0.0);
}

#[test]
fn misuse_is_told_before_anything_starts() {
    for (arguments, needle) in [
        (
            &[
                "compare",
                "--image",
                "tiny",
                "--out",
                "x",
                "--strategies",
                "stream",
            ][..],
            "sequential",
        ),
        (
            &[
                "compare", "--image", "tiny", "--out", "x", "--peers", "streamed",
            ],
            "--strategies",
        ),
        (
            &["compare", "--out", "x", "--peers", "containerd"],
            "--image",
        ),
        (&["compare", "--image", "tiny", "--out", "x"], "--peers"),
        (
            &[
                "compare",
                "--image",
                "tiny",
                "--out",
                "x",
                "--peers",
                "containerd",
                "--reps",
                "0",
            ],
            "--reps",
        ),
    ] {
        let output = bench().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(needle), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_interrupted_run_cleans_up() {
    if !can_run(
        "interrupt",
        &["containerd", "runc", "docker-registry", "skopeo"],
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write_image(&layout);
    let work = folder.path().join("work");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_parapull-bench"))
        .args([
            "compare",
            "--registry",
            "docker",
            "--peers",
            "containerd:go",
            "--reps",
            "1000",
            "--out",
        ])
        .arg(folder.path().join("out"))
        .arg("--work")
        .arg(&work)
        .arg("--image")
        .arg(&layout)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // It is in the middle of it once its first containerd has a socket.
    let started = || {
        fs::read_dir(&work)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.path().join("cri/containerd/c.sock").exists())
    };
    while !started() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(mounts_below(folder.path()).is_empty());
    assert_eq!(
        fs::read_dir(&work).unwrap().count(),
        0,
        "the workspace is left"
    );
    let processes = std::process::Command::new("ps")
        .args(["-eo", "args"])
        .output()
        .unwrap();
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    assert!(!processes.contains(work.to_str().unwrap()), "{processes}");
}
