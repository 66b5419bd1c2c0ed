//! How soon the snapshotter answers small calls while it pulls: `Stat`, `List`, `Usage`, `Prepare`, `Commit` and `Remove` over
//! its socket, with a thousand snapshots in its store, alone and under the load of remote pulls.
//!
//! containerd makes such calls within its own locks and transactions, so a slow one holds up more than itself. There is no
//! containerd here: the calls are made as it makes them, and manifests come from the registry.

mod client;
mod load;
mod probe;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::measure::Machine;
use crate::processes::{
    FakeRegistry, FakeRegistryOptions, ProcessError, Programs, Snapshotter, SnapshotterOptions,
    Workspace,
};
use client::Client;
use load::RemoteImage;

pub use probe::CALLS;
pub use report::{CallLatency, Goal, RpcLoadResult, State, write};

/// What is measured.
#[derive(Debug, Clone)]
pub struct RpcLoadOptions {
    /// Snapshots in the store before anything is measured.
    pub snapshots: usize,
    /// Remote pulls at the same time.
    pub pulls: usize,
    /// Spec of the images; each gets a seed of its own.
    pub image: String,
    /// How often both states are measured, in turn.
    pub reps: usize,
    /// How long the idle state is measured each time.
    pub idle: Duration,
    /// Where everything happens; a tmpfs of its own unless given.
    pub work: Option<PathBuf>,
    /// The project's programs.
    pub programs: Programs,
}

/// Why the measurement failed; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum RpcLoadError {
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The client's runtime.
    #[error("start a client: {0}")]
    Runtime(#[from] std::io::Error),
    /// A call to the snapshotter.
    #[error("{call} {object}: {}: {}", status.code(), status.message())]
    Call {
        /// The call.
        call: &'static str,
        /// What it was about.
        object: String,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// An image cannot be looked up in the registry.
    #[error("resolve {image}: {reason}")]
    Resolve {
        /// Its reference.
        image: String,
        /// The cause.
        reason: String,
    },
    /// The snapshotter answered what it should not.
    #[error("{0}")]
    Unexpected(String),
    /// Everything was to end.
    #[error("go on: interrupted")]
    Interrupted,
}

/// Fills a store, and measures it idle and under load; on which machine, as it was before.
///
/// # Errors
/// [`RpcLoadError`].
pub fn measure(
    options: &RpcLoadOptions,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Measured, Machine), RpcLoadError> {
    let workspace = Workspace::new(options.work.as_deref())?;
    let machine = Machine::here(workspace.path());
    let (daemon, images) = (workspace.folder("p")?, workspace.folder("r")?);
    say("crafting and serving images");
    let served = (0..options.pulls).map(|number| {
        let name = format!("load/image-{number}:1");
        Ok((name, crafted(options, &images, number)?))
    });
    let served: Vec<(String, String)> = served.collect::<Result<_, RpcLoadError>>()?;
    let registry = FakeRegistry::start(
        &options.programs,
        &images,
        &FakeRegistryOptions {
            images: served.clone(),
            ..FakeRegistryOptions::default()
        },
    )?;
    let snapshotter = Snapshotter::start(
        &options.programs,
        &daemon,
        &SnapshotterOptions {
            // Nobody listens there, so manifests come from the registry.
            containerd_socket: daemon.join("no-containerd.sock"),
            ..SnapshotterOptions::default()
        },
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let socket = snapshotter.proxy().socket.clone();
    runtime.block_on(async {
        let client = Client::new(&socket);
        say(&format!(
            "preparing and committing {} snapshots",
            options.snapshots
        ));
        let filled = client.fill(options.snapshots).await?;
        let mut remote = Vec::new();
        for (name, _) in &served {
            remote.push(RemoteImage::resolve(&format!("{}/{name}", registry.host())).await?);
        }
        let measured = run(options, &client, &filled, &Arc::new(remote), say).await?;
        Ok((measured, machine))
    })
}

/// What came of [`measure`].
#[derive(Debug, Clone)]
pub struct Measured {
    /// By call and state.
    pub calls: Vec<CallLatency>,
    /// Seconds of each round of pulls.
    pub pull_seconds: Vec<f64>,
    /// Compressed bytes of a round of pulls.
    pub compressed_bytes: u64,
}

async fn run(
    options: &RpcLoadOptions,
    client: &Client,
    filled: &[String],
    images: &Arc<Vec<RemoteImage>>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Measured, RpcLoadError> {
    let (mut idle, mut loaded) = (probe::Samples::default(), probe::Samples::default());
    let mut pull_seconds = Vec::new();
    for rep in 0..options.reps {
        if crate::processes::interrupt::requested() {
            return Err(RpcLoadError::Interrupted);
        }
        say(&format!("round {} of {}: idle", rep + 1, options.reps));
        let until = Instant::now() + options.idle;
        probe::run(client, filled, &mut idle, || Instant::now() >= until).await?;
        say(&format!(
            "round {} of {}: under load",
            rep + 1,
            options.reps
        ));
        let done = Arc::new(AtomicBool::new(false));
        let (pulling, finished) = (client.clone(), Arc::clone(&done));
        let pulled = Arc::clone(images);
        let load = tokio::spawn(async move {
            let began = Instant::now();
            let outcome = load::pull_all(&pulling, &pulled).await;
            finished.store(true, Ordering::Release);
            outcome.map(|()| began.elapsed().as_secs_f64())
        });
        probe::run(client, filled, &mut loaded, || done.load(Ordering::Acquire)).await?;
        let ended = load
            .await
            .map_err(|error| RpcLoadError::Unexpected(format!("finish the pulls: {error}")))?;
        pull_seconds.push(ended?);
        load::remove_all(client, images).await?;
    }
    Ok(Measured {
        calls: report::latencies(&idle, &loaded),
        pull_seconds,
        compressed_bytes: images.iter().map(RemoteImage::compressed_bytes).sum(),
    })
}

/// Crafts an image of the shape that was asked for, with a seed of its own, and gives its layout's folder.
fn crafted(
    options: &RpcLoadOptions,
    folder: &std::path::Path,
    number: usize,
) -> Result<String, RpcLoadError> {
    let odd = |reason: String| RpcLoadError::Resolve {
        image: options.image.clone(),
        reason,
    };
    let mut spec = parapull_scenario::ImageSpec::preset(&options.image)
        .map_err(|error| odd(error.to_string()))?;
    spec.seed = 1_000 + number as u64;
    let file = folder.join(format!("image-{number}.yaml"));
    let text = serde_json::to_string(&spec).map_err(|error| odd(error.to_string()))?;
    std::fs::write(&file, text).map_err(ProcessError::file("write", &file))?;
    let layout = folder.join(format!("image-{number}"));
    FakeRegistry::craft(&options.programs, &file.display().to_string(), &layout)?;
    Ok(layout.display().to_string())
}
