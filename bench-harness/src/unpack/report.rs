//! The result document of `unpack`, what follows from its runs, and its files.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{Contender, InflateCost, Instructions, LayerKind, UnpackBenchError, markdown};
use crate::measure::{Machine, Summary};
use crate::report::{convert, unpack_svg};

/// What this document is.
pub const SCHEMA: &str = "parapull-bench/unpack/1";

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnpackResult {
    /// [`SCHEMA`].
    pub schema: String,
    /// The command that made it.
    pub command: String,
    /// The source revision.
    pub revision: String,
    /// `release` or `debug`.
    pub build: String,
    /// Where it ran.
    pub machine: Machine,
    /// The one-minute load average at the end.
    pub load_after: f64,
    /// The peers' versions.
    pub versions: Vec<String>,
    /// What was unpacked.
    pub layers: Vec<LayerSize>,
    /// Every run in its order.
    pub runs: Vec<UnpackRun>,
    /// One line for each layer, file system and contender.
    pub lines: Vec<Line>,
    /// What inflating alone costs.
    pub inflate: Vec<InflateCost>,
    /// What a lane executes beyond a plain loop.
    pub instructions: Option<Instructions>,
    /// What should be, and is or is not.
    pub goals: Vec<Goal>,
}

/// A test layer's size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSize {
    /// Its name.
    pub name: String,
    /// Bytes of the blob.
    pub compressed_bytes: u64,
    /// Bytes of the archive.
    pub uncompressed_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
}

/// One layer unpacked once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnpackRun {
    /// Which layer.
    pub layer: String,
    /// Onto what.
    pub filesystem: String,
    /// By whom.
    pub contender: String,
    /// Repetition from 0.
    pub rep: usize,
    /// Wall seconds, from the start of the program or of `ctr` to its end.
    pub seconds: f64,
    /// Processor seconds of the program and its children, or of the daemon and its children.
    pub cpu_seconds: f64,
}

/// One contender on one layer and file system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which layer.
    pub layer: String,
    /// Onto what.
    pub filesystem: String,
    /// By whom.
    pub contender: String,
    /// Wall seconds.
    pub seconds: Summary,
    /// Uncompressed bytes a second, of the quickest run.
    pub bytes_per_second: f64,
    /// Regular files a second, of the quickest run.
    pub files_per_second: f64,
    /// Processor seconds for 10^9 uncompressed bytes, the least of all runs.
    pub cpu_seconds_per_gb: f64,
}

/// A figure that should be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What is compared.
    pub what: String,
    /// What was found.
    pub found: f64,
    /// The least it should be, or the most.
    pub bound: f64,
    /// Whether `bound` is the most.
    pub is_most: bool,
}

impl Goal {
    /// Whether it is reached.
    pub fn is_met(&self) -> bool {
        if self.is_most {
            self.found <= self.bound
        } else {
            self.found >= self.bound
        }
    }
}

impl UnpackResult {
    /// Fills in lines and goals from what was measured.
    #[must_use]
    pub fn summarised(mut self) -> Self {
        self.lines.clear();
        for run in &self.runs {
            let of = |other: &&UnpackRun| {
                (&other.layer, &other.filesystem, &other.contender)
                    == (&run.layer, &run.filesystem, &run.contender)
            };
            if run.rep == 0
                && let Some(size) = self.layers.iter().find(|layer| layer.name == run.layer)
            {
                let runs: Vec<&UnpackRun> = self.runs.iter().filter(of).collect();
                self.lines.extend(line(&runs, size));
            }
        }
        self.goals = self.all_goals();
        self
    }

    fn all_goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for line in &self.lines {
            let kind = line.layer.split('.').next().unwrap_or_default();
            let place = format!("{} onto {}", line.layer, line.filesystem);
            let is_compared = [LayerKind::Mixed.name(), LayerKind::Big.name()].contains(&kind);
            let ours = Contender::Parapull(2).to_string();
            if line.contender == ours && is_compared {
                let verifying = self.quickest(line, Contender::is_verifying_peer);
                goals.extend(faster(line, verifying, &place, 2.0));
                let hashed = self.quickest(line, |one| one == Contender::TarHashed);
                goals.extend(faster(line, hashed, &place, 1.2));
            }
            let is_small = kind == LayerKind::Small.name() && line.filesystem == "tmpfs";
            if is_small && line.contender.starts_with("parapull") {
                goals.push(least(
                    format!("{place}: files/s by {}", line.contender),
                    line.files_per_second,
                    40_000.0,
                ));
            }
        }
        for cost in &self.inflate {
            let bound = match (cost.way.as_str(), cost.guessers) {
                ("guessing", 2) => 0.45,
                ("indexed", 2) => 0.85,
                _ => continue,
            };
            let what = format!("{}: {} per core, to in order", cost.layer, cost.way);
            goals.push(least(what, cost.per_core, bound));
        }
        goals.extend(self.instructions.as_ref().map(|counted| Goal {
            what: "instructions of one thread, to a plain loop (without the hash)".into(),
            found: counted.ratio(),
            bound: 1.03,
            is_most: true,
        }));
        goals
    }

    fn quickest(&self, ours: &Line, is_meant: impl Fn(Contender) -> bool) -> Option<&Line> {
        let lines = self.lines.iter().filter(|line| {
            (&line.layer, &line.filesystem) == (&ours.layer, &ours.filesystem)
                && line.contender.parse().is_ok_and(&is_meant)
        });
        lines.min_by(|a, b| a.seconds.min.total_cmp(&b.seconds.min))
    }
}

