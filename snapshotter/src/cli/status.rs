//! `status`: what a daemon is pulling. The daemon answers every connection to a socket of its own with one document.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::HumanBytes;
use parapull_engine::{HoldReason, LayerPhase};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use parapull_snapshotter::driver::{Driver, Status};
use parapull_snapshotter::grpc::{BoundSocket, ServeError};
use parapull_snapshotter::store::Placement;

/// Show what a running daemon is pulling: per layer its phase, bytes, and what holds it.
///
///     parapull-snapshotter status --watch
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct StatusCommand {
    /// The daemon's address, as given to `serve`.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "unix:///run/parapull/snapshotter.sock"
    )]
    address: String,
    /// Show it again every second until interrupted.
    #[arg(long)]
    watch: bool,
    /// Print one JSON document.
    #[arg(long, conflicts_with = "watch")]
    json: bool,
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct StatusDocument {
    fetches: (u64, u64),
    unpacks: (u64, u64),
    window_bytes: (u64, u64),
    /// How often layers were held, by reason, since the daemon started.
    holds: BTreeMap<String, u64>,
    pulls: Vec<PullStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PullStatus {
    image: String,
    layers: Vec<LayerStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LayerStatus {
    digest: String,
    phase: LayerPhase,
    held_by: HoldReason,
    compressed_bytes: u64,
    bytes_fetched: u64,
    bytes_unpacked: u64,
}

impl StatusCommand {
    /// Runs it.
    pub(crate) fn run(self) -> ExitCode {
        let address = self
            .address
            .strip_prefix("unix://")
            .unwrap_or(&self.address);
        let socket = socket_of(Path::new(address));
        loop {
            match ask(&socket) {
                Err(error) => {
                    eprintln!(
                        "error: ask the daemon at {}: {error}; is it running?",
                        socket.display()
                    );
                    return ExitCode::FAILURE;
                }
                Ok(text) if self.json => print!("{text}"),
                Ok(text) => match serde_json::from_str::<StatusDocument>(&text) {
                    Ok(document) => document.print(self.watch),
                    Err(error) => {
                        eprintln!("error: the daemon's answer is unreadable: {error}");
                        return ExitCode::FAILURE;
                    }
                },
            }
            if !self.watch {
                return ExitCode::SUCCESS;
            }
            std::thread::sleep(WATCH_INTERVAL);
        }
    }
}

/// The status socket beside a daemon's own.
pub(super) fn socket_of(address: &Path) -> PathBuf {
    address.with_added_extension("status")
}

/// Answers on `socket` until aborted.
pub(super) fn listen<P: Placement>(
    socket: BoundSocket,
    driver: Driver<P>,
) -> Result<JoinHandle<()>, ServeError> {
    let listening = socket.listen()?;
    Ok(tokio::spawn(async move {
        while let Ok(mut stream) = listening.accept().await {
            let Ok(status) = driver.status().await else {
                return;
            };
            let text = serde_json::to_string(&StatusDocument::from(status)).unwrap_or_default();
            let _ = stream.write_all(format!("{text}\n").as_bytes()).await;
        }
    }))
}

fn ask(socket: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    UnixStream::connect(socket)?.read_to_string(&mut text)?;
    Ok(text)
}

impl From<Status> for StatusDocument {
    fn from(status: Status) -> Self {
        let snapshot = status.snapshot;
        let pulls = status
            .images
            .into_iter()
            .filter_map(|(id, reference, digests)| {
                let image = snapshot.images.iter().find(|image| image.image == id)?;
                let layers = image
                    .layers
                    .iter()
                    .zip(digests)
                    .map(|(layer, digest)| LayerStatus {
                        digest: digest.to_string(),
                        phase: layer.phase,
                        held_by: layer.hold,
                        compressed_bytes: layer.size,
                        bytes_fetched: layer.fetched,
                        bytes_unpacked: layer.produced,
                    });
                Some(PullStatus {
                    image: reference.to_string(),
                    layers: layers.collect(),
                })
            });
        Self {
            fetches: snapshot.fetches,
            unpacks: snapshot.unpacks,
            window_bytes: snapshot.window_bytes,
            holds: snapshot
                .holds
                .iter()
                .map(|(reason, count)| (word(reason), *count))
                .collect(),
            pulls: pulls.collect(),
        }
    }
}

impl StatusDocument {
    fn print(&self, clear: bool) {
        if clear {
            print!("\x1b[2J\x1b[H");
        }
        println!(
            "fetches {}/{}  unpacks {}/{}  window {}/{}",
            self.fetches.0,
            self.fetches.1,
            self.unpacks.0,
            self.unpacks.1,
            HumanBytes(self.window_bytes.0),
            HumanBytes(self.window_bytes.1),
        );
        if !self.holds.is_empty() {
            let counted = self
                .holds
                .iter()
                .map(|(reason, count)| format!("{reason} {count}"));
            println!("held so far: {}", counted.collect::<Vec<_>>().join(", "));
        }
        for pull in &self.pulls {
            println!("\n{}", pull.image);
            for (layer, index) in pull.layers.iter().zip(0..) {
                let digest: String = layer
                    .digest
                    .chars()
                    .skip("sha256:".len())
                    .take(12)
                    .collect();
                println!(
                    "  {index:>3} {digest} {:<10} {:>11} of {:<11} {}",
                    word(&layer.phase),
                    HumanBytes(layer.bytes_fetched).to_string(),
                    HumanBytes(layer.compressed_bytes).to_string(),
                    match layer.held_by {
                        HoldReason::Nothing => String::new(),
                        hold => format!("held by: {}", word(&hold)),
                    },
                );
            }
        }
        if self.pulls.is_empty() {
            println!("no pull in progress");
        }
    }
}

/// The kebab-case name a value has in the document.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
