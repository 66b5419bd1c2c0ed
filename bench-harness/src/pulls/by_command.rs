//! A pull by `parapull-snapshotter pull`, without containerd.

use std::collections::BTreeMap;
use std::process::Command;

use parapull_engine::Strategy;
use serde::Deserialize;

use super::{PullError, Pulled, Stage};
use crate::processes::{ProcessError, run};
use crate::report::Run;
use crate::timeline::Timeline;
use crate::tree::{ImageTree, layers_from_pull};

impl Stage {
    /// Pulls by the command with `strategy` into an empty folder, reads the trees and removes the folder.
    ///
    /// # Errors
    /// When the program is missing, the pull fails, or its result cannot be read.
    pub fn pull_by_command(&self, strategy: Strategy, rep: usize) -> Result<Pulled, PullError> {
        self.cool_down();
        let folder = self.workspace.folder("pull")?;
        let target = folder.join("image");
        let traces = folder.join("traces");
        std::fs::create_dir_all(&traces)
            .map_err(|source| ProcessError::file("make", &traces)(source))?;
        let program = self.programs.snapshotter()?;
        let version = run(Command::new(&program).arg("--version"))?.text();
        let mut command = Command::new(&program);
        command
            .args([
                "pull",
                self.reference(),
                "--plain-http",
                "--json",
                "--strategy",
                strategy.name(),
                "--to",
            ])
            .arg(&target)
            .arg("--trace")
            .arg(traces.join("pull.jsonl"));
        let finished = run(&mut command)?;
        let result: PullResult =
            serde_json::from_slice(&finished.stdout).map_err(|source| PullError::Result {
                source,
                text: finished.text().chars().take(2000).collect(),
            })?;
        let layers = layers_from_pull(&target)?;
        let tree = ImageTree::read_pulled(&layers, &self.contents, &folder.join("merged"))?;
        if let Some(told) = result
            .tree_sha256
            .as_ref()
            .filter(|told| **told != tree.sha256())
        {
            return Err(PullError::TreeDigest {
                told: told.clone(),
                found: tree.sha256(),
            });
        }
        let run = Run {
            strategy: Some(strategy.name().into()),
            version: version
                .split_whitespace()
                .nth(1)
                .unwrap_or("unknown")
                .into(),
            rep,
            seconds: result.seconds,
            phases: result.phases(),
            bytes_fetched: Some(result.bytes_fetched),
            bytes_written: Some(result.bytes_written),
            peak_rss_bytes: Some(result.peak_rss_bytes),
            cpu_seconds: None,
            tree_sha256: tree.sha256(),
            ..Run::default()
        };
        let timeline = Timeline::from_folder(&traces)?;
        self.workspace.remove("pull")?;
        Ok(Pulled {
            run,
            tree,
            timeline,
        })
    }
}

/// The part of the command's JSON result that is used here.
#[derive(Debug, Deserialize)]
struct PullResult {
    seconds: f64,
    #[serde(default)]
    layers: Vec<PullLayer>,
    #[serde(default)]
    bytes_fetched: u64,
    #[serde(default)]
    bytes_written: u64,
    #[serde(default)]
    peak_rss_bytes: u64,
    tree_sha256: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PullLayer {
    #[serde(default)]
    seconds_fetch: f64,
    #[serde(default)]
    seconds_unpack: f64,
}

impl PullResult {
    /// The longest fetch and unpack of one layer: no pull ends before them.
    fn phases(&self) -> BTreeMap<String, f64> {
        let longest = |of: fn(&PullLayer) -> f64| self.layers.iter().map(of).fold(0.0, f64::max);
        [
            (
                "longest_layer_fetch".to_owned(),
                longest(|layer| layer.seconds_fetch),
            ),
            (
                "longest_layer_unpack".to_owned(),
                longest(|layer| layer.seconds_unpack),
            ),
        ]
        .into()
    }
}
