//! The whole driver on a simulated network: partitions, silence, latency, and a registry that crashes and comes back.
//!
//! Sockets and time are simulated, lanes are real threads on real files. While a lane works, simulated time goes on; that
//! is as if the lane were slow, which must not matter.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_registry::{FakeRegistry, Journal};
use parapull_engine::Outcome;
use parapull_scenario::RegistryProfile;
use parapull_snapshotter::config::Config;
use parapull_snapshotter::driver::{Advice, Driver, PullReport, PullRequest, Settings};
use parapull_snapshotter::image::Platform;
use parapull_snapshotter::registry::{Options, PlainHttp, Registry};
use parapull_snapshotter::store::{Directory, DirectoryPlace};
use turmoil::net::TcpListener;

#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/archive.rs"]
mod archive;
#[expect(dead_code, reason = "shared with the tests of the command")]
#[path = "pull/images.rs"]
mod images;
#[path = "pull/simulated.rs"]
mod simulated;
#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/tree.rs"]
mod tree;

use images::{TestImage, memory};
use simulated::{Listening, SimulatedDial};
use tree::Tree;

/// Something that happens to the network, and when.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Every packet is lost.
    Partition,
    /// Every packet waits.
    Hold,
    /// Packets flow again, those that waited as well.
    Repair,
    Crash,
    /// The registry starts anew, with none of its connections.
    Restart,
}

/// A pull on a simulated network.
struct Simulation {
    image: TestImage,
    seed: u64,
    strategy: &'static str,
    latency: (u64, u64),
    /// By simulated milliseconds since the first byte of a layer left the registry, ascending.
    events: Vec<(u64, Event)>,
}

struct Ended {
    folder: tempfile::TempDir,
    report: Option<Result<PullReport, String>>,
    bytes_sent: u64,
    /// Simulated time until the end.
    took: Duration,
}

impl Simulation {
    fn run(&self) -> Ended {
        let mut network = turmoil::Builder::new()
            .rng_seed(self.seed)
            .min_message_latency(Duration::from_millis(self.latency.0))
            .max_message_latency(Duration::from_millis(self.latency.1))
            .tick_duration(Duration::from_millis(2))
            .tcp_capacity(4096)
            .simulation_duration(Duration::from_secs(3_600))
            .build();
        let journals: Arc<Mutex<Vec<Journal>>> = Arc::default();
        let (layout, started) = (self.image.layout.clone(), Arc::clone(&journals));
        network.host("registry", move || {
            let (layout, started) = (layout.clone(), Arc::clone(&started));
            async move {
                let profile = RegistryProfile {
                    total_bytes_per_second: NonZeroU64::new(400_000),
                    ..RegistryProfile::default()
                };
                let registry = FakeRegistry::builder()
                    .image("team/app:1", layout)
                    .profile(profile)
                    .build()?;
                started.lock().unwrap().push(registry.journal());
                registry
                    .serve_on(Listening(TcpListener::bind("0.0.0.0:80").await?))
                    .await;
                Ok(())
            }
        });
        let folder = tempfile::Builder::new()
            .prefix("pull-")
            .tempdir_in(memory())
            .unwrap();
        let told: Arc<Mutex<Option<Result<PullReport, String>>>> = Arc::default();
        let (to, tell) = (folder.path().join("image"), Arc::clone(&told));
        let (seed, strategy) = (self.seed, self.strategy);
        network.client("node", async move {
            let report = pull(to, seed, strategy).await;
            *tell.lock().unwrap() = Some(report);
            Ok(())
        });
        let mut events = self.events.iter().peekable();
        let (configuration, mut began) = (config_bytes(&self.image), None);
        loop {
            if began.is_none() {
                let is_sending = |journal: &Journal| journal.blob_bytes_sent() > configuration;
                let sending = journals.lock().unwrap().iter().any(is_sending);
                began = sending.then(|| network.elapsed());
            }
            let since = began.map(|began| network.elapsed() - began);
            let is_due = |at: u64| since >= Some(Duration::from_millis(at));
            while let Some((_, event)) = events.next_if(|(at, _)| is_due(*at)) {
                match event {
                    Event::Partition => network.partition("node", "registry"),
                    Event::Hold => network.hold("node", "registry"),
                    Event::Repair => {
                        network.repair("node", "registry");
                        network.release("node", "registry");
                    }
                    Event::Crash => network.crash("registry"),
                    Event::Restart => network.bounce("registry"),
                }
            }
            if network
                .step()
                .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
            {
                break;
            }
            // Lanes need the processor too.
            std::thread::yield_now();
        }
        let journals = journals.lock().unwrap();
        Ended {
            folder,
            report: told.lock().unwrap().take(),
            bytes_sent: journals.iter().map(Journal::blob_bytes_sent).sum(),
            took: network.elapsed(),
        }
    }
}

