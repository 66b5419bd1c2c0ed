//! What `pull` tells: a line that moves while it works, and the figures when it is done.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use parapull_engine::{Destination, LayerPhase, Strategy};
use serde::Serialize;

use super::pull::is_watched;
use parapull_snapshotter::driver::{Driver, PullReport};
use parapull_snapshotter::image::{Image, Reference};
use parapull_snapshotter::store::Placement;

/// The result of a pull, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct PullFigures {
    image: String,
    digest: String,
    strategy: &'static str,
    pub(super) seconds: f64,
    layers: Vec<LayerFigures>,
    bytes_fetched: u64,
    bytes_retried: u64,
    /// What came twice because slow ranges were asked for twice, where any did.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_hedged: Option<u64>,
    bytes_written: u64,
    requests: u64,
    retries: u64,
    peak_rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tree_sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct LayerFigures {
    digest: String,
    diff_id: String,
    compressed_bytes: u64,
    uncompressed_bytes: u64,
    files: u64,
    seconds_fetch: f64,
    seconds_unpack: f64,
}

impl PullFigures {
    pub(super) fn new(
        reference: &Reference,
        image: &Image,
        strategy: Strategy,
        report: &PullReport,
    ) -> Self {
        let layers = report.layers.iter().map(|layer| LayerFigures {
            digest: layer.digest.to_string(),
            diff_id: layer.diff_id.to_string(),
            compressed_bytes: layer.compressed_bytes,
            uncompressed_bytes: layer.uncompressed_bytes,
            files: layer.entries,
            seconds_fetch: layer.fetch.as_secs_f64(),
            seconds_unpack: layer.unpack.as_secs_f64(),
        });
        let written: u64 = report.layers.iter().map(|layer| layer.bytes_written).sum();
        let spooled = match strategy.scheduling().destination {
            Destination::Window => 0,
            Destination::Spool => report.stats.bytes_fetched,
        };
        Self {
            layers: layers.collect(),
            bytes_fetched: report.stats.bytes_fetched,
            bytes_retried: report.stats.bytes_retried,
            bytes_hedged: (report.stats.hedges > 0).then_some(report.stats.bytes_hedged),
            bytes_written: written + spooled,
            requests: report.stats.requests,
            retries: report.stats.retries,
            ..Self::nothing(reference, image, strategy)
        }
    }

    /// A pull that had nothing to do.
    pub(super) fn nothing(reference: &Reference, image: &Image, strategy: Strategy) -> Self {
        Self {
            image: reference.to_string(),
            digest: image.manifest_digest.to_string(),
            strategy: strategy.name(),
            seconds: 0.0,
            layers: Vec::new(),
            bytes_fetched: 0,
            bytes_retried: 0,
            bytes_hedged: None,
            bytes_written: 0,
            requests: 0,
            retries: 0,
            peak_rss_bytes: peak_rss_bytes(),
            tree_sha256: None,
        }
    }

    pub(super) fn print(&self, json: bool) -> ExitCode {
        let people = || self.print_for_people();
        print_result(&self.image, json.then_some(self), people)
    }

    fn print_for_people(&self) -> io::Result<()> {
        let unpacked: u64 = self
            .layers
            .iter()
            .map(|layer| layer.uncompressed_bytes)
            .sum();
        writeln!(io::stdout(), "{}", self.digest)?;
        writeln!(
            io::stderr(),
            "{} layers, {} fetched, {} unpacked in {:.1} s with {}",
            self.layers.len(),
            HumanBytes(self.bytes_fetched),
            HumanBytes(unpacked),
            self.seconds,
            self.strategy,
        )
    }
}

/// Prints the document if there is one, else what people read; the exit code says whether that worked.
pub(super) fn print_result(
    image: &str,
    document: Option<&impl Serialize>,
    for_people: impl FnOnce() -> io::Result<()>,
) -> ExitCode {
    let told = match document {
        Some(document) => serde_json::to_string(document)
            .map_err(io::Error::from)
            .and_then(|document| writeln!(io::stdout(), "{document}")),
        None => for_people(),
    };
    match told {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: {image}: print the result: {error}");
            ExitCode::FAILURE
        }
        // Whoever closed the pipe does not want to be told.
        _ => ExitCode::SUCCESS,
    }
}

/// The line that moves.
pub(super) struct Progress {
    bar: ProgressBar,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Shows how far a driver's only pull is; silent when nobody watches.
    pub(super) fn start<P: Placement>(driver: &Driver<P>, image: &Image, quiet: bool) -> Self {
        if quiet || !is_watched() {
            return Self {
                bar: ProgressBar::hidden(),
                task: None,
            };
        }
        let layers = image.layers.len();
        let bar = ProgressBar::new(image.layers.iter().map(|layer| layer.descriptor.size).sum());
        let template = "{bar:30} {bytes}/{total_bytes} unpacked  {bytes_per_sec}  {msg}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let (driver, moving) = (driver.clone(), bar.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(REDRAW_INTERVAL);
            loop {
                ticks.tick().await;
                let Ok(status) = driver.status().await else {
                    return;
                };
                let Some(pull) = status.snapshot.images.first() else {
                    continue;
                };
                moving.set_position(pull.layers.iter().map(|layer| layer.released).sum());
                let done = pull
                    .layers
                    .iter()
                    .filter(|layer| layer.phase == LayerPhase::Linked)
                    .count();
                moving.set_message(format!("{done}/{layers} layers"));
            }
        });
        Self {
            bar,
            task: Some(task),
        }
    }

    pub(super) fn end(self) {
        if let Some(task) = self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// The most memory this process has held (`VmHWM`), 0 where it cannot be told.
pub(super) fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or_default() * 1024
}

const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
