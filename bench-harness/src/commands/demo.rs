//! `demo`: the main job in one command, from nothing to a table that proves it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use parapull_bench::measure::Machine;
use parapull_bench::processes::find_program;
use parapull_bench::pulls::{Pulled, Stage, Subject};
use parapull_bench::report::{self, ComparisonResult, Run, SCHEMA};

use super::progress::Progress;
use super::{StageArguments, command_line};

/// Pull one image with containerd's overlayfs and with parapull, compare the trees, run a container.
///
/// Starts a registry, and for each pull a private containerd with an empty root, on loopback and below one directory;
/// stops and removes all of it at the end. Fails if a single entry of the trees differs.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parapull-bench demo --image ml-like:512MiB\n\nNeeds root, containerd and runc; \
                        without them it runs as with --embedded."
)]
pub(super) struct Demo {
    /// Image to craft and pull: a preset with optional size, a craft file or an OCI layout folder
    #[arg(long, value_name = "SPEC", default_value = "ml-like:256MiB")]
    image: String,

    /// Without containerd: compare the sequential and the streamed strategy of `parapull-snapshotter pull`
    #[arg(long)]
    embedded: bool,

    /// Folder for the picture and the report
    #[arg(long, value_name = "DIR", default_value = "parapull-demo")]
    out: PathBuf,

    #[command(flatten)]
    stage: StageArguments,
}

/// One line of the table.
struct Line {
    run: Run,
    /// What the simulator says for this machine, where it was asked.
    simulated: Option<f64>,
}

/// What the demo found.
struct Found {
    lines: Vec<Line>,
    differences: Vec<String>,
    container: Option<String>,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let missing = if self.embedded {
            None
        } else {
            why_no_containerd(self.stage.containerd.is_some())
        };
        if let Some(why) = &missing {
            println!("Running without containerd: {why}.");
        }
        let options = self.stage.options(&self.image);
        // A missing program is told before minutes of crafting and pulling, not after.
        options.programs.snapshotter().context("failed to begin")?;
        let progress = Progress::new();
        progress.say(format!("crafting and serving {}", self.image));
        let stage = Stage::prepare(&options).context("failed to serve the image")?;
        let machine = Machine::here(stage.work());
        let found = if self.embedded || missing.is_some() {
            embedded(&stage, &progress)?
        } else {
            through_containerd(&stage, &progress)?
        };
        drop(progress);
        let result = ComparisonResult {
            schema: SCHEMA,
            command: command_line(),
            revision: report::revision(),
            build: report::build().into(),
            machine,
            image: stage.image().clone(),
            registry: stage.registry_name(),
            limits: None,
            runs: found.lines.iter().map(|line| line.run.clone()).collect(),
            summary: Vec::new(),
        }
        .summarised();
        report::write(&result, &self.out).context("failed to report")?;
        self.print(&found, &result);
        if found.differences.is_empty() {
            return Ok(());
        }
        bail!(
            "the trees differ in {} places:\n  {}",
            found.differences.len(),
            found.differences.join("\n  ")
        );
    }

    fn print(&self, found: &Found, result: &ComparisonResult) {
        let image = &result.image;
        println!(
            "{}: {} layers, {:.1} MB compressed, {:.1} MB unpacked, on {}\n",
            image.name,
            image.layers,
            image.compressed_bytes as f64 / 1e6,
            image.uncompressed_bytes as f64 / 1e6,
            result.machine.filesystem
        );
        print!("{}", table(&found.lines));
        println!(
            "\ntrees equal: {}",
            if found.differences.is_empty() {
                "yes"
            } else {
                "NO"
            }
        );
        if let Some(output) = &found.container {
            println!(
                "a container from the parapull image says: {}",
                output.trim_end()
            );
        }
        println!("picture: {}", self.out.join("comparison.svg").display());
    }
}

