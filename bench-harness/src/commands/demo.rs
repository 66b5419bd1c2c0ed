//! `demo`: the main job in one command, from nothing to a table that proves it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use parapull_bench::measure::Machine;
use parapull_bench::processes::find_program;
use parapull_bench::pulls::{Pulled, Stage, Subject};
use parapull_bench::report::{self, ComparisonResult, Panel, Run, SCHEMA};
use parapull_bench::timeline::Timeline;
use parapull_engine::Strategy;
use parapull_sim::Prediction;

use super::output::say;
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

/// What the demo found.
struct Found {
    runs: Vec<Run>,
    differences: Vec<String>,
    container: Option<String>,
    /// When our pull's layers did what, where it was recorded.
    measured: Option<Timeline>,
}

/// Where the pictures are.
struct Pictures {
    comparison: PathBuf,
    timeline: PathBuf,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let missing = if self.embedded {
            None
        } else {
            why_no_containerd(self.stage.containerd.is_some())
        };
        if let Some(why) = &missing {
            say(&format!("Running without containerd: {why}.\n"))?;
        }
        let options = self.stage.options(&self.image);
        // A missing program is told before minutes of crafting and pulling, not after.
        options.programs.snapshotter().context("failed to begin")?;
        let progress = Progress::new();
        progress.say(format!("crafting and serving {}", self.image));
        let stage = Stage::prepare(&options).context("failed to serve the image")?;
        let machine = Machine::here(stage.work());
        progress.say("measuring what this machine can do at best");
        let limits = stage.limits().context("failed to measure the limits")?;
        let model = stage.model(&limits).context("failed to simulate")?;
        let subjects = if self.embedded || missing.is_some() {
            [Subject::Strategy(Strategy::Sequential), OURS_EMBEDDED]
        } else {
            [Subject::Containerd(None), Subject::Parapull]
        };
        let simulation = model.simulate(&subjects);
        let found = if subjects[1] == OURS_EMBEDDED {
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
            limits: Some(limits),
            simulation: Some(simulation),
            runs: found.runs.clone(),
            summary: Vec::new(),
        }
        .summarised();
        report::write(&result, &self.out).context("failed to report")?;
        let prediction = model
            .predict(&subjects[1])
            .context("failed to simulate our pull")?;
        let timeline = self
            .draw_timeline(&found, &prediction)
            .context("failed to report")?;
        let pictures = Pictures {
            comparison: report::picture(&self.out),
            timeline,
        };
        say(&summary(&found, &result, &pictures))?;
        if found.differences.is_empty() {
            return Ok(());
        }
        bail!(
            "the trees differ in {} places:\n  {}",
            found.differences.len(),
            found.differences.join("\n  ")
        );
    }

    /// Draws what our pull's layers did when: as measured, where it was recorded, and as simulated.
    fn draw_timeline(
        &self,
        found: &Found,
        prediction: &Prediction,
    ) -> Result<PathBuf, report::ReportError> {
        let panel = |name: &str, timeline| Panel {
            name: name.into(),
            timeline,
        };
        let mut panels = Vec::new();
        panels.extend(
            found
                .measured
                .clone()
                .map(|timeline| panel("measured", timeline)),
        );
        panels.push(panel("simulated", Timeline::of_prediction(prediction)));
        let title = format!("Pulling {} with parapull, layer by layer", self.image);
        report::write_timeline(&title, &panels, &self.out)
    }
}

/// What a person reads at the end.
fn summary(found: &Found, result: &ComparisonResult, pictures: &Pictures) -> String {
    let image = &result.image;
    let mut text = format!(
        "{}: {} layers, {:.1} MB compressed, {:.1} MB unpacked, on {}\n\n{}\ntrees equal: {}\n",
        image.name,
        image.layers,
        image.compressed_bytes as f64 / 1e6,
        image.uncompressed_bytes as f64 / 1e6,
        result.machine.filesystem,
        table(result),
        if found.differences.is_empty() {
            "yes"
        } else {
            "NO"
        }
    );
    if let Some(output) = &found.container {
        let output = output.trim_end();
        text.push_str(&format!(
            "a container from the parapull image says: {output}\n"
        ));
    }
    text.push_str(&format!(
        "pictures: {}\n          {} ({})\n",
        pictures.comparison.display(),
        pictures.timeline.display(),
        if found.measured.is_some() {
            "our pull over time, measured above simulated"
        } else {
            "our pull over time, simulated only: no trace was recorded"
        }
    ));
    text
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
        .pull_by_command(Strategy::Sequential, 0)
        .context("failed to pull sequentially")?;
    progress.say("streamed pull");
    let streamed = stage
        .pull_by_command(Strategy::Streamed, 0)
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
    Found {
        runs: vec![baseline.run, ours.run],
        differences,
        container,
        measured: ours.timeline,
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

fn table(result: &ComparisonResult) -> String {
    let mut text = format!(
        "{:<14}{:>10}{:>10}{:>13}{:>14}{:>14}\n",
        "", "seconds", "speed-up", "simulated s", "fetched MB", "written MB"
    );
    let megabytes = |value: Option<u64>| {
        value.map_or_else(|| "–".into(), |value| format!("{:.1}", value as f64 / 1e6))
    };
    for (line, run) in result.summary.iter().zip(&result.runs) {
        let simulated = line
            .simulated_seconds
            .map_or_else(|| "–".into(), report::seconds_text);
        text.push_str(&format!(
            "{:<14}{:>10}{:>9.1}×{simulated:>13}{:>14}{:>14}\n",
            line.name,
            report::seconds_text(line.seconds.p50),
            line.ratio_to_baseline.unwrap_or(1.0),
            megabytes(run.bytes_fetched),
            megabytes(run.bytes_written)
        ));
    }
    text
}

const OURS_EMBEDDED: Subject = Subject::Strategy(Strategy::Streamed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_per_pull() {
        let run = |name: &str, seconds| Run {
            peer: Some(name.into()),
            seconds,
            bytes_fetched: Some(100_000_000),
            ..Run::default()
        };
        let result: ComparisonResult = serde_json::from_value(serde_json::json!({
            "schema": SCHEMA, "command": "", "revision": "", "limits": null, "summary": [],
            "machine": {"cpu": "", "cores": 2, "memory_bytes": 0, "kernel": "", "filesystem": "", "load": 0.0},
            "image": {"name": "", "layers": 0, "compressed_bytes": 0, "uncompressed_bytes": 0, "files": 0},
            "runs": [run("containerd", 6.0), run("parapull", 2.0)],
        }))
        .unwrap();
        let text = table(&result.summarised());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("simulated s"), "{text}");
        assert!(
            lines[2].contains("3.0×") && lines[2].contains("100.0"),
            "{text}"
        );
    }
}
