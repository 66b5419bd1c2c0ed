//! The fuzz targets, for a while each. What a target checks stands with the snapshotter's tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps::{Steps, succeed};
use crate::workspace::Workspace;

/// Runs every target, the committed inputs first; what is found new is kept beside the build and used again.
pub(super) fn run(workspace: &Workspace, steps: &mut Steps, seconds_each: u64) {
    if let Some(why) = missing() {
        println!("\nSKIPPED the fuzz targets: {why}");
        return;
    }
    for target in TARGETS {
        steps.run(&format!("fuzz {target}"), || {
            let place = Place::make()?;
            let found = workspace.target().join("fuzz-corpus").join(target);
            std::fs::create_dir_all(&found)?;
            let folder = workspace.root().join("snapshotter/fuzz");
            let mut fuzz = cargo_fuzz();
            fuzz.args(["run", target, "--fuzz-dir"])
                .arg(&folder)
                .arg("--target-dir")
                .arg(workspace.target().join("fuzz"))
                .arg(found)
                .arg(folder.join("corpus").join(target))
                .arg("--")
                .arg(format!("-max_total_time={seconds_each}"))
                .args(["-max_len=16384", "-timeout=20", "-print_final_stats=1"])
                .env("TMPDIR", &place.0);
            succeed(&mut fuzz)
        });
    }
}

/// Why the targets cannot be built here.
fn missing() -> Option<&'static str> {
    let answers = cargo_fuzz()
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = answers.is_ok_and(|status| status.success());
    (!is_there).then_some(
        "they need `rustup toolchain install nightly` and `cargo install cargo-fuzz --locked`",
    )
}

fn cargo_fuzz() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]);
    command
}

/// Where the targets make their trees: a fuzzer ends without tidying up.
struct Place(PathBuf);

impl Place {
    fn make() -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let place = parent.join(format!("parapull-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&place)?;
        Ok(Self(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("failed to remove {}: {error}", self.0.display());
        }
    }
}

const TARGETS: &[&str] = &["tar_apply", "tar_entries", "stream_framing", "texts"];
