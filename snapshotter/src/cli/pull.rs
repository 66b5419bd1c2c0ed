//! `pull`: one image into a directory, or into containerd.

use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use parapull_engine::{Outcome, Strategy};

use super::failure::Failure;
use super::pull_client::{ClientFigures, ClientOrder, IntoContainerd};
use super::pull_report::{self, PullFigures};
use super::runtimes::{Runtimes, cores, seed};
use super::stop::Stop;
use parapull_snapshotter::config::Config;
use parapull_snapshotter::driver::{
    Advice, Driver, PullReport, PullRequest, Recorder, Settings, with_sources,
};
use parapull_snapshotter::image::{Image, Platform, Reference};
use parapull_snapshotter::registry::{
    Credentials, Options, PlainHttp, Registry, RegistryError, Secret,
};
use parapull_snapshotter::store::{Directory, DirectoryPlace, Found, LinkedLayer};
use parapull_snapshotter::tree::{self, ScanError, Tree};

/// Pull one image into a directory without containerd, or into containerd by way of the running snapshotter.
///
/// With --to each layer is verified and unpacked to DIR/layers/<n>-<digest>/fs in overlay form; DIR/manifest.json is written
/// last. On failure DIR is left as it was found.
///
///     parapull-snapshotter pull docker.io/library/debian:12 --to ./debian
///     parapull-snapshotter pull 127.0.0.1:5000/ml:1 --to ./ml --set concurrent_download_chunk_size=16mb --json
///
/// With --containerd it does what Kubernetes does when it pulls, for images that are used with ctr or nerdctl, whose own pulls
/// do not say enough for layers to be pulled in parallel. The daemon (serve) must be containerd's snapshotter of that name; it
/// fetches the layers, with its own credentials. On failure containerd has no new image.
///
///     parapull-snapshotter pull docker.io/library/debian:12 --containerd /run/containerd/containerd.sock
///     ctr run --rm --snapshotter parapull docker.io/library/debian:12 name /bin/echo hello
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PullCommand {
    /// The image: [HOST/]NAME[:TAG][@DIGEST].
    #[arg(value_name = "REF")]
    reference: String,
    /// Directory to fill; empty, or absent, or holding this same finished pull.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "containerd",
        conflicts_with = "containerd"
    )]
    to: Option<PathBuf>,
    /// containerd's socket: pull into it instead of a directory.
    #[arg(long, value_name = "SOCK")]
    containerd: Option<PathBuf>,
    #[command(flatten)]
    into: IntoContainerd,
    /// Mount the merged tree read-only here afterwards.
    #[arg(long, value_name = "DIR2", conflicts_with = "containerd")]
    mount: Option<PathBuf>,
    /// How to pull: sequential, multipart, store-then-unpack or streamed.
    #[arg(long, conflicts_with = "containerd")]
    strategy: Option<Strategy>,
    /// Override a configuration key; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Configuration file.
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// Platform to choose from an index, as os/arch[/variant].
    #[arg(long)]
    platform: Option<Platform>,
    /// Speak HTTP without TLS to this registry.
    #[arg(long)]
    plain_http: bool,
    /// PEM file of certificates to trust beside the system's.
    #[arg(long, value_name = "F")]
    ca: Option<PathBuf>,
    /// Directory like containerd's certs.d, with a hosts.toml for each registry.
    #[arg(long, value_name = "DIR")]
    hosts_dir: Option<PathBuf>,
    /// User name for the registry.
    #[arg(long, requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Give up after so long, such as 90s or 10m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "D")]
    timeout: Option<Duration>,
    /// Write every engine input and output to this file.
    #[arg(long, value_name = "F", conflicts_with = "containerd")]
    trace: Option<PathBuf>,
    /// Print one JSON document and nothing else.
    #[arg(long)]
    json: bool,
}

impl PullCommand {
    /// Runs it.
    pub(crate) fn run(self) -> ExitCode {
        let (reference, json) = (self.reference.clone(), self.json);
        let pulled = match (&self.to, &self.containerd) {
            (_, Some(socket)) => self.pull_into(socket).map(|figures| figures.print(json)),
            (Some(to), None) => self.pull_to(to).map(|figures| figures.print(json)),
            (None, None) => Err(Failure::misuse("neither --to nor --containerd was given")),
        };
        pulled.unwrap_or_else(|failure| failure.report(&reference, json))
    }

