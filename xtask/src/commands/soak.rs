//! `soak`: the same proofs for as long as one likes.

mod fuzz;

use std::ops::Range;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use crate::packages::{is_root, missing};
use crate::steps::{Steps, seconds, succeed};
use crate::workspace::Workspace;

/// Repeat the simulator's swarm with fresh seeds, demos, comparisons, random layers and the fuzz targets until the time is
/// over.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask soak --minutes 120\n\nA round starts as long as there is time; it stops at \
                        the end of the round in which something failed."
)]
pub(crate) struct Soak {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 30)]
    minutes: u64,

    /// First seed of the swarm; rounds go on from there
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    from: u64,

    /// Random sequences of layers to compare with containerd's applier in each round
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sequences: u64,
}

impl Soak {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Workspace::find()?;
        let mut steps = Steps::default();
        let started = Instant::now();
        let time = Duration::from_secs(self.minutes * 60);
        let is_built = steps.run("build", || build(&workspace));
        if is_built && is_root() {
            steps.run("a layer of 10 GiB", || huge_layer(&workspace));
        }
        let mut from = self.from;
        for round in 1.. {
            let left = time.saturating_sub(started.elapsed());
            if !is_built || left.is_zero() || steps.failed() > 0 {
                break;
            }
            println!("\n==== round {round}, {} left", seconds(left));
            let swarm_seconds = SWARM_SECONDS.min(left.as_secs().max(1));
            run_round(&workspace, &mut steps, round, from, swarm_seconds)?;
            sequences(&workspace, &mut steps, from..from + self.sequences);
            let left = time.saturating_sub(started.elapsed()).as_secs();
            fuzz::run(&workspace, &mut steps, FUZZ_SECONDS.min(left / 4 + 1));
            from += SEEDS_PER_ROUND;
        }
        println!("\n{}", steps.table());
        println!("seeds {} to {}", self.from, from);
        Ok(if steps.failed() > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Release speed for the pulls; the simulator with every assertion on.
fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let build = ["build", "--quiet", "--locked", "--bins"];
    let real = [
        "--package",
        "parapull-bench",
        "--package",
        "parapull-snapshotter",
        "--package",
        "fake-registry",
    ];
    succeed(workspace.cargo().args(build).arg("--release").args(real))?;
    succeed(
        workspace
            .cargo()
            .args(build)
            .args(["--profile", "sim", "--package", "parapull-sim"]),
    )
}

fn run_round(
    workspace: &Workspace,
    steps: &mut Steps,
    round: u64,
    from: u64,
    swarm_seconds: u64,
) -> anyhow::Result<()> {
    let image = IMAGES[usize::try_from(round)? % IMAGES.len()];
    let scratch = workspace.target().join("soak");
    steps.run(&format!("swarm from seed {from}"), || {
        let mut swarm = Command::new(workspace.binary("sim", "parapull-sim"));
        swarm
            .args(["swarm", "--seeds", &SEEDS_PER_ROUND.to_string()])
            .args(["--from", &from.to_string()])
            .args(["--time", &swarm_seconds.to_string()])
            .current_dir(workspace.root());
        succeed(&mut swarm)
    });
    let bench = || Command::new(workspace.binary("release", "parapull-bench"));
    let has_containerd = is_root() && missing(crate::packages::FOR_DEMO).is_empty();
    steps.run(&format!("demo of {image}"), || {
        let mut demo = bench();
        demo.args(["demo", "--image", image])
            .arg("--out")
            .arg(scratch.join("demo"));
        if !has_containerd {
            demo.arg("--embedded");
        }
        succeed(&mut demo)?;
        nothing_left()
    });
    if has_containerd {
        steps.run("kills at every point of a pull", || kills(workspace));
    }
    steps.run(&format!("strategies on {image}"), || {
        let mut compare = bench();
        compare
            .args(["compare", "--image", image, "--reps", "2"])
            .args(["--strategies", "sequential,store-then-unpack,streamed"])
            .arg("--out")
            .arg(scratch.join("compare"));
        if has_containerd {
            compare.args(["--peers", "containerd"]);
        }
        succeed(&mut compare)?;
        nothing_left()
    });
    if has_containerd {
        steps.run(&format!("every containerd on {image}"), || {
            let mut compatibility = bench();
            compatibility
                .args(["compatibility", "--image", image, "--reps", "1", "--out"])
                .arg(scratch.join("compatibility"));
            succeed(&mut compatibility)?;
            nothing_left()
        });
    }
    Ok(())
}

/// The memory of lanes on a layer larger than the machine's; optimised, because they guess at every byte of it.
fn huge_layer(workspace: &Workspace) -> anyhow::Result<()> {
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--quiet", "--locked", "--release"])
        .args([
            "--package",
            "parapull-snapshotter",
            "--test",
            "unpack_memory",
        ])
        .args(["--", "--nocapture"])
        .env("PARAPULL_HUGE_LAYER_MIB", "10240");
    succeed(&mut cargo)
}

/// All points and many instants, where a test run kills at a few. The test tells its seed.
fn kills(workspace: &Workspace) -> anyhow::Result<()> {
    let killable = ["--features", "parapull-snapshotter/kill-points"];
    let packages = [
        "-p",
        "parapull-bench",
        "-p",
        "parapull-snapshotter",
        "-p",
        "fake-registry",
    ];
    let cargo = || {
        let mut cargo = workspace.cargo();
        cargo.env("PARAPULL_KILLS", "all");
        cargo
    };
    succeed(
        cargo()
            .args(["build", "--quiet", "--locked", "--bins"])
            .args(packages)
            .args(killable),
    )?;
    let test = ["test", "--quiet", "--locked", "--test", "kills"];
    succeed(
        cargo()
            .args(test)
            .args(packages)
            .args(killable)
            .args(["--", "--nocapture"]),
    )?;
    nothing_left()
}

/// Random sequences of layers, unpacked here and by containerd. `PARAPULL_SEQUENCES` repeats any of them.
fn sequences(workspace: &Workspace, steps: &mut Steps, seeds: Range<u64>) {
    steps.run(&format!("layer sequences {seeds:?}"), || {
        let mut cargo = workspace.cargo();
        cargo
            .args([
                "test",
                "--quiet",
                "--locked",
                "--package",
                "parapull-snapshotter",
            ])
            .args(["--test", "unpack_layers", "random_sequences_are", "--"])
            .arg("--nocapture")
            .env(
                "PARAPULL_SEQUENCES",
                format!("{}..{}", seeds.start, seeds.end),
            );
        succeed(&mut cargo)
    });
}

/// After a pull no mount of a snapshotter may stay behind.
fn nothing_left() -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let left: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains("parapull"))
        .collect();
    if !left.is_empty() {
        bail!("mounts stayed behind:\n{}", left.join("\n"));
    }
    Ok(())
}

/// What the rounds pull in turn: sizes that fit any machine, and each kind of trouble once.
const IMAGES: &[&str] = &[
    "tiny",
    "metadata",
    "ml-like:300MiB",
    "many-layers:64MiB",
    "many-files:64MiB",
    "one-giant-layer:256MiB",
];

const SEEDS_PER_ROUND: u64 = 1_000_000;

/// A round's share of each fuzz target.
const FUZZ_SECONDS: u64 = 60;

/// A round's share of the swarm.
const SWARM_SECONDS: u64 = 120;
