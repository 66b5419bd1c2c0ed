//! Callers of a remote `Prepare` that come and go, on a simulated network: what goes on without them, for how long, and what
//! the next one finds.
//!
//! Sockets and time are simulated, lanes are real threads on real files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

use std::future::Future;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use fake_registry::{FakeRegistry, Journal};
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{Faults, RegistryProfile};
use parapull_snapshotter::config::Config;
use parapull_snapshotter::driver::{Advice, Driver, FAILURE_TOLD_WITHIN, Settings, Status};
use parapull_snapshotter::grpc::{
    ContentClient, Remote, RemoteError, RemoteOutcome, RemotePrepare, RemoteRequest, layer_labels,
};
use parapull_snapshotter::image::{Image, Platform};
use parapull_snapshotter::registry::{Options, PlainHttp, Registry};
use parapull_snapshotter::remote::{ImageSource, Pulls, SharedPulls, SnapshotPlacement};
use parapull_snapshotter::store::{self, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use turmoil::net::TcpListener;

#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/archive.rs"]
mod archive;
#[expect(dead_code, reason = "shared with the tests of the command")]
#[path = "pull/images.rs"]
mod images;
#[path = "pull/simulated.rs"]
mod simulated;

use images::{TestImage, memory};
use simulated::{Listening, SimulatedDial};

/// What the simulated node has: the remote side of the daemon, and what tests look at.
#[derive(Clone)]
struct Node {
    pulls: SharedPulls,
    driver: Driver<SnapshotPlacement>,
    store: Store,
    journal: Journal,
    /// Before the last layer of the first image.
    gate: Arc<Gate>,
    /// The images served, by name.
    images: Arc<Vec<Image>>,
}

impl Node {
    /// The call with which containerd asks for a layer whose parents are committed.
    fn call(&self, image: usize, index: usize) -> RemotePrepare {
        let image = &self.images[image];
        let chains = image.chain_ids();
        let mut parent: Option<String> = None;
        for chain in &chains[..index] {
            let found = self.store.find_committed(chain, parent.as_deref());
            parent = Some(found.unwrap().unwrap().name);
        }
        let labels = layer_labels(image, &chains, index);
        RemotePrepare {
            namespace: "k8s.io".to_owned(),
            key: format!("k8s.io/1/extract-{index}"),
            parent,
            request: RemoteRequest::parse(&labels).unwrap().unwrap(),
            labels,
        }
    }

    async fn prepare(&self, image: usize, index: usize) -> Result<RemoteOutcome, RemoteError> {
        self.pulls.prepare_remote(self.call(image, index)).await
    }

    /// Begins a call that can be dropped.
    fn begin(&self, image: usize, index: usize) -> JoinHandle<Result<RemoteOutcome, RemoteError>> {
        let (pulls, call) = (self.pulls.clone(), self.call(image, index));
        tokio::spawn(async move { pulls.prepare_remote(call).await })
    }

    /// Collects every layer from `first` upward, as containerd does.
    async fn collect(&self, image: usize, first: usize) {
        for index in first..self.images[image].layers.len() {
            let outcome = self.prepare(image, index).await;
            assert_eq!(outcome, Ok(RemoteOutcome::Committed), "layer {index}");
        }
    }

    async fn status(&self) -> Status {
        self.driver.status().await.unwrap()
    }

    /// Callers that the engine knows of.
    async fn callers(&self) -> u32 {
        let images = self.status().await.snapshot.images;
        images.iter().map(|image| image.callers).sum()
    }

    /// Waits, in simulated time, until something is so.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self).await {
            assert!(
                began.elapsed() < Duration::from_secs(3_000),
                "never: {what}"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_no_pull(&self) {
        let is_idle = async |node: &Self| node.status().await.snapshot.images.is_empty();
        self.until("the pull's end", is_idle).await;
    }

    /// Bytes sent of each layer's blob against its size.
    fn sent(&self, image: usize) -> Vec<(u64, u64)> {
        let layers = self.images[image].layers.iter().map(|layer| {
            let requests = self
                .journal
                .blob_requests(&layer.descriptor.digest.to_string());
            let sent = requests.iter().map(|entry| entry.body_bytes).sum();
            (sent, layer.descriptor.size)
        });
        layers.collect()
    }

    fn open_gate(&self) {
        self.gate.open.send_replace(true);
    }

    fn sent_bytes(&self, image: usize) -> u64 {
        self.sent(image).iter().map(|(sent, _)| sent).sum()
    }

    fn assert_each_byte_came_once(&self, image: usize) {
        for (index, (sent, size)) in self.sent(image).into_iter().enumerate() {
            assert_eq!(sent, size, "layer {index}");
        }
    }

    async fn assert_holds_nothing(&self) {
        let snapshot = self.status().await.snapshot;
        let used = [
            snapshot.fetches.0,
            snapshot.unpacks.0,
            snapshot.threads.0,
            snapshot.window_bytes.0,
        ];
        assert_eq!(used, [0; 4], "{snapshot:?}");
        assert!(snapshot.blobs.is_empty(), "{snapshot:?}");
        // Directories are removed by threads, which simulated time does not wait for.
        let staging = self.store.root().join("staging/pulls");
        let is_clear = async |_: &Self| {
            std::thread::yield_now();
            std::fs::read_dir(&staging).map_or(true, |mut entries| entries.next().is_none())
        };
        self.until("an empty staging area", is_clear).await;
    }
}

/// Two images that share nothing, from a registry that sends 400 kB/s; the node with these settings does as the script says.
fn simulate<S>(
    faults: Vec<Fault>,
    settings: &'static [&'static str],
    script: impl FnOnce(Node) -> S + 'static,
) where
    S: Future<Output = ()> + 'static,
{
    let mut network = turmoil::Builder::new()
        .rng_seed(7)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .tick_duration(Duration::from_millis(2))
        .tcp_capacity(4096)
        .simulation_duration(Duration::from_secs(36_000))
        .enable_tokio_io()
        .build();
    let profile = RegistryProfile {
        total_bytes_per_second: NonZeroU64::new(400_000),
        ..RegistryProfile::default()
    };
    let (one, two) = (image(1), image(2));
    let registry = FakeRegistry::builder()
        .image(NAMES[0], one.layout.clone())
        .image(NAMES[1], two.layout.clone())
        .profile(profile)
        .faults(Faults { faults })
        .build()
        .unwrap();
    let journal = registry.journal();
    let gate = Arc::new(Gate {
        digest: one.layers[LAST].digest.clone(),
        open: watch::Sender::new(false),
    });
    let passing = Arc::clone(&gate);
    let pass_gate = from_fn(move |request, next| pass(Arc::clone(&passing), request, next));
    let router = registry.router().layer(pass_gate);
    network.host("registry", move || {
        let router = router.clone();
        async move {
            let listener = TcpListener::bind("0.0.0.0:80").await?;
            axum::serve(Listening(listener), router).await?;
            Ok(())
        }
    });
    let folder = tempfile::Builder::new()
        .prefix("remote-")
        .tempdir_in(memory())
        .unwrap();
    let root = folder.path().to_path_buf();
    network.client("node", async move {
        let (node, task) = node(&root, settings, journal, gate).await;
        script(node.clone()).await;
        node.driver.shut_down().await;
        task.await?;
        Ok(())
    });
    while !network.step().unwrap() {
        // Lanes need the processor too.
        std::thread::yield_now();
    }
}

/// Lets requests for one layer's blob wait until it is opened. What a simulated second is to a lane's thread depends on the
/// machine, so a failure that is to come after a layer is in its place must not be left to the clock.
async fn pass(gate: Arc<Gate>, request: Request, next: Next) -> Response {
    if request.uri().path().ends_with(&gate.digest) {
        let mut open = gate.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
    next.run(request).await
}

struct Gate {
    digest: String,
    open: watch::Sender<bool>,
}

async fn node(
    root: &std::path::Path,
    settings: &[&str],
    journal: Journal,
    gate: Arc<Gate>,
) -> (Node, JoinHandle<()>) {
    let usual = [
        "concurrent_download_chunk_size=32kb",
        "cancel_grace=2s",
        "staging_ttl=0s",
    ];
    let settings = usual.iter().chain(settings).map(|text| (*text).to_owned());
    let config = Config::load_with(None, &settings.collect::<Vec<_>>()).unwrap();
    let registry = Registry::new(Options {
        plain_http: PlainHttp::Always,
        dial: Arc::new(SimulatedDial),
        ..config.registry_options()
    });
    let registry = registry.unwrap();
    let advice = || Advice {
        timing: config.timing(),
        seed: 7,
    };
    let mut images = Vec::new();
    for name in NAMES {
        let reference = format!("registry:80/{name}").parse().unwrap();
        let (platform, advice) = (Platform::host(), advice());
        let resolved = registry.resolve(&reference, &platform, &advice);
        images.push(resolved.await.unwrap());
    }
    let store = Store::open(root, &store::Options::default()).unwrap();
    let (driver, task) = Driver::start(Settings {
        config: config.engine(2, 7).unwrap(),
        placement: Arc::new(SnapshotPlacement::new(store.clone()).unwrap()),
        bounds: config.bounds(),
        indexes: None,
        sockets: tokio::runtime::Handle::current(),
        recorder: None,
    });
    let source = ImageSource {
        // Nobody listens there: manifests come from the registry.
        content: ContentClient::new(root.join("no-containerd.sock")),
        registry,
        platform: Platform::host(),
        advice: advice(),
    };
    let pulls = SharedPulls(Pulls::new(driver.clone(), source, store.clone(), true));
    let node = Node {
        pulls,
        driver,
        store,
        journal,
        gate,
        images: Arc::new(images),
    };
    (node, task)
}

fn image(seed: u64) -> TestImage {
    TestImage::of_yaml(&format!(
        r#"{{"name": "callers-{seed}", "seed": {seed}, "layers": [
            {{"uncompressed_bytes": "100kb", "files": 4}}, {{"uncompressed_bytes": "400kb", "files": 10}},
            {{"uncompressed_bytes": "200kb", "files": 9, "media_type": "zstd:3"}}, {{"uncompressed_bytes": "300kb", "files": 2}}]}}"#
    ))
}

