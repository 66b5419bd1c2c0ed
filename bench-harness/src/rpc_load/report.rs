//! What the measurement found, for people and for machines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use super::probe::{CALLS, Samples};
use crate::measure::{Machine, percentile};

/// Whether pulls were under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing but the calls.
    Idle,
    /// Remote pulls at the same time.
    Load,
}

/// How long one kind of call took in one state.
#[derive(Debug, Clone, Serialize)]
pub struct CallLatency {
    /// The call.
    pub call: &'static str,
    /// In which state.
    pub state: State,
    /// Calls.
    pub n: usize,
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
}

/// What a call should keep under load.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Goal {
    /// The call.
    pub call: &'static str,
    /// The most its 99th percentile may be, in milliseconds.
    pub p99_ms_max: f64,
    /// Whether it was.
    pub met: bool,
}

/// The document.
#[derive(Debug, Clone, Serialize)]
pub struct RpcLoadResult {
    /// What this document is.
    pub schema: &'static str,
    /// The command that made it.
    pub command: String,
    /// The source revision.
    pub revision: String,
    /// `release` or `debug`.
    pub build: String,
    /// Where it ran.
    pub machine: Machine,
    /// Snapshots in the store.
    pub snapshots: usize,
    /// Remote pulls at the same time.
    pub pulls: usize,
    /// The image of each.
    pub image: String,
    /// Compressed bytes of a round of pulls.
    pub compressed_bytes: u64,
    /// Seconds of each round of pulls.
    pub pull_seconds: Vec<f64>,
    /// What was found.
    pub calls: Vec<CallLatency>,
    /// And what should be.
    pub goals: Vec<Goal>,
}

/// Both states of each call.
pub(super) fn latencies(idle: &Samples, load: &Samples) -> Vec<CallLatency> {
    let states = [(State::Idle, idle), (State::Load, load)];
    let all = CALLS
        .iter()
        .flat_map(|call| states.map(|(state, samples)| (*call, state, samples)));
    all.filter_map(|(call, state, samples)| latency(call, state, samples.of(call)))
        .collect()
}

fn latency(call: &'static str, state: State, samples: &[f64]) -> Option<CallLatency> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let max_ms = *sorted.last()?;
    // Microseconds are as fine as the clock of a caller is worth.
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    Some(CallLatency {
        call,
        state,
        n: sorted.len(),
        p50_ms: rounded(percentile(&sorted, 50)),
        p99_ms: rounded(percentile(&sorted, 99)),
        max_ms: rounded(max_ms),
    })
}

impl Goal {
    /// The goals against what was measured under load.
    pub fn all(calls: &[CallLatency]) -> Vec<Self> {
        let goals = GOALS.iter().filter_map(|(call, p99_ms_max)| {
            let found = calls
                .iter()
                .find(|found| found.call == *call && found.state == State::Load)?;
            Some(Self {
                call,
                p99_ms_max: *p99_ms_max,
                met: found.p99_ms <= *p99_ms_max,
            })
        });
        goals.collect()
    }
}

impl RpcLoadResult {
    /// The report as people read it.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Small calls while {} images are pulled\n\n`{}`\n\n\
             - {} snapshots in the store; each pull is `{}`, {:.0} MB compressed in all; rounds took {} s\n\
             - one caller makes every call in turn; idle and load alternate\n\
             - {}, {} cores, Linux {}, {}; revision {}, {} build; load {:.1} before\n\n\
             | call | n idle | p50 | p99 | max | n load | p50 | p99 | max | p99 load / idle |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
            self.pulls,
            self.command,
            self.snapshots,
            self.image,
            self.compressed_bytes as f64 / 1e6,
            self.seconds(),
            self.machine.cpu,
            self.machine.cores,
            self.machine.kernel,
            self.machine.filesystem,
            self.revision,
            self.build,
            self.machine.load,
        );
        for call in CALLS {
            let of = |state: State| {
                let found = |latency: &&CallLatency| latency.call == call && latency.state == state;
                self.calls.iter().find(found)
            };
            let (Some(idle), Some(load)) = (of(State::Idle), of(State::Load)) else {
                continue;
            };
            let row = |latency: &CallLatency| {
                let CallLatency {
                    n,
                    p50_ms,
                    p99_ms,
                    max_ms,
                    ..
                } = latency;
                format!("{n} | {p50_ms:.2} | {p99_ms:.2} | {max_ms:.2}")
            };
            let ratio = load.p99_ms / idle.p99_ms.max(1e-3);
            let _ = writeln!(
                text,
                "| {call} | {} | {} | {ratio:.1} |",
                row(idle),
                row(load)
            );
        }
        text.push_str("\nMilliseconds.");
        for goal in &self.goals {
            let met = if goal.met { "met" } else { "**missed**" };
            let _ = write!(
                text,
                " {} p99 under load at most {} ms: {met}.",
                goal.call, goal.p99_ms_max
            );
        }
        text.push('\n');
        text
    }

    fn seconds(&self) -> String {
        let seconds = self
            .pull_seconds
            .iter()
            .map(|seconds| format!("{seconds:.1}"));
        seconds.collect::<Vec<_>>().join(", ")
    }
}

/// Writes `report.md` and `report.json` into the folder `to`, which is made if missing; the path of the first.
///
/// # Errors
/// When a file cannot be written.
pub fn write(result: &RpcLoadResult, to: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(to)?;
    let json = serde_json::to_string_pretty(result).map_err(io::Error::other)?;
    fs::write(to.join("report.json"), format!("{json}\n"))?;
    let path = to.join("report.md");
    fs::write(&path, result.markdown())?;
    Ok(path)
}

/// A thousand `Stat`s each ten seconds are what kubelet's collection of figures costs; `Commit` runs in containerd's own
/// transaction.
const GOALS: [(&str, f64); 2] = [("Stat", 5.0), ("Commit", 10.0)];
