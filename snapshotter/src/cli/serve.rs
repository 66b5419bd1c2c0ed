//! `serve`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use super::runtimes::{Runtimes, cores, seed};
use super::status;
use parapull_snapshotter::config::Config;
use parapull_snapshotter::driver::{Advice, Driver, Recorder, Settings};
use parapull_snapshotter::grpc::{BoundSocket, ContentClient, Routes, SnapshotsService, serve};
use parapull_snapshotter::image::Platform;
use parapull_snapshotter::registry::{Credentials, Options, Registry};
use parapull_snapshotter::remote::{ImageSource, Pulls, SharedPulls, SnapshotPlacement};
use parapull_snapshotter::store::{self, Store};

/// Serve containerd's snapshots API on a unix socket.
///
/// In containerd's configuration (version 2):
///
///     [proxy_plugins.parapull]
///       type = "snapshot"
///       address = "/run/parapull/snapshotter.sock"
///     [plugins."io.containerd.grpc.v1.cri".containerd]
///       snapshotter = "parapull"
///       disable_snapshot_annotations = false
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Configuration file [default: /etc/parapull/config.toml, if it exists].
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// Socket to listen on, unless systemd passes one.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "unix:///run/parapull/snapshotter.sock"
    )]
    address: String,
    /// Where snapshots and their metadata are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/parapull")]
    root: PathBuf,
    /// containerd's socket, for manifests and configurations [default: the configuration's, or
    /// /run/containerd/containerd.sock].
    #[arg(long, value_name = "SOCK")]
    containerd_address: Option<PathBuf>,
    /// error, warn, info, debug or trace; or a filter such as info,parapull_snapshotter=debug.
    #[arg(
        long,
        value_name = "L",
        default_value = "info",
        env = "PARAPULL_LOG_LEVEL"
    )]
    log_level: String,
    /// Override a configuration key; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Serve {
    /// Runs it until a signal ends it.
    pub(crate) fn run(self) -> ExitCode {
        match self.serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: serve: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn serve(self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log_level).context("read --log-level")?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
        let config = Config::load_with(self.config.as_deref(), &self.set)?;
        for ignored in &config.ignored {
            tracing::info!(key = %ignored.key, reason = %ignored.reason, "configuration key ignored");
        }
        let runtimes = Runtimes::new(cores())?;
        let sockets = runtimes.sockets.handle().clone();
        runtimes.control.block_on(self.run_daemon(config, sockets))
    }

    async fn run_daemon(
        self,
        config: Config,
        sockets: tokio::runtime::Handle,
    ) -> anyhow::Result<()> {
        let store = Store::open(
            &self.root,
            &store::Options {
                sync: config.settings.sync,
                ..store::Options::default()
            },
        )?;
        // Whoever finds the one that containerd calls finds the other too.
        let status_socket = BoundSocket::bind(&status::socket_of(self.socket_path()?))?;
        let socket = match BoundSocket::from_systemd()? {
            Some(socket) => socket,
            None => BoundSocket::bind(self.socket_path()?)?,
        };
        let seed = seed();
        let engine = config.engine(cores(), seed)?;
        tracing::info!(root = %self.root.display(), strategy = %config.settings.strategy, seed, limits = ?engine.limits.raw(), "starting");
        let trace_dir = config.settings.trace_dir.as_ref();
        let trace = trace_dir.map(|directory| directory.join(format!("{seed:016x}.jsonl")));
        let (driver, task) = Driver::start(Settings {
            config: engine,
            placement: Arc::new(SnapshotPlacement::new(store.clone())?),
            bounds: config.bounds(),
            sockets,
            recorder: trace.as_deref().map(Recorder::create).transpose()?,
        });
        let pulls = SharedPulls(Pulls::new(
            driver.clone(),
            self.images(&config, seed)?,
            store.clone(),
            config.pulls(),
        ));
        let service = SnapshotsService::new(store.clone(), Arc::new(pulls)).into_server();
        let status = status::listen(status_socket, driver.clone())?;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        run_until_stopped(socket, Routes::default().with(service), driver, task).await?;
        status.abort();
        // What has become durable here need not be doubted after a reboot.
        tokio::task::spawn_blocking(move || store.sync()).await??;
        Ok(())
    }

    fn images(&self, config: &Config, seed: u64) -> anyhow::Result<ImageSource> {
        Ok(ImageSource {
            content: ContentClient::new(self.containerd_address(config)),
            registry: Registry::new(Options {
                credentials: Credentials::from_environment(),
                ..config.registry_options()
            })?,
            platform: Platform::host(),
            advice: Advice {
                timing: config.timing(),
                seed,
            },
        })
    }

    fn containerd_address(&self, config: &Config) -> PathBuf {
        let configured = || config.settings.containerd_address.clone();
        self.containerd_address
            .clone()
            .or_else(configured)
            .unwrap_or_else(|| CONTAINERD_ADDRESS.into())
    }

    fn socket_path(&self) -> anyhow::Result<&Path> {
        let path = Path::new(
            self.address
                .strip_prefix("unix://")
                .unwrap_or(&self.address),
        );
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(anyhow!(
                "--address {:?} is not an absolute path or unix:// address",
                self.address
            ))
        }
    }
}

/// Serves until a signal, and until every pull has ended.
async fn run_until_stopped(
    socket: BoundSocket,
    routes: Routes,
    driver: Driver<SnapshotPlacement>,
    mut task: JoinHandle<()>,
) -> anyhow::Result<()> {
    // Calls that wait for a layer end with its pull, so the pulls end before the server waits for its calls.
    let (signal, stopping) = (shutdown()?, driver.clone());
    let shutdown = async move {
        signal.await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stopping.shut_down().await;
    };
    let serving = serve(socket, routes, shutdown);
    tokio::pin!(serving);
    // Without its driver the daemon could only refuse; whoever supervises it starts a new one.
    let bad_end = |error| anyhow!("the driver ended badly: {error}");
    tokio::select! {
        served = &mut serving => {
            served?;
            driver.shut_down().await;
            task.await.map_err(bad_end)
        }
        ended = &mut task => {
            ended.map_err(bad_end)?;
            Ok(serving.await?)
        }
    }
}

/// Ends at SIGINT or SIGTERM.
fn shutdown() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    })
}

/// Where containerd listens unless it is told otherwise.
const CONTAINERD_ADDRESS: &str = "/run/containerd/containerd.sock";
