//! `limits`: this machine's best rates for one image, without pulling it.

use anyhow::Context as _;
use clap::Args;
use parapull_bench::pulls::Stage;

use super::StageArguments;
use super::output::say;
use super::progress::Progress;

/// Measure what this machine can do at best: fetch, hash, inflate, write, create files.
///
/// From these rates comes the time that no pull of the image can beat on this machine.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  parapull-bench limits --image ml-like:256MiB --json")]
pub(super) struct LimitsCommand {
    /// Image whose layers are fetched and inflated: a preset, a craft file or an OCI layout folder
    #[arg(long, value_name = "SPEC", default_value = "ml-like:256MiB")]
    image: String,

    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stage: StageArguments,
}

impl LimitsCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let progress = Progress::new();
        progress.say(format!("serving {}", self.image));
        let stage = Stage::prepare(&self.stage.options(&self.image))
            .context("failed to serve the image")?;
        progress.say("measuring");
        let limits = stage.limits().context("failed to measure the limits")?;
        drop(progress);
        if self.json {
            say(&format!("{}\n", serde_json::to_string_pretty(&limits)?))
        } else {
            say(&limits.markdown())
        }
    }
}
