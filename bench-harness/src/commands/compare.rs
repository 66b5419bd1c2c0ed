//! `compare`: the same images by several pullers, interleaved, repeated, judged and reported.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use parapull_bench::measure::{Machine, interleaved};
use parapull_bench::pulls::{Pulled, Stage, Subject};
use parapull_bench::report::{self, ComparisonResult, SCHEMA};
use parapull_bench::tree::{Difference, ImageTree};

use super::output::say;
use super::progress::Progress;
use super::{StageArguments, command_line};

/// Pull images in several ways, interleaved and repeated, and write a report.
///
/// Strategies are pulled by `parapull-snapshotter pull`, without containerd; peers through containerd's CRI, each pull
/// into a containerd of its own with an empty root. Every pull's layers and merged view are compared entry by entry:
/// one difference fails the command.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("subjects").required(true).multiple(true).args(["strategies", "peers"])),
    after_help = "Example:\n  parapull-bench compare --image ml-like:1GiB --image many-files \\\n      --strategies \
                        sequential,streamed --peers containerd:go,containerd:unpigz,parapull \\\n      --reps 5 --out \
                        results/today\n\nPeers: containerd (with the decompressor it finds), containerd:go, \
                        containerd:unpigz,\ncontainerd:igzip (2.0 and later), containerd-multipart:go and :igzip (2.1 and later, in ranges, ten downloads at a time),\nparapull (containerd with parapull as its \
                        snapshotter).\nThe first configuration is the baseline of \"times as fast\"."
)]
pub(super) struct Compare {
    /// Image to pull: a preset with optional size (ml-like:1GiB), a craft file or an OCI layout folder; repeatable
    #[arg(long = "image", value_name = "SPEC", required = true)]
    images: Vec<String>,

    /// Strategies, comma-separated: sequential, multipart, store-then-unpack, streamed
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = strategy)]
    strategies: Vec<Subject>,

    /// Peers, comma-separated
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = peer)]
    peers: Vec<Subject>,

    /// Repetitions of each configuration
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    reps: u16,

    /// Folder for the report; with several images each gets a folder in it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Print the result as one JSON document on stdout
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stage: StageArguments,
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let subjects: Vec<Subject> = self.peers.iter().chain(&self.strategies).cloned().collect();
        if subjects.iter().any(Subject::needs_snapshotter) {
            let programs = self.stage.options("").programs;
            programs.snapshotter().context("failed to begin")?;
        }
        let mut results = Vec::new();
        let mut differences = Vec::new();
        for image in &self.images {
            let (result, found) = self.one(image, &subjects)?;
            let out = if self.images.len() == 1 {
                self.out.clone()
            } else {
                self.out.join(folder_name(image))
            };
            report::write(&result, &out).context("failed to report")?;
            if !self.json {
                let text = report::markdown(&result);
                say(&format!("{text}\nwritten to {}\n\n", out.display()))?;
            }
            differences.extend(
                found
                    .into_iter()
                    .map(|difference| format!("{image}: {difference}")),
            );
            results.push(result);
        }
        if self.json {
            print_json(&results)?;
        }
        if differences.is_empty() {
            return Ok(());
        }
        let shown: Vec<&str> = differences
            .iter()
            .take(DIFFERENCES_SHOWN)
            .map(String::as_str)
            .collect();
        bail!(
            "{} differences between the trees:\n  {}",
            differences.len(),
            shown.join("\n  ")
        );
    }

    fn one(
        &self,
        image: &str,
        subjects: &[Subject],
    ) -> anyhow::Result<(ComparisonResult, Vec<String>)> {
        let progress = Progress::new();
        progress.say(format!("crafting and serving {image}"));
        let stage = Stage::prepare(&self.stage.options(image))
            .with_context(|| format!("failed to serve {image}"))?;
        let machine = Machine::here(stage.work());
        progress.say("measuring what this machine can do at best");
        let limits = stage.limits().context("failed to measure the limits")?;
        progress.say("simulating");
        let simulation = stage
            .model(&limits)
            .context("failed to simulate")?
            .simulate(subjects);
        let mut runs = Vec::new();
        let mut first: Option<ImageTree> = None;
        let mut differences = Vec::new();
        for turn in interleaved(subjects.len(), usize::from(self.reps)) {
            let subject = &subjects[turn.configuration];
            progress.say(format!(
                "{image}: {subject}, {} of {}",
                turn.repetition + 1,
                self.reps
            ));
            let pulled = pull(&stage, subject, turn.repetition)
                .with_context(|| format!("failed to pull with {subject}"))?;
            let reference = first.get_or_insert_with(|| pulled.tree.clone());
            let found = reference.diff(&pulled.tree);
            differences.extend(
                found
                    .iter()
                    .map(|found: &Difference| format!("{subject}: {found}")),
            );
            runs.push(pulled.run);
        }
        let result = ComparisonResult {
            schema: SCHEMA,
            command: command_line(),
            revision: report::revision(),
            build: report::build().into(),
            machine,
            image: stage.image().clone(),
            registry: stage.registry_name(),
            limits: Some(limits),
            simulation: Some(simulation),
            runs,
            summary: Vec::new(),
        };
        Ok((result.summarised(), differences))
    }
}

/// Pulls once and leaves nothing behind.
pub(super) fn pull(stage: &Stage, subject: &Subject, rep: usize) -> anyhow::Result<Pulled> {
    if let Subject::Strategy(strategy) = subject {
        return Ok(stage.pull_by_command(*strategy, rep)?);
    }
    let pulled = stage.pull_by_cri(subject, "cri", rep)?.pulled();
    stage.remove("cri")?;
    Ok(pulled)
}

fn print_json(results: &[ComparisonResult]) -> anyhow::Result<()> {
    let text = match results {
        [only] => serde_json::to_string_pretty(only)?,
        all => {
            serde_json::to_string_pretty(&serde_json::json!({"schema": SCHEMA, "results": all}))?
        }
    };
    say(&format!("{text}\n"))
}

/// A folder name for an image's spec.
fn folder_name(image: &str) -> String {
    let name = Path::new(image)
        .file_stem()
        .map_or_else(|| image.into(), |stem| stem.to_string_lossy());
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') {
            c
        } else {
            '-'
        }
    };
    name.chars().map(keep).collect()
}

fn strategy(text: &str) -> Result<Subject, String> {
    let subject: Subject = text.parse()?;
    if subject.needs_containerd() {
        Err(format!("{text} is a peer: name it under --peers"))
    } else {
        Ok(subject)
    }
}

fn peer(text: &str) -> Result<Subject, String> {
    let subject: Subject = text.parse()?;
    if subject.needs_containerd() {
        Ok(subject)
    } else {
        Err(format!("{text} is a strategy: name it under --strategies"))
    }
}

/// Enough to see the pattern; the rest repeats it.
const DIFFERENCES_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_after_the_spec() {
        for (image, name) in [
            ("ml-like:1GiB", "ml-like-1GiB"),
            ("/tmp/a b/layout", "layout"),
            ("x/craft.yaml", "craft"),
        ] {
            assert_eq!(folder_name(image), name);
        }
    }

    #[test]
    fn peers_and_strategies_are_not_mixed_up() {
        assert!(strategy("containerd").is_err() && peer("streamed").is_err());
        assert!(strategy("streamed").is_ok() && peer("containerd:go").is_ok());
    }
}