    fn pull_into(&self, socket: &Path) -> Result<ClientFigures, Failure> {
        let config = self.effective_config()?;
        let order = ClientOrder {
            socket,
            into: &self.into,
            reference: self.reference.parse().map_err(Failure::misuse)?,
            registry: self.registry(&config)?,
            platform: self.platform(),
            advice: advice(&config),
            timeout: self.timeout,
            quiet: self.json,
        };
        let runtimes = Runtimes::new(cores()).map_err(|error| Failure::new("disk", error))?;
        runtimes.control.block_on(order.pull())
    }

    fn pull_to(&self, to: &Path) -> Result<PullFigures, Failure> {
        let started = Instant::now();
        let reference: Reference = self.reference.parse().map_err(Failure::misuse)?;
        let config = self.effective_config()?;
        let engine = config.engine(cores(), seed()).map_err(Failure::misuse)?;
        let registry = self.registry(&config)?;
        let runtimes = Runtimes::new(cores()).map_err(|error| Failure::new("disk", error))?;
        let control = &runtimes.control;
        control.block_on(async {
            let stop = Stop::listen(self.timeout).map_err(|error| Failure::new("config", error))?;
            let (platform, advice) = (self.platform(), advice(&config));
            let image = stop
                .or(registry.resolve(&reference, &platform, &advice))
                .await??;
            match Directory::look(to, &image.manifest_bytes).map_err(|error| disk(to, &error))? {
                Found::Complete => {
                    return Ok(PullFigures::nothing(
                        &reference,
                        &image,
                        config.settings.strategy,
                    ));
                }
                Found::Other => {
                    let message =
                        format!("{} is not empty; choose another directory", to.display());
                    return Err(Failure::misuse(message));
                }
                Found::Empty => {}
            }
            let recorder = self.trace.as_deref().map(Recorder::create).transpose();
            let recorder = recorder.map_err(|error| Failure::new("disk", with_sources(&error)))?;
            let directory = Arc::new(Directory::begin(to).map_err(|error| disk(to, &error))?);
            let settings = Settings {
                config: engine,
                placement: Arc::clone(&directory),
                bounds: config.bounds(),
                indexes: None,
                sockets: runtimes.sockets.handle().clone(),
                recorder,
            };
            let pulled = self.fill(settings, image.clone(), registry, &stop).await;
            let finished = pulled.and_then(|report| {
                directory
                    .complete(&image.manifest_bytes)
                    .map_err(|error| disk(to, &error))?;
                self.mount_tree(&directory)?;
                Ok(report)
            });
            match finished {
                Ok(report) => {
                    let mut figures =
                        PullFigures::new(&reference, &image, config.settings.strategy, &report);
                    figures.seconds = started.elapsed().as_secs_f64();
                    figures.tree_sha256 = self.json.then(|| tree_sha256(&directory)).flatten();
                    Ok(figures)
                }
                Err(failure) => {
                    if let Err(error) = directory.take_back() {
                        tracing::warn!(%error, "the directory could not be cleared");
                    }
                    Err(failure)
                }
            }
        })
    }

