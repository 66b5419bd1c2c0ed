//! The embedded demo, with a puller made of `tar`: equal trees succeed, a single wrong file fails it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use parapull_bench::layout::Layout;
use parapull_bench::processes::Programs;
use parapull_bench::pulls::{RegistryKind, Stage, StageOptions};
use parapull_engine::Strategy;
use support::{can_run, directory, file, hard_link, hello_program, symlink, write_layout};

fn write_image(to: &Path) {
    let layers = [
        vec![
            directory("bin/", 0o755, 1_500_000_000),
            file("bin/hello", 0o755, &hello_program()),
            symlink("bin/sh", "hello"),
        ],
        vec![
            file("srv/implied/data", 0o640, &vec![3; 100_000]),
            hard_link("srv/again", "srv/implied/data"),
        ],
    ];
    write_layout(to, &layers, &["/bin/hello"]);
}

/// Keeps the command's promises about folders and JSON, and unpacks with GNU tar.
fn write_puller(programs: &Path, layout: &Layout) {
    let mut script = String::from(
        "#!/bin/sh -e\n[ \"$1\" = --version ] && { echo parapull-snapshotter 9.9.9; exit; }\n\
         while [ $# -gt 0 ]; do case $1 in --to) to=$2;; --strategy) strategy=$2;; esac; shift; done\n",
    );
    for (number, layer) in layout.layers.iter().enumerate() {
        let folder = format!("\"$to/layers/{number:03}-{}/fs\"", &layer.digest[7..19]);
        script.push_str(&format!(
            "mkdir -p {folder}; tar -xzpf {} -C {folder}\n",
            layer.blob.display()
        ));
    }
    script.push_str(
        "[ \"$BREAK\" = \"$strategy\" ] && echo x | tee -a \"$to\"/layers/001-*/fs/srv/implied/data > /dev/null\n\
         echo '{\"seconds\": 1.5, \"bytes_fetched\": 7, \"bytes_written\": 8, \"peak_rss_bytes\": 9, \"layers\": []}'\n",
    );
    fs::create_dir_all(programs).unwrap();
    let path = programs.join("parapull-snapshotter");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn demo(folder: &Path, breaking: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parapull-bench"))
        .args(["demo", "--embedded", "--registry", "docker", "--image"])
        .arg(folder.join("layout"))
        .arg("--programs")
        .arg(folder.join("programs"))
        .arg("--out")
        .arg(folder.join("out"))
        .env("BREAK", breaking)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap()
}

#[test]
fn equal_trees_succeed_and_one_wrong_file_fails() {
    if !can_run("demo", &["docker-registry", "skopeo", "tar"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_image(&folder.path().join("layout"));
    let layout = Layout::open(&folder.path().join("layout")).unwrap();
    write_puller(&folder.path().join("programs"), &layout);

    let good = demo(folder.path(), "nothing");
    let stdout = String::from_utf8_lossy(&good.stdout);
    assert!(
        good.status.success(),
        "{stdout}{}",
        String::from_utf8_lossy(&good.stderr)
    );
    assert!(
        stdout.contains("trees equal: yes") && stdout.contains("streamed"),
        "{stdout}"
    );
    assert!(folder.path().join("out/comparison.svg").is_file());
    assert!(folder.path().join("out/timeline.svg").is_file());
    assert!(
        stdout.contains("simulated only: no trace was recorded"),
        "{stdout}"
    );

    let bad = demo(folder.path(), "streamed");
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stdout).contains("trees equal: NO"));
    let stderr = String::from_utf8_lossy(&bad.stderr);
    for needle in [
        "layer 1 /srv/implied/data: size 100000 ≠ 100002",
        "merged /srv/again: size",
    ] {
        assert!(stderr.contains(needle), "{needle}: {stderr}");
    }
}

#[test]
fn a_missing_program_says_how_to_get_it() {
    if !can_run("demo programs", &["docker-registry", "skopeo"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_image(&folder.path().join("layout"));
    fs::create_dir(folder.path().join("programs")).unwrap();
    let output = demo(folder.path(), "nothing");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("cargo build --bin parapull-snapshotter"),
        "{stderr}"
    );
}

/// Whether the project's own programs are there to be run.
fn programs_are_built(test: &str) -> bool {
    // They belong to other packages, which a test of this one does not build.
    let programs = Programs::beside_this_one();
    if programs.snapshotter().is_err() || programs.fake_registry().is_err() {
        assert!(
            std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
            "build the workspace's programs first"
        );
        eprintln!("SKIPPED {test}: parapull-snapshotter or fake-registry is not built");
        return false;
    }
    true
}

/// Folders of a pull whose `tree_sha256` is not what its command printed fail the demo.
#[test]
fn the_embedded_demo_pulls_for_real_and_draws_what_it_measured() {
    if !can_run("embedded demo", &[]) || !programs_are_built("embedded demo") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for image in ["tiny", "metadata"] {
        let output = Command::new(env!("CARGO_BIN_EXE_parapull-bench"))
            .args(["demo", "--embedded", "--image", image, "--out"])
            .arg(folder.path().join("out"))
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{image}: {stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            stdout.contains("trees equal: yes")
                && stdout.contains("our pull over time, measured above simulated"),
            "{image}: {stdout}"
        );
        let report = fs::read(folder.path().join("out/report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        for line in report["summary"].as_array().unwrap() {
            assert!(line["simulated_seconds"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
}

#[test]
fn the_pull_command_says_the_digest_that_its_folders_have() {
    if !can_run("tree digest", &[]) || !programs_are_built("tree digest") {
        return;
    }
    let options = StageOptions {
        image: "metadata".into(),
        registry: RegistryKind::Fake,
        profile: None,
        work: None,
        programs: Programs::beside_this_one(),
        containerd: None,
    };
    let stage = Stage::prepare(&options).unwrap();
    let found = stage.pull_by_command(Strategy::Streamed, 0).unwrap().run;
    let target = stage.work().join("by-hand");
    let output = Command::new(options.programs.snapshotter().unwrap())
        .args(["pull", stage.reference(), "--json", "--to"])
        .arg(&target)
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["tree_sha256"], found.tree_sha256.as_str());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let program = env!("CARGO_BIN_EXE_parapull-bench");
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{program} report {} | true", folder.path().display());
    let result = serde_json::json!({
        "schema": 1, "command": "x".repeat(200_000), "revision": "", "limits": null, "runs": [], "summary": [],
        "machine": {"cpu": "", "cores": 2, "memory_bytes": 0, "kernel": "", "filesystem": "", "load": 0.0},
        "image": {"name": "", "layers": 0, "compressed_bytes": 0, "uncompressed_bytes": 0, "files": 0},
    });
    fs::write(folder.path().join("report.json"), result.to_string()).unwrap();
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
}

#[test]
fn the_demo_runs_through_a_real_containerd() {
    if !can_run("demo through containerd", &["containerd", "ctr", "runc"])
        || !programs_are_built("demo through containerd")
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for image in ["tiny", "metadata"] {
        let output = Command::new(env!("CARGO_BIN_EXE_parapull-bench"))
            .args(["demo", "--image", image, "--out"])
            .arg(folder.path().join("out"))
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{image}: {stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for needle in [
            "containerd",
            "parapull",
            "trees equal: yes",
            "a container from the parapull image says: hello",
        ] {
            assert!(stdout.contains(needle), "{image}: {needle}: {stdout}");
        }
    }
}
