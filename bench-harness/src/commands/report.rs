//! `report`: shows a report again and draws its pictures anew.

use std::path::PathBuf;

use clap::Args;
use parapull_bench::report;

/// Show the report in a folder, and draw its pictures again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  parapull-bench report results/ml-like")]
pub(super) struct ReportCommand {
    /// The folder `compare` or `demo` wrote
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ReportCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let result = report::read(&self.folder)?;
        report::write(&result, &self.folder)?;
        print!("{}", report::markdown(&result));
        Ok(())
    }
}