/// What the command does, with the driver and the sockets on the simulated runtime.
async fn pull(to: PathBuf, seed: u64, strategy: &str) -> Result<PullReport, String> {
    let overrides = [
        "concurrent_download_chunk_size=32kb".to_owned(),
        "max_concurrent_downloads_per_image=6".to_owned(),
        "staging_ttl=0s".to_owned(),
        format!("strategy={strategy}"),
    ];
    let config = Config::load_with(None, &overrides).unwrap();
    let options = Options {
        plain_http: PlainHttp::Always,
        dial: Arc::new(SimulatedDial),
        ..config.registry_options()
    };
    let registry = Registry::new(options).unwrap();
    let advice = Advice {
        timing: config.timing(),
        seed,
    };
    let reference = "registry:80/team/app:1".parse().unwrap();
    let image = registry
        .resolve(&reference, &Platform::host(), &advice)
        .await
        .map_err(|error| error.to_string())?;
    let directory = Arc::new(Directory::begin(&to).unwrap());
    let (driver, task) = Driver::start(Settings {
        config: config.engine(2, seed).unwrap(),
        placement: Arc::clone(&directory),
        bounds: config.bounds(),
        indexes: None,
        sockets: tokio::runtime::Handle::current(),
        recorder: None,
    });
    let digests: Vec<_> = image
        .layers
        .iter()
        .map(|layer| layer.descriptor.digest)
        .collect();
    let manifest = image.manifest_bytes.clone();
    let pull = driver
        .pull(PullRequest::new(image, registry, 0).unwrap())
        .await
        .unwrap();
    let id = pull.image;
    for (digest, index) in digests.into_iter().zip(0..) {
        let driver = driver.clone();
        tokio::spawn(async move {
            driver
                .await_layer(id, index, DirectoryPlace { index, digest })
                .await
        });
    }
    let report = pull.finished().await;
    driver.shut_down().await;
    task.await.unwrap();
    if report.outcome == Outcome::Ready {
        directory.complete(&manifest).unwrap();
    } else {
        directory.take_back().unwrap();
    }
    Ok(report)
}

impl Ended {
    /// How often a range was asked for again.
    fn retries(&self) -> u64 {
        let report = self.report.as_ref().and_then(|report| report.as_ref().ok());
        report.map_or(0, |report| report.stats.retries)
    }

    /// Whether the image is whole; if not, nothing is there, and the network is to blame.
    fn is_whole(&self, simulation: &Simulation, expected: &[Tree]) -> bool {
        let case = format!(
            "{} seed {} {:?}",
            simulation.strategy, simulation.seed, simulation.events
        );
        let to = self.folder.path().join("image");
        let Ok(report) = self.report.as_ref().expect("an end") else {
            assert!(!to.exists(), "{case}");
            return false;
        };
        if report.outcome != Outcome::Ready {
            let error = report.error.as_ref().expect("a cause");
            assert_eq!(error.kind, "network", "{case}: {error}");
            assert!(
                error.layer.is_some() && error.host.is_some(),
                "{case}: {error:?}"
            );
            assert!(!to.exists(), "{case}");
            return false;
        }
        assert!(to.join("manifest.json").is_file(), "{case}");
        assert!(
            trees(&to, &simulation.image) == expected,
            "{case}: other trees"
        );
        assert_eq!(
            report.stats.bytes_fetched,
            simulation.image.compressed_bytes(),
            "{case}"
        );
        assert!(self.bytes_sent >= report.stats.bytes_fetched, "{case}");
        true
    }
}

fn trees(to: &Path, image: &TestImage) -> Vec<Tree> {
    let layers = image.layers.iter().enumerate().map(|(index, layer)| {
        let folder = to.join(format!("layers/{index:03}-{}/fs", layer.short()));
        let mut tree = Tree::read(&folder);
        let (own, _) = image.entries(index);
        for (path, node) in &mut tree.0 {
            if node.kind == 'd' && !own.contains(path) {
                node.mtime = (0, 0);
            }
        }
        tree
    });
    layers.collect()
}

