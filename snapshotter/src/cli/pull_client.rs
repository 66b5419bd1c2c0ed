//! `pull --containerd`: one image into containerd, as its client.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;
use super::pull::is_watched;
use super::pull_report::{peak_rss_bytes, print_result};
use super::stop::Stop;
use parapull_snapshotter::client::{ClientError, ClientPull, PreparedLayer};
use parapull_snapshotter::driver::Advice;
use parapull_snapshotter::grpc::Containerd;
use parapull_snapshotter::image::{Layer, Platform, Reference};
use parapull_snapshotter::registry::{Registry, Resolved};

/// Where in containerd an image goes.
#[derive(Args)]
pub(super) struct IntoContainerd {
    /// containerd namespace of the image; Kubernetes uses k8s.io [default: $CONTAINERD_NAMESPACE, or default].
    #[arg(long, value_name = "NS", conflicts_with = "to")]
    namespace: Option<String>,
    /// Name of the snapshotter in containerd's configuration.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "parapull",
        conflicts_with = "to"
    )]
    snapshotter: String,
}

/// Everything a pull into containerd needs.
pub(super) struct ClientOrder<'a> {
    pub(super) socket: &'a Path,
    pub(super) into: &'a IntoContainerd,
    pub(super) reference: Reference,
    pub(super) registry: Registry,
    pub(super) platform: Platform,
    pub(super) advice: Advice,
    pub(super) timeout: Option<Duration>,
    /// Show no progress.
    pub(super) quiet: bool,
}

/// The result, as `--json` prints it. What the daemon fetched and wrote is not known to a client.
#[derive(Debug, Serialize)]
pub(super) struct ClientFigures {
    image: String,
    digest: String,
    namespace: String,
    snapshotter: String,
    seconds: f64,
    layers: Vec<LayerFigures>,
    peak_rss_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LayerFigures {
    digest: String,
    diff_id: String,
    compressed_bytes: u64,
    snapshot: String,
    /// From asking for the layer to having it; the layers above are under way meanwhile.
    seconds: f64,
}

impl IntoContainerd {
    fn namespace(&self) -> String {
        let from_environment = || std::env::var(NAMESPACE_VARIABLE).ok();
        let named = self.namespace.clone().or_else(from_environment);
        named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }
}

impl ClientFigures {
    pub(super) fn print(&self, json: bool) -> ExitCode {
        print_result(&self.image, json.then_some(self), || {
            self.print_for_people()
        })
    }

    fn print_for_people(&self) -> io::Result<()> {
        let compressed = self.layers.iter().map(|layer| layer.compressed_bytes).sum();
        writeln!(io::stdout(), "{}", self.digest)?;
        writeln!(
            io::stderr(),
            "{} layers, {} compressed, in containerd's namespace {} after {:.1} s",
            self.layers.len(),
            HumanBytes(compressed),
            self.namespace,
            self.seconds,
        )
    }
}

impl ClientOrder<'_> {
    /// Pulls, and takes everything back when that fails or is stopped.
    pub(super) async fn pull(&self) -> Result<ClientFigures, Failure> {
        let started = Instant::now();
        let stop = Stop::listen(self.timeout).map_err(|error| Failure::new("config", error))?;
        let failed = |error: ClientError| self.failure(&error, &[]);
        let containerd = Containerd::new(self.socket, &self.into.namespace());
        let containerd = containerd.map_err(|error| failed(error.into()))?;
        let documents =
            self.registry
                .resolve_with_documents(&self.reference, &self.platform, &self.advice);
        let resolved = stop.or(documents).await??;
        let pull = stop
            .or(ClientPull::begin(&containerd, &self.into.snapshotter))
            .await?
            .map_err(failed)?;
        let bar = self.bar(&resolved);
        let sizes = sizes(&resolved);
        let layer_done = |index: usize| {
            bar.inc(sizes.get(index).copied().unwrap_or_default());
            bar.set_message(format!("{}/{} layers", index + 1, sizes.len()));
        };
        let brought = stop.or(pull.bring(&resolved, layer_done)).await;
        let failed = |error: ClientError| self.failure(&error, &resolved.image.layers);
        let brought = brought.and_then(|outcome| outcome.map_err(failed));
        bar.finish_and_clear();
        pull.end(brought.is_err()).await;
        Ok(self.figures(&resolved, &brought?, started))
    }

    fn bar(&self, resolved: &Resolved) -> ProgressBar {
        if self.quiet || !is_watched() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(sizes(resolved).iter().sum());
        let template = "{spinner} {bar:30} {bytes}/{total_bytes} in place  {elapsed}  {msg}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(TICK);
        bar
    }

    fn figures(
        &self,
        resolved: &Resolved,
        prepared: &[PreparedLayer],
        started: Instant,
    ) -> ClientFigures {
        let layers = resolved.image.layers.iter().zip(prepared);
        let layers = layers.map(|(layer, prepared)| LayerFigures {
            digest: layer.descriptor.digest.to_string(),
            diff_id: layer.diff_id.to_string(),
            compressed_bytes: layer.descriptor.size,
            snapshot: prepared.chain.to_string(),
            seconds: prepared.took.as_secs_f64(),
        });
        ClientFigures {
            image: self.reference.to_string(),
            digest: resolved.image.manifest_digest.to_string(),
            namespace: self.into.namespace(),
            snapshotter: self.into.snapshotter.clone(),
            layers: layers.collect(),
            seconds: started.elapsed().as_secs_f64(),
            peak_rss_bytes: peak_rss_bytes(),
        }
    }

    fn failure(&self, error: &ClientError, layers: &[Layer]) -> Failure {
        let told = error.told(&self.reference.to_string(), layers);
        let mut failure = Failure::new(told.kind, told.message);
        failure.error.layer = told.layer;
        failure.error.host = told.host;
        failure
    }
}

fn sizes(resolved: &Resolved) -> Vec<u64> {
    let layers = resolved.image.layers.iter();
    layers.map(|layer| layer.descriptor.size).collect()
}

/// As for `ctr` and nerdctl.
const NAMESPACE_VARIABLE: &str = "CONTAINERD_NAMESPACE";
const DEFAULT_NAMESPACE: &str = "default";
const TICK: Duration = Duration::from_millis(100);