const NAMES: [&str; 2] = ["team/one:1", "team/two:1"];

#[test]
fn within_the_grace_period_the_work_goes_on_and_the_next_caller_joins_it() {
    simulate(Vec::new(), &[], async |node| {
        node.open_gate();
        let caller = node.begin(0, 0);
        let first_bytes = async |node: &Node| node.sent_bytes(0) > 0;
        node.until("bytes under way", first_bytes).await;
        caller.abort();
        let left_at = node.sent_bytes(0);
        sleep(Duration::from_secs(1)).await;
        assert!(
            node.sent_bytes(0) > left_at,
            "the pull stopped with its caller"
        );
        node.collect(0, 0).await;
        node.assert_each_byte_came_once(0);
        node.until_no_pull().await;
        node.assert_holds_nothing().await;
    });
}

#[test]
fn a_caller_that_left_is_noticed_at_once() {
    simulate(Vec::new(), &[], async |node| {
        node.open_gate();
        let caller = node.begin(0, 0);
        node.until("a caller", async |node| node.callers().await == 1)
            .await;
        caller.abort();
        let left = Instant::now();
        node.until("no caller", async |node| node.callers().await == 0)
            .await;
        assert!(
            left.elapsed() < Duration::from_millis(50),
            "{:?}",
            left.elapsed()
        );
    });
}

