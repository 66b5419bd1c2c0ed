//! `rpc-load`: how soon small calls are answered while images are pulled.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use parapull_bench::processes::Programs;
use parapull_bench::report::{build, revision};
use parapull_bench::rpc_load::{Goal, RpcLoadOptions, RpcLoadResult, measure, write};

use super::command_line;
use super::output::say;
use super::progress::Progress;

/// Measure Stat, List, Usage, Prepare, Commit and Remove over the snapshotter's socket, idle and under the load of pulls.
///
/// containerd makes these calls within its own locks, so a slow one holds up the node.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parapull-bench rpc-load --snapshots 1000 --pulls 4 --out results/rpc-load"
)]
pub(super) struct RpcLoad {
    /// Snapshots in the store, in chains of 20
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    snapshots: u32,

    /// Images pulled at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pulls: u32,

    /// What is pulled: a preset; each pull gets a seed of its own
    #[arg(long, value_name = "PRESET", default_value = "ml-like:300MB")]
    image: String,

    /// How often both states are measured, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    reps: u32,

    /// How long the idle state is measured each time
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    idle_seconds: u32,

    /// Write report.md and report.json into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Work in this folder instead of a tmpfs mounted for the run
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,

    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl RpcLoad {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let options = RpcLoadOptions {
            snapshots: self.snapshots as usize,
            pulls: self.pulls as usize,
            image: self.image.clone(),
            reps: self.reps as usize,
            idle: Duration::from_secs(self.idle_seconds.into()),
            work: self.work.clone(),
            programs: Programs::beside_this_one(),
        };
        let progress = Progress::new();
        let (measured, machine) =
            measure(&options, &|text| progress.say(text)).context("failed to measure")?;
        drop(progress);
        let result = RpcLoadResult {
            schema: "parapull-bench/rpc-load/1",
            command: command_line(),
            revision: revision(),
            build: build().to_owned(),
            machine,
            snapshots: options.snapshots,
            pulls: options.pulls,
            image: options.image,
            compressed_bytes: measured.compressed_bytes,
            pull_seconds: measured.pull_seconds,
            goals: Goal::all(&measured.calls),
            calls: measured.calls,
        };
        if let Some(folder) = &self.out {
            write(&result, folder)
                .with_context(|| format!("failed to write the report into {}", folder.display()))?;
        }
        if self.json {
            say(&format!("{}\n", serde_json::to_string_pretty(&result)?))
        } else {
            say(&result.markdown())
        }
    }
}