fn image() -> TestImage {
    TestImage::of_yaml(
        r#"{"name": "small-blobs", "seed": 5, "layers": [
            {"uncompressed_bytes": "300kb", "files": 4}, {"uncompressed_bytes": "900kb", "files": 30, "directories": 3},
            {"files": 0}, {"uncompressed_bytes": "200kb", "files": 9, "media_type": "zstd:3"}, {"duplicate_of": 1},
            {"uncompressed_bytes": "500kb", "files": 2}, {"uncompressed_bytes": "60kb", "files": 20}]}"#,
    )
}

/// The same image pulled while nothing happens.
fn expected(image: &TestImage) -> Vec<Tree> {
    let simulation = Simulation {
        image: image.clone(),
        seed: 0,
        strategy: "streamed",
        latency: (1, 1),
        events: Vec::new(),
    };
    let ended = simulation.run();
    assert_eq!(
        ended.bytes_sent,
        image.compressed_bytes() + config_bytes(image)
    );
    trees(&ended.folder.path().join("image"), image)
}

/// The registry counts the configuration among the blobs.
fn config_bytes(image: &TestImage) -> u64 {
    let manifest = std::fs::read(image.layout.blob_path(&image.manifest_digest).unwrap()).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["config"]["size"].as_u64().unwrap()
}

#[test]
fn short_troubles_are_outlived() {
    let image = image();
    let expected = expected(&image);
    let troubles = [
        (Event::Partition, Event::Repair),
        (Event::Hold, Event::Repair),
        (Event::Crash, Event::Restart),
    ];
    for (seed, (from, to)) in troubles.into_iter().cycle().take(12).enumerate() {
        let start = 40 + 35 * seed as u64;
        let simulation = Simulation {
            image: image.clone(),
            seed: seed as u64,
            strategy: ["streamed", "store-then-unpack", "multipart"][seed / 3 % 3],
            latency: (2, 15),
            events: vec![(start, from), (start + 60, to)],
        };
        assert!(
            simulation.run().is_whole(&simulation, &expected),
            "seed {seed}: a short trouble failed the pull"
        );
    }
}

#[test]
fn long_troubles_end_in_a_whole_image_or_in_nothing() {
    let image = image();
    let expected = expected(&image);
    let (mut whole, mut hurt) = (0, 0);
    for seed in 0..RUNS {
        let simulation = Simulation {
            image: image.clone(),
            seed,
            strategy: if seed % 2 == 0 {
                "streamed"
            } else {
                "store-then-unpack"
            },
            latency: [(0, 1), (5, 40), (50, 300)][seed as usize % 3],
            events: troubles(seed),
        };
        let ended = simulation.run();
        whole += u64::from(ended.is_whole(&simulation, &expected));
        hurt += u64::from(ended.retries() > 0);
    }
    assert!(
        hurt > RUNS / 2,
        "only {hurt} of {RUNS} pulls noticed their troubles"
    );
    assert!(
        whole > RUNS / 2,
        "only {whole} of {RUNS} pulls outlived their troubles"
    );
}

#[test]
fn a_registry_that_never_comes_back_ends_the_pull() {
    let image = image();
    for event in [Event::Crash, Event::Partition, Event::Hold] {
        let simulation = Simulation {
            image: image.clone(),
            seed: 7,
            strategy: "streamed",
            latency: (20, 60),
            events: vec![(200, event)],
        };
        let ended = simulation.run();
        assert!(!ended.is_whole(&simulation, &[]));
        assert!(
            ended.took < Duration::from_secs(600),
            "{event:?}: {:?}",
            ended.took
        );
    }
}

/// One to three troubles of up to half a minute each, drawn from the seed.
fn troubles(seed: u64) -> Vec<(u64, Event)> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut draw = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut at = 30 + draw(400);
    let mut events = Vec::new();
    for _ in 0..=draw(3) {
        let (from, to) = match draw(3) {
            0 => (Event::Partition, Event::Repair),
            1 => (Event::Hold, Event::Repair),
            _ => (Event::Crash, Event::Restart),
        };
        events.push((at, from));
        let longest = [300, 3_000, 30_000][draw(3) as usize];
        at += 20 + draw(longest);
        events.push((at, to));
        at += 50 + draw(1_000);
    }
    events
}

/// Each is some tens of milliseconds of real time.
const RUNS: u64 = 18;