#[test]
fn after_the_grace_period_everything_is_free_for_others_and_the_retry_succeeds() {
    simulate(Vec::new(), &["max_concurrent_downloads=2"], async |node| {
        node.open_gate();
        let caller = node.begin(0, 0);
        let first_bytes = async |node: &Node| node.sent_bytes(0) > 0;
        node.until("bytes under way", first_bytes).await;
        caller.abort();
        let left = Instant::now();
        node.until_no_pull().await;
        let took = left.elapsed();
        let grace = Duration::from_secs(2);
        assert!(took >= grace && took < grace * 2, "it ended after {took:?}");
        node.assert_holds_nothing().await;
        let at_rest = node.sent_bytes(0);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(node.sent_bytes(0), at_rest, "bytes without a pull");

        let began = Instant::now();
        node.collect(1, 0).await;
        let alone = Duration::from_secs_f64(node.sent_bytes(1) as f64 / 400_000.0);
        assert!(
            began.elapsed() < alone * 2,
            "{:?} against {alone:?}",
            began.elapsed()
        );
        node.assert_each_byte_came_once(1);
        node.collect(0, 0).await;
        node.until_no_pull().await;
        node.assert_holds_nothing().await;
    });
}

/// The last layer is missing the first time.
fn missing_once() -> Vec<Fault> {
    vec![Fault {
        target: FaultTarget::Layer(LAST as u32),
        offset: None,
        times: FaultTimes::First(1),
        kind: FaultKind::Status {
            code: 404,
            retry_after_seconds: None,
        },
    }]
}

/// Nothing is given up while the last layer's bytes wait for the gate.
const PATIENT: &[&str] = &[
    "concurrent_download_chunk_size=1mb",
    "cancel_grace=24h",
    "first_byte_timeout=1h",
    "stall_timeout=1h",
];

/// The index of the last layer.
const LAST: usize = 3;

#[test]
fn a_failure_between_two_calls_is_told_to_the_next_and_only_to_that() {
    simulate(missing_once(), PATIENT, async |node| {
        assert_eq!(node.prepare(0, 0).await, Ok(RemoteOutcome::Committed));
        node.open_gate();
        node.until_no_pull().await;
        let error = node.prepare(0, 1).await.unwrap_err();
        let text = &error.message;
        assert!(
            text.contains(": layer 3 ") && text.contains("404"),
            "{text}"
        );
        node.collect(0, 1).await;
    });
}

#[test]
fn a_failure_that_nobody_asked_about_in_time_is_forgotten() {
    simulate(missing_once(), PATIENT, async |node| {
        assert_eq!(node.prepare(0, 0).await, Ok(RemoteOutcome::Committed));
        node.open_gate();
        node.until_no_pull().await;
        sleep(FAILURE_TOLD_WITHIN + Duration::from_millis(100)).await;
        node.collect(0, 1).await;
        node.assert_holds_nothing().await;
    });
}

#[test]
fn a_failure_that_was_told_is_not_told_again() {
    simulate(missing_once(), PATIENT, async |node| {
        for index in 0..LAST {
            assert_eq!(node.prepare(0, index).await, Ok(RemoteOutcome::Committed));
        }
        let caller = node.begin(0, LAST);
        let callers = async |node: &Node| node.callers().await == 1;
        node.until("a caller", callers).await;
        node.open_gate();
        let error = caller.await.unwrap().unwrap_err();
        assert!(error.message.contains("404"), "{}", error.message);
        node.until_no_pull().await;
        node.collect(0, LAST).await;
    });
}