fn faster(ours: &Line, theirs: Option<&Line>, place: &str, bound: f64) -> Option<Goal> {
    let theirs = theirs?;
    let what = format!("{place}: {} to {}", ours.contender, theirs.contender);
    Some(least(what, theirs.seconds.min / ours.seconds.min, bound))
}

const fn least(what: String, found: f64, bound: f64) -> Goal {
    Goal {
        what,
        found,
        bound,
        is_most: false,
    }
}

fn line(runs: &[&UnpackRun], size: &LayerSize) -> Option<Line> {
    let first = runs.first()?;
    let seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    let seconds = Summary::of(&seconds)?;
    let cpu = runs
        .iter()
        .map(|run| run.cpu_seconds)
        .fold(f64::MAX, f64::min);
    let bytes = size.uncompressed_bytes as f64;
    Some(Line {
        layer: first.layer.clone(),
        filesystem: first.filesystem.clone(),
        contender: first.contender.clone(),
        seconds,
        bytes_per_second: bytes / seconds.min,
        files_per_second: size.files as f64 / seconds.min,
        cpu_seconds_per_gb: cpu * 1e9 / bytes,
    })
}

/// All runs as CSV with a header line (RFC 4180); no field needs quotes.
pub fn csv(result: &UnpackResult) -> String {
    let mut text = String::from("layer,filesystem,contender,rep,seconds,cpu_seconds\r\n");
    for run in &result.runs {
        let UnpackRun {
            layer,
            filesystem,
            contender,
            rep,
            seconds,
            cpu_seconds,
        } = run;
        let _ = write!(
            text,
            "{layer},{filesystem},{contender},{rep},{seconds:.4},{cpu_seconds:.2}\r\n"
        );
    }
    text
}

/// Writes `unpack.md`, `.json`, `.csv`, `.svg` and, where it can be made, `.png` into the folder `to`, which is made if
/// missing.
///
/// # Errors
/// [`UnpackBenchError`].
pub fn write(result: &UnpackResult, to: &Path) -> Result<(), UnpackBenchError> {
    fs::create_dir_all(to).map_err(UnpackBenchError::file("make", to))?;
    let json = serde_json::to_string_pretty(result).map_err(io::Error::other);
    let json = json.map_err(UnpackBenchError::file("write", to))?;
    for (end, text) in [
        ("json", format!("{json}\n")),
        ("csv", csv(result)),
        ("md", format!("{}\n![MB/s](unpack.svg)\n", markdown(result))),
        ("svg", unpack_svg(result)?),
    ] {
        let path = to.join(format!("unpack.{end}"));
        fs::write(&path, text).map_err(UnpackBenchError::file("write", &path))?;
    }
    convert(&to.join("unpack.svg"));
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn result() -> UnpackResult {
        let runs = [
            ("parapull:2", 1.0),
            ("parapull:2", 1.1),
            ("tar:igzip+sha256", 1.3),
            ("umoci", 5.0),
            ("containerd-2:go", 1.9),
        ];
        let runs = runs.map(|(contender, seconds)| UnpackRun {
            layer: "mixed.go".into(),
            filesystem: "tmpfs".into(),
            contender: contender.into(),
            rep: usize::from(seconds == 1.1),
            seconds,
            cpu_seconds: 2.0 * seconds,
        });
        UnpackResult {
            schema: SCHEMA.into(),
            command: "parapull-bench unpack".into(),
            revision: "abc".into(),
            build: "release".into(),
            machine: Machine {
                cpu: "a processor".into(),
                cores: 2,
                memory_bytes: 1 << 30,
                kernel: "6.1".into(),
                filesystem: "tmpfs".into(),
                load: 0.5,
            },
            load_after: 0.7,
            versions: vec!["containerd 2.1.9".into()],
            layers: vec![LayerSize {
                name: "mixed.go".into(),
                compressed_bytes: 100_000_000,
                uncompressed_bytes: 300_000_000,
                entries: 9000,
                files: 8000,
            }],
            runs: runs.into(),
            lines: Vec::new(),
            inflate: Vec::new(),
            instructions: None,
            goals: Vec::new(),
        }
        .summarised()
    }

    #[test]
    fn goals_compare_the_quickest_runs_with_the_best_peer_that_verifies() {
        let result = result();
        assert_eq!(result.lines.len(), 4);
        assert!((result.lines[0].bytes_per_second - 3e8).abs() < 1.0);
        assert!((result.lines[0].cpu_seconds_per_gb - 2.0 / 0.3).abs() < 1e-9);
        let goals: Vec<(&str, bool)> = result
            .goals
            .iter()
            .map(|goal| (goal.what.as_str(), goal.is_met()))
            .collect();
        assert_eq!(
            goals,
            [
                ("mixed.go onto tmpfs: parapull:2 to containerd-2:go", false),
                ("mixed.go onto tmpfs: parapull:2 to tar:igzip+sha256", true),
            ]
        );
        assert_eq!(csv(&result).lines().count(), 6);
    }

    #[test]
    fn the_document_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        write(&result(), directory.path()).unwrap();
        let text = fs::read(directory.path().join("unpack.json")).unwrap();
        let back: UnpackResult = serde_json::from_slice(&text).unwrap();
        assert_eq!(back.goals, result().goals);
        assert!(directory.path().join("unpack.md").exists());
    }
}
