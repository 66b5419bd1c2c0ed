//! The result document: the one schema every command writes and reads.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::measure::{Machine, Summary};
use crate::simulation::Simulation;

/// The result of a comparison of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonResult {
    /// Version of this document's shape, [`SCHEMA`].
    pub schema: u32,
    /// The command line that made it.
    pub command: String,
    /// The source revision, `unknown` outside a repository.
    pub revision: String,
    /// `release`, or `debug`, whose figures say little.
    #[serde(default)]
    pub build: String,
    /// Where it was measured.
    pub machine: Machine,
    /// What was pulled.
    pub image: ImageSize,
    /// The registry it was pulled from, with its profile.
    #[serde(default)]
    pub registry: String,
    /// What this machine can do at best, measured in the same run.
    pub limits: Option<Limits>,
    /// What the simulator says of the same pulls on a host of these limits.
    #[serde(default)]
    pub simulation: Option<Simulation>,
    /// Every run in the order it was made.
    pub runs: Vec<Run>,
    /// One line per configuration, in the order they were asked for.
    pub summary: Vec<NamedSummary>,
}

/// The size of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// Its spec or folder.
    pub name: String,
    /// Number of layers.
    pub layers: usize,
    /// Compressed bytes of all layers.
    pub compressed_bytes: u64,
    /// Bytes of all layers' archives.
    pub uncompressed_bytes: u64,
    /// Entries of all layers' archives.
    pub files: u64,
}

/// One pull.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The strategy, for a pull by our own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// The peer, for a pull through containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The puller's version, with its decompressor where it has a choice.
    pub version: String,
    /// Repetition from 0.
    pub rep: usize,
    /// Wall seconds.
    pub seconds: f64,
    /// Seconds of parts of the pull, where the puller tells them.
    #[serde(default)]
    pub phases: BTreeMap<String, f64>,
    /// Bytes fetched from the registry.
    pub bytes_fetched: Option<u64>,
    /// Bytes written (see [`crate::measure::WrittenBytes`]; our own command counts them itself).
    pub bytes_written: Option<u64>,
    /// Largest resident set of the puller's processes added up, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Processor seconds of the puller's processes.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Digest of the unpacked image.
    pub tree_sha256: String,
}

impl Run {
    /// The configuration's name: its strategy or its peer.
    pub fn name(&self) -> &str {
        self.strategy
            .as_deref()
            .or(self.peer.as_deref())
            .unwrap_or("unnamed")
    }
}

/// The seconds of one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedSummary {
    /// The configuration's name.
    pub name: String,
    /// Its seconds.
    #[serde(flatten)]
    pub seconds: Summary,
    /// Median over the lower bound of the measured limits: 1 is the hardware's speed.
    pub ratio_to_limit: Option<f64>,
    /// Median of the first configuration over this one's: how many times as fast.
    pub ratio_to_baseline: Option<f64>,
    /// What the simulator says, in seconds.
    #[serde(default)]
    pub simulated_seconds: Option<f64>,
    /// Simulated seconds over the measured median: 1 is a perfect prediction, below 1 it was too optimistic.
    #[serde(default)]
    pub ratio_simulated_to_measured: Option<f64>,
}

impl ComparisonResult {
    /// Fills [`ComparisonResult::summary`] from the runs; the configuration that ran first is the baseline.
    #[must_use]
    pub fn summarised(mut self) -> Self {
        for run in &mut self.runs {
            run.seconds = rounded(run.seconds);
        }
        let mut samples: Vec<(String, Vec<f64>)> = Vec::new();
        for run in &self.runs {
            match samples.iter_mut().find(|(name, _)| name == run.name()) {
                Some((_, seconds)) => seconds.push(run.seconds),
                None => samples.push((run.name().to_owned(), vec![run.seconds])),
            }
        }
        let bound = self
            .limits
            .as_ref()
            .and_then(|limits| limits.lower_bound_seconds);
        let mut baseline = None;
        self.summary = samples
            .into_iter()
            .filter_map(|(name, seconds)| {
                let seconds = Summary::of(&seconds)?.map(rounded);
                let baseline = *baseline.get_or_insert(seconds.p50);
                let simulated = self
                    .simulation
                    .as_ref()
                    .and_then(|simulation| simulation.of(&name));
                let simulated_seconds = simulated.map(|pull| rounded(pull.seconds));
                Some(NamedSummary {
                    name,
                    seconds,
                    ratio_to_limit: bound
                        .filter(|&bound| bound > 0.0)
                        .map(|bound| rounded(seconds.p50 / bound)),
                    ratio_to_baseline: Some(baseline / seconds.p50)
                        .filter(|ratio| ratio.is_finite())
                        .map(rounded),
                    simulated_seconds,
                    ratio_simulated_to_measured: simulated_seconds
                        .map(|simulated| simulated / seconds.p50)
                        .filter(|ratio| ratio.is_finite())
                        .map(rounded),
                })
            })
            .collect();
        self
    }