fn through_containerd(stage: &Stage, progress: &Progress) -> anyhow::Result<Found> {
    let baseline = Subject::Containerd(None);
    progress.say("containerd with overlayfs pulls");
    let overlayfs = stage
        .pull_by_cri(&baseline, "overlayfs", 0)
        .context("failed to pull with overlayfs")?
        .pulled();
    stage.remove("overlayfs")?;
    progress.say("containerd with parapull pulls");
    let parapull = stage
        .pull_by_cri(&Subject::Parapull, "parapull", 0)
        .context("failed to pull with parapull")?;
    progress.say("running a container");
    let container = parapull
        .run_container()
        .context("failed to run a container from the parapull image")?;
    let parapull = parapull.pulled();
    stage.remove("parapull")?;
    Ok(found(overlayfs, parapull, Some(container)))
}

fn embedded(stage: &Stage, progress: &Progress) -> anyhow::Result<Found> {
    progress.say("sequential pull");
    let sequential = stage
        .pull_by_command("sequential", 0)
        .context("failed to pull sequentially")?;
    progress.say("streamed pull");
    let streamed = stage
        .pull_by_command("streamed", 0)
        .context("failed to pull streamed")?;
    Ok(found(sequential, streamed, None))
}

fn found(baseline: Pulled, ours: Pulled, container: Option<String>) -> Found {
    let differences = baseline
        .tree
        .diff(&ours.tree)
        .iter()
        .map(ToString::to_string)
        .collect();
    let line = |pulled: Pulled| Line {
        run: pulled.run,
        simulated: None,
    };
    Found {
        lines: vec![line(baseline), line(ours)],
        differences,
        container,
    }
}

/// Why the demo cannot use containerd here.
fn why_no_containerd(has_own: bool) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".into());
    }
    let programs: &[&str] = if has_own {
        &["runc"]
    } else {
        &["containerd", "ctr", "runc"]
    };
    let missing = programs.iter().find(|name| find_program(name, "").is_err());
    missing.map(|name| format!("{name} is not installed"))
}

fn table(lines: &[Line]) -> String {
    let with_simulation = lines.iter().any(|line| line.simulated.is_some());
    let baseline = lines.first().map_or(0.0, |line| line.run.seconds);
    let mut text = format!(
        "{:<14}{:>10}{:>10}{:>14}{:>14}",
        "", "seconds", "speed-up", "fetched MB", "written MB"
    );
    if with_simulation {
        text.push_str(&format!("{:>12}", "simulated"));
    }
    text.push('\n');
    let megabytes = |value: Option<u64>| {
        value.map_or_else(|| "–".into(), |value| format!("{:.1}", value as f64 / 1e6))
    };
    for line in lines {
        let run = &line.run;
        text.push_str(&format!(
            "{:<14}{:>10}{:>9.1}×{:>14}{:>14}",
            run.name(),
            report::seconds_text(run.seconds),
            baseline / run.seconds.max(1e-9),
            megabytes(run.bytes_fetched),
            megabytes(run.bytes_written)
        ));
        if with_simulation {
            let simulated = line
                .simulated
                .map_or_else(|| "–".into(), |seconds| format!("{seconds:.2}"));
            text.push_str(&format!("{simulated:>12}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_simulated_seconds_only_when_there_are_some() {
        let line = |name: &str, seconds, simulated| Line {
            run: Run {
                peer: Some(name.into()),
                seconds,
                bytes_fetched: Some(100_000_000),
                ..Run::default()
            },
            simulated,
        };
        let text = table(&[line("containerd", 6.0, None), line("parapull", 2.0, None)]);
        assert!(
            text.contains("3.0×") && text.contains("100.0") && !text.contains("simulated"),
            "{text}"
        );
        let text = table(&[
            line("containerd", 6.0, None),
            line("parapull", 2.0, Some(1.9)),
        ]);
        assert!(
            text.contains("simulated") && text.contains("1.90"),
            "{text}"
        );
    }
}
