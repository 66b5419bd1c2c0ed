//! `serve`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use parapull_engine::Limits;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use super::runtimes::{Runtimes, cores, seed};
use super::signals::{Stops, reload_limits};
use super::status;
use parapull_snapshotter::client::Forgetting;
use parapull_snapshotter::config::Config;
use parapull_snapshotter::driver::{Advice, Driver, Recorder, Settings};
use parapull_snapshotter::grpc::{
    BoundSocket, ContentClient, Routes, ServeError, SnapshotsService, serve,
};
use parapull_snapshotter::image::Platform;
use parapull_snapshotter::index::Cache;
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
///
/// SIGTERM and SIGINT end it: what is fetched completely may finish within shutdown_grace and is kept for the next start.
/// A second one ends it at once. SIGHUP reads the limits of its configuration anew.
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
    /// Name of this snapshotter in containerd's configuration.
    #[arg(long, value_name = "NAME", default_value = "parapull")]
    snapshotter: String,
    /// The boot to take this one for: tests lose power with it.
    #[arg(long, value_name = "ID", hide = true)]
    boot_id: Option<String>,
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
                boot_id: self.boot_id.clone(),
                ..config.store_options()
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
            indexes: config
                .index_cache_bytes(cores())
                .map(|bytes| Cache::new(self.root.join(INDEXES), bytes)),
            sockets: sockets.clone(),
            recorder: trace.as_deref().map(Recorder::create).transpose()?,
        });
        let pulls = SharedPulls(Pulls::new(
            driver.clone(),
            self.images(&config, seed)?,
            store.clone(),
            config.pulls(),
        ));
        let service = SnapshotsService::new(store.clone(), Arc::new(pulls.clone())).into_server();
        let status = status::listen(status_socket, driver.clone())?;
        let forgetting = tokio::spawn(self.forgetting(&config, seed, &store).run());
        let reloading = reload_limits(driver.clone(), self.limits_reader(&config))?;
        let stopped = Stops::listen()?.first(sockets);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let shutdown = {
            let driver = driver.clone();
            async move {
                stopped.await;
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                // Calls that wait for a layer end, and the pulls, before the server waits for its calls.
                pulls.0.stop();
                driver.shut_down().await;
            }
        };
        let serving = serve(socket, Routes::default().with(service), shutdown);
        run_until_stopped(serving, driver, task).await?;
        for task in [status, forgetting, reloading] {
            task.abort();
        }
        // What has become durable here need not be doubted after a reboot.
        tokio::task::spawn_blocking(move || store.sync()).await??;
        Ok(())
    }

    /// Reads the limits of the configuration as it stands when it is asked, for the strategy that runs.
    fn limits_reader(
        &self,
        config: &Config,
    ) -> impl Fn() -> anyhow::Result<Limits> + Send + 'static {
        let (path, set) = (self.config.clone(), self.set.clone());
        let strategy = config.settings.strategy;
        move || {
            let mut config = Config::load_with(path.as_deref(), &set)?;
            config.settings.strategy = strategy;
            Ok(config.engine(cores(), 0)?.limits)
        }
    }

    fn images(&self, config: &Config, seed: u64) -> anyhow::Result<ImageSource> {
        Ok(ImageSource {
            content: ContentClient::new(self.containerd_address(config)),
            registry: Registry::new(Options {
                credentials: Credentials::from_environment(),
                ..config.registry_options()
            })?,
            platform: Platform::host(),
            advice: advice(config, seed),
        })
    }

    fn forgetting(&self, config: &Config, seed: u64, store: &Store) -> Forgetting {
        Forgetting {
            socket: self.containerd_address(config),
            snapshotter: self.snapshotter.clone(),
            store: store.clone(),
            advice: advice(config, seed),
        }
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

fn advice(config: &Config, seed: u64) -> Advice {
    Advice {
        timing: config.timing(),
        seed,
    }
}

/// Serves until a signal, and until every pull has ended.
async fn run_until_stopped(
    serving: impl Future<Output = Result<(), ServeError>>,
    driver: Driver<SnapshotPlacement>,
    mut task: JoinHandle<()>,
) -> anyhow::Result<()> {
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
            match tokio::time::timeout(CALLS_END_WITHIN, serving).await {
                Ok(served) => Ok(served?),
                Err(_) => {
                    tracing::warn!("calls are cut off that did not end");
                    Ok(())
                }
            }
        }
    }
}

/// How long calls may take to end once no pull is left: none of them waits for anything then but a disk.
const CALLS_END_WITHIN: Duration = Duration::from_secs(5);
/// Where containerd listens unless it is told otherwise.
const CONTAINERD_ADDRESS: &str = "/run/containerd/containerd.sock";
/// Below the root, where the indexes of layers are kept.
const INDEXES: &str = "indexes";
