//! What the daemon's engine decides is recorded, and a fresh engine decides the same.
//!
//! Goal: one busy period with everything in it that a node meets. Method: four images at once that share layers, a registry with
//! faults, a caller who leaves, limits that change in mid-pull; bodies wait for the test, so all of it overlaps.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use rustix::process::Signal;

use crate::caller::Caller;
use crate::daemon::{Daemon, wait_until};
use crate::images::TestImage;
use crate::registry::{Gate, Registry};
use crate::served::{self, temporary_directory};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_period_of_the_daemon_replays_byte_for_byte() {
    let test = "a_busy_period_of_the_daemon_replays_byte_for_byte";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let folder = temporary_directory();
    let trace = record(folder.path()).await;
    let text = fs::read_to_string(&trace).unwrap();
    let lines = |of: &str| text.lines().filter(|line| line.contains(of)).count();
    for happened in [
        "LayerLeft",
        "LimitsChanged",
        "RangeFailed",
        "LaneFailed",
        "Retrying",
        "NewLife",
        "CancelOp",
        "OpCancelled",
        "CloneLayer",
        "ShutdownRequested",
    ] {
        assert!(lines(happened) > 0, "nothing of the kind {happened}");
    }
    assert!(!text.contains("127.0.0.1"), "hosts are numbers in a trace");
    let file = BufReader::new(fs::File::open(&trace).unwrap());
    let replayed = parapull_scenario::replay(file).unwrap();
    assert!(replayed.is_idle, "{replayed:?}");
    // One that another overtakes in the chain they share is begun once more.
    assert_eq!(replayed.pulls, replayed.ended, "{replayed:?}");
    assert!(replayed.pulls_at_once >= 4, "{replayed:?}");
    if std::env::var_os(KEEP).is_some() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join(CORPUS);
        fs::write(&corpus, &text).unwrap();
        eprintln!("{} holds {} bytes", corpus.display(), text.len());
    }
}

/// Runs the busy period; where its trace is.
async fn record(folder: &Path) -> PathBuf {
    let images = images();
    assert_eq!(images[0].layers[..2], images[1].layers[..2]);
    assert_ne!(images[0].layers[0], images[2].layers[0]);
    assert_eq!(images[0].layers[1], images[2].layers[1]);
    let served: Vec<_> = NAMES.into_iter().zip(&images).collect();
    let top = |image: &TestImage| Gate::before(&image.layers.last().unwrap().digest, 1_000);
    let gates: Vec<Gate> = images.iter().map(top).collect();
    let registry = Registry::start(&served, faults(&images[0]), &gates).await;
    let traces = folder.join("traces");
    fs::create_dir(&traces).unwrap();
    let config = folder.join("config.toml");
    fs::write(&config, configuration(&traces, 3)).unwrap();
    let daemon = Daemon::start_with(folder, &config);

    let callers = served.iter();
    let mut callers = callers.map(|(name, image)| Caller::new(image, registry.reference(name)));
    let mut client = daemon.client().await;
    let mut leaver = callers.next_back().unwrap();
    for index in 0..TOP {
        leaver.link(&mut client, index).await;
    }
    let trace = only_file(&traces);
    let recorded = |what: &str| fs::read_to_string(&trace).unwrap().contains(what);
    let left = leaver.request(TOP);
    let left = tokio::spawn(async move { client.prepare(left).await });
    let awaited = format!(r#""LayerAwaited":{{"image":0,"index":{TOP}}}"#);
    wait_until("a caller of the top layer", || recorded(&awaited));
    let pulls = callers.map(|mut caller| {
        let socket = daemon.socket().to_owned();
        tokio::spawn(async move {
            let mut client = served::connect(&socket).await;
            for index in 0..=TOP {
                caller.link(&mut client, index).await;
            }
        })
    });
    let pulls: Vec<_> = pulls.collect();
    for gate in &gates {
        gate.reached().await;
    }
    assert_eq!(daemon.images().len(), 4);
    fs::write(&config, configuration(&traces, 2)).unwrap();
    daemon.signal(Signal::HUP);
    wait_until("other limits", || recorded("LimitsChanged"));
    left.abort();
    wait_until("the end of what nobody waits for", || {
        daemon.images().len() == 3
    });
    for gate in &gates {
        gate.open();
    }
    for pull in pulls {
        pull.await.unwrap();
    }
    daemon.end(Signal::TERM);
    trace
}

/// Four images: the second goes on where the first does, the third has the first one's second layer over another bottom,
/// the last shares nothing.
fn images() -> [TestImage; 4] {
    [
        ("one", 7, [90_000, 160_000, 120_000, 70_000]),
        ("two", 7, [90_000, 160_000, 80_000, 110_000]),
        ("three", 7, [60_000, 160_000, 50_000, 90_000]),
        ("four", 8, [50_000, 60_000, 40_000, 75_000]),
    ]
    .map(|(name, seed, sizes)| {
        let layers = sizes.map(|bytes: u32| {
            format!(r#"{{"uncompressed_bytes": {bytes}, "files": 3, "directories": 1}}"#)
        });
        let layers = layers.join(",");
        TestImage::of_yaml(&format!(
            r#"{{"name": "{name}", "seed": {seed}, "layers": [{layers}]}}"#
        ))
    })
}

/// A shared layer is damaged on its way, another breaks off, and every ninth request meets a server's error.
fn faults(image: &TestImage) -> Vec<Fault> {
    let fault = |target, times, kind| Fault {
        target,
        offset: None,
        times,
        kind,
    };
    let of = |index: usize| FaultTarget::Digest(image.layers[index].digest.clone());
    vec![
        fault(
            of(1),
            FaultTimes::First(1),
            FaultKind::CorruptByte { offset: 5_000 },
        ),
        fault(
            of(0),
            FaultTimes::First(1),
            FaultKind::TruncatedAfter { bytes: 2_000 },
        ),
        fault(
            FaultTarget::AnyLayer,
            FaultTimes::Every(9),
            FaultKind::Status {
                code: 503,
                retry_after_seconds: None,
            },
        ),
    ]
}

fn configuration(traces: &Path, unpacks: u32) -> String {
    format!(
        r#"
[parapull]
trace_dir = {traces:?}
cancel_grace = "1s"
backoff_max = "1s"
threads = 3
window = "1MiB"
[pull_modes.parallel_pull_unpack]
enable = true
discard_unpacked_layers = true
max_concurrent_downloads = 16
max_concurrent_downloads_per_image = 4
concurrent_download_chunk_size = "32KiB"
max_concurrent_unpacks = {unpacks}
max_concurrent_unpacks_per_image = 2
"#
    )
}

fn only_file(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap();
    let files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// The top layer of each image.
const TOP: usize = 3;
const NAMES: [&str; 4] = ["team/one:1", "team/two:1", "team/three:1", "team/four:1"];

/// The variable that has the trace kept for the simulator's tests.
const KEEP: &str = "PARAPULL_KEEP_TRACE";
const CORPUS: &str = "../sim/traces/busy-period.jsonl";