    /// Pulls every layer into the directory.
    async fn fill(
        &self,
        settings: Settings<Directory>,
        image: Image,
        registry: Registry,
        stop: &Stop,
    ) -> Result<PullReport, Failure> {
        let (driver, task) = Driver::start(settings);
        let digests: Vec<_> = image
            .layers
            .iter()
            .map(|layer| layer.descriptor.digest)
            .collect();
        let progress = pull_report::Progress::start(&driver, &image, self.json);
        let pull = driver
            .pull(PullRequest::new(image, registry, 0).map_err(RegistryError::from)?)
            .await?;
        let id = pull.image;
        let waiting = digests.into_iter().zip(0..).map(|(digest, index)| {
            let driver = driver.clone();
            tokio::spawn(async move {
                driver
                    .await_layer(id, index, DirectoryPlace { index, digest })
                    .await
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let finished = pull.finished();
        tokio::pin!(finished);
        let (report, stopped) = tokio::select! {
            report = &mut finished => (report, None),
            failure = stop.wait() => {
                driver.cancel(id).await;
                (finished.await, Some(failure))
            }
        };
        for caller in waiting {
            caller.abort();
        }
        driver.shut_down().await;
        let _ = task.await;
        progress.end();
        match (report.outcome, stopped) {
            (Outcome::Ready, _) => Ok(report),
            (_, Some(failure)) => Err(failure),
            (_, None) => Err(report
                .error
                .map_or_else(|| Failure::new("cancelled", "cancelled"), Failure::from)),
        }
    }

    fn effective_config(&self) -> Result<Config, Failure> {
        let misuse = |error: parapull_snapshotter::config::ConfigError| {
            Failure::misuse(with_sources(&error))
        };
        let mut overrides = self.set.clone();
        if let Some(strategy) = self.strategy {
            overrides.push(format!("strategy={strategy}"));
        }
        if let Some(directory) = &self.hosts_dir {
            overrides.push(format!("registry_config_path={}", directory.display()));
        }
        // Nobody comes back for what a finished command has staged.
        overrides.push("staging_ttl=0s".into());
        Config::load_with(self.config.as_deref(), &overrides).map_err(misuse)
    }

    fn registry(&self, config: &Config) -> Result<Registry, Failure> {
        let credentials = match &self.username {
            None => Credentials::from_environment(),
            Some(username) => {
                let mut password = String::new();
                std::io::stdin()
                    .read_to_string(&mut password)
                    .map_err(|error| Failure::misuse(format!("read the password: {error}")))?;
                Credentials::User {
                    name: username.clone(),
                    password: Secret::new(password.trim_end_matches(['\r', '\n'])),
                }
            }
        };
        let plain_http = if self.plain_http {
            PlainHttp::Always
        } else {
            PlainHttp::Loopback
        };
        let options = Options {
            plain_http,
            ca: self.ca.clone(),
            credentials,
            ..config.registry_options()
        };
        Ok(Registry::new(options)?)
    }

    fn mount_tree(&self, directory: &Directory) -> Result<(), Failure> {
        let Some(target) = &self.mount else {
            return Ok(());
        };
        mount_read_only(&directory.lower_paths(), target).map_err(|error| {
            Failure::new(
                "disk",
                format!("mount the tree on {}: {error}", target.display()),
            )
        })
    }

    fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }
}

fn advice(config: &Config) -> Advice {
    Advice {
        timing: config.timing(),
        seed: seed(),
    }
}

fn disk(to: &Path, error: &std::io::Error) -> Failure {
    Failure::new("disk", format!("{}: {error}", to.display()))
}

/// The digest of everything the pull made, layer by layer and merged.
///
/// A tree that cannot be read again leaves it out with a warning: the pull itself is good.
fn tree_sha256(directory: &Directory) -> Option<String> {
    let linked = directory.linked();
    let read = |layer: &LinkedLayer| -> Result<Tree, ScanError> {
        let mut tree = tree::scan(&layer.fs)?;
        let implied = layer.implied.iter();
        tree.forget_implied_times(
            &implied
                .map(|path| path.as_os_str().as_bytes().to_vec())
                .collect(),
        );
        Ok(tree)
    };
    let layers: Vec<Tree> = match linked.iter().map(read).collect() {
        Ok(layers) => layers,
        Err(error) => {
            tracing::warn!(%error, "the tree has no digest");
            return None;
        }
    };
    let lowest = linked.iter().rposition(|layer| layer.opaque_root);
    let merged = tree::merged(&layers[lowest.unwrap_or(0)..]);
    Some(tree::image_sha256(&layers, &merged))
}

/// Mounts layers, the topmost first, as one read-only tree.
fn mount_read_only(lowers: &[PathBuf], target: &Path) -> rustix::io::Result<()> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    };
    let mount = match lowers {
        [only] => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(rustix::fs::CWD, only, flags)?
        }
        _ => {
            // One option a layer (Linux 6.5), so that no option outgrows the 256 bytes a single one may have.
            let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            for lower in lowers {
                fsconfig_set_string(&overlay, "lowerdir+", lower)?;
            }
            fsconfig_create(&overlay)?;
            fsmount(
                &overlay,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::MOUNT_ATTR_RDONLY,
            )?
        }
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mount, "", rustix::fs::CWD, target, flags)
}

/// Whether people are watching.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}