    /// Whether every run made the same tree.
    pub fn trees_equal(&self) -> bool {
        self.runs
            .windows(2)
            .all(|pair| pair[0].tree_sha256 == pair[1].tree_sha256)
    }
}

/// Microseconds are finer than any clock here repeats, and short numbers read back exactly.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The revision of the repository in the current folder, with `+changes` when files differ from it.
pub fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{revision}+changes"),
        _ => revision,
    }
}

/// How this program was built.
pub const fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}

/// The version of the result document's shape.
pub const SCHEMA: u32 = 1;

#[cfg(test)]
pub(super) mod tests {
    use parapull_engine::Strategy;
    use parapull_scenario::{Host, RegistryProfile};
    use parapull_sim::Bound;

    use super::*;
    use crate::simulation::SimulatedPull;

    pub(in crate::report) fn result() -> ComparisonResult {
        let run = |name: &str, rep, seconds| Run {
            peer: (name == "containerd").then(|| name.to_owned()),
            strategy: (name != "containerd").then(|| name.to_owned()),
            version: "1.6.20, go".into(),
            rep,
            seconds,
            bytes_written: Some(3 << 30),
            peak_rss_bytes: Some(90 << 20),
            tree_sha256: "ab".into(),
            ..Run::default()
        };
        ComparisonResult {
            schema: SCHEMA,
            command: "parapull-bench compare".into(),
            revision: "0123456789ab".into(),
            build: "release".into(),
            machine: Machine {
                cpu: "a processor".into(),
                cores: 2,
                memory_bytes: 24 << 30,
                kernel: "6.18".into(),
                filesystem: "tmpfs".into(),
                load: 0.1,
            },
            image: ImageSize {
                name: "ml-like:1GiB".into(),
                layers: 22,
                compressed_bytes: 450 << 20,
                uncompressed_bytes: 1 << 30,
                files: 12_345,
            },
            registry: "fake-registry".into(),
            limits: Some(Limits {
                lower_bound_seconds: Some(1.2),
                binding: Some("inflate".into()),
                ..Limits::default()
            }),
            simulation: Some(Simulation {
                host: Host::default(),
                registry: RegistryProfile::default(),
                pulls: vec![SimulatedPull {
                    name: "streamed".into(),
                    strategy: Strategy::Streamed,
                    seconds: 1.71,
                    lower_bound_seconds: 1.1,
                    bound_by: Bound::Cpu,
                }],
            }),
            runs: vec![
                run("containerd", 0, 6.0),
                run("sequential", 0, 4.1),
                run("streamed", 0, 1.9),
                run("sequential", 1, 4.3),
                run("streamed", 1, 1.7),
                run("containerd", 1, 6.4),
                run("streamed", 2, 1.8),
                run("containerd", 2, 6.1),
                run("sequential", 2, 4.0),
            ],
            summary: Vec::new(),
        }
        .summarised()
    }

    #[test]
    fn summarises_in_the_order_asked_for() {
        let result = result();
        let names: Vec<&str> = result
            .summary
            .iter()
            .map(|line| line.name.as_str())
            .collect();
        assert_eq!(names, ["containerd", "sequential", "streamed"]);
        let streamed = &result.summary[2];
        assert!((streamed.ratio_to_baseline.unwrap() - 6.1 / 1.8).abs() < 1e-6);
        assert!((streamed.ratio_to_limit.unwrap() - 1.5).abs() < 1e-9);
        assert_eq!(streamed.simulated_seconds, Some(1.71));
        assert!((streamed.ratio_simulated_to_measured.unwrap() - 0.95).abs() < 1e-9);
        assert_eq!(result.summary[0].simulated_seconds, None);
        assert!(result.trees_equal());
    }

    #[test]
    fn the_document_reads_back_and_has_flat_summaries() {
        let result = result();
        let text = serde_json::to_string(&result).unwrap();
        assert_eq!(
            serde_json::from_str::<ComparisonResult>(&text).unwrap(),
            result
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value["summary"][0]["p50"].is_f64() && value["runs"][0]["peer"] == "containerd");
        assert!(value["runs"][0].get("strategy").is_none());
    }
}
