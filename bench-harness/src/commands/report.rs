//! `report`: one page of a report or of several, with its pictures drawn anew.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use parapull_bench::report;

use super::output::say;

/// Show the report in a folder, draw its pictures again and write one self-contained HTML page.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parapull-bench report results/ml-like\n  parapull-bench report results    \
                  (every folder in it that holds a report.json)"
)]
pub(super) struct ReportCommand {
    /// The folder `compare` or `demo` wrote, or one that holds several such folders
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ReportCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut results = Vec::new();
        for folder in report_folders(&self.folder)? {
            let result = report::read(&folder).context("failed to show a report")?;
            report::write(&result, &folder).context("failed to report")?;
            say(&format!("{}\n", report::markdown(&result)))?;
            results.push(result);
        }
        let page = report::write_page(&results, &self.folder).context("failed to report")?;
        say(&format!("page: {}\n", page.display()))
    }
}

/// The folder itself if it holds a report, else its folders that do, by name.
fn report_folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let has_report = |folder: &Path| folder.join("report.json").is_file();
    if has_report(folder) {
        return Ok(vec![folder.to_path_buf()]);
    }
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| has_report(path))
        .collect();
    folders.sort();
    if folders.is_empty() {
        bail!(
            "{} holds no report.json, nor does a folder in it",
            folder.display()
        );
    }
    Ok(folders)
}
