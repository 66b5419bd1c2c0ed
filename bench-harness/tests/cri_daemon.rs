//! The daemon under a real containerd: shared layers, callers that go away, faults, disks that fill up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::process::Command;
use std::time::{Duration, Instant};

use fake_registry::{CraftedImage, HELLO_OUTPUT};
use parapull_bench::processes::Programs;
use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{ImageSpec, RegistryProfile};
use rustix::process::{Pid, Signal, kill_process};
use support::node::{
    Node, Registry, chain_ids, crafted, crafted_of, fault, layer_sizes, programs, wait_until,
};
use tokio::runtime::{Builder, Runtime};

/// Layers 1 and 2 are the same everywhere; `bottom` and `top` make the images differ.
fn family(name: &str, bottom: u32, top: u32) -> CraftedImage {
    crafted_of(&format!(
        r#"{{"name": "{name}", "seed": 11, "layers": [
            {{"uncompressed_bytes": {bottom}, "files": 5}},
            {{"uncompressed_bytes": 3000000, "files": 30, "directories": 4}},
            {{"uncompressed_bytes": 2000000, "files": 7, "media_type": "zstd:3"}},
            {{"uncompressed_bytes": {top}, "files": 9}}]}}"#
    ))
}

fn throttled(bytes_per_second: u64) -> RegistryProfile {
    RegistryProfile {
        total_bytes_per_second: NonZeroU64::new(bytes_per_second),
        ..RegistryProfile::default()
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// The tree of a pull by the same daemon of the same image alone.
fn tree_sha256_alone(programs: &Programs, image: &CraftedImage) -> String {
    let registry = Registry::healthy(&[("alone:1", image)]);
    let node = Node::start(programs, &registry.host, &[]);
    node.pull_well(&registry.reference("alone:1"));
    node.tree(image).sha256()
}

/// containerd lets only one of two images prepare the same chain at a time; the other finds it committed.
#[test]
fn images_with_a_common_base_pulled_at_once_share_it() {
    pull_together(
        "images_with_a_common_base",
        [(400_000, 500_000), (400_000, 700_000), (900_000, 600_000)],
    );
}

/// No chain in common, so all are under way here together, and each needs trees of its own.
#[test]
fn images_with_common_layers_over_different_bases_share_the_bytes() {
    pull_together(
        "images_with_common_layers",
        [(400_000, 500_000), (600_000, 700_000), (900_000, 500_000)],
    );
}

fn pull_together(test: &str, sizes: [(u32, u32); 3]) {
    let Some(programs) = programs(test) else {
        return;
    };
    let names = ["one:1", "two:1", "three:1"];
    let images: Vec<CraftedImage> = names
        .iter()
        .zip(sizes)
        .map(|(name, (bottom, top))| family(&name[..name.len() - 2], bottom, top))
        .collect();
    assert_eq!(images[0].layers[1..3], images[2].layers[1..3]);
    let served: Vec<(&str, &CraftedImage)> = names.into_iter().zip(&images).collect();
    // Slow enough that all three are under way together.
    let registry = Registry::serve(&served, throttled(2_000_000), Vec::new());
    let node = Node::start(&programs, &registry.host, &[]);
    std::thread::scope(|scope| {
        for name in names {
            let (node, reference) = (&node, registry.reference(name));
            scope.spawn(move || node.pull_well(&reference));
        }
    });
    let all: Vec<&CraftedImage> = images.iter().collect();
    assert_eq!(
        registry.layer_bytes(&all),
        layer_sizes(&all),
        "each blob once"
    );
    for image in all {
        assert_eq!(
            node.tree(image).sha256(),
            tree_sha256_alone(&programs, image)
        );
    }
    node.wait_idle();
    assert_eq!(node.run_hello(&registry.reference("three:1")), HELLO_OUTPUT);
}

#[test]
fn one_image_pulled_many_times_at_once_is_fetched_once() {
    let Some(programs) = programs("one_image_pulled_many_times_at_once_is_fetched_once") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let names = [
        ("app:1", &image),
        ("app:2", &image),
        ("elsewhere/app:1", &image),
    ];
    let registry = Registry::serve(&names, throttled(8_000_000), Vec::new());
    let node = Node::start(&programs, &registry.host, &[]);
    std::thread::scope(|scope| {
        for name in ["app:1", "app:1", "app:2", "elsewhere/app:1"] {
            let (node, reference) = (&node, registry.reference(name));
            scope.spawn(move || node.pull_well(&reference));
        }
    });
    assert_eq!(
        registry.layer_bytes(&[&image]),
        layer_sizes(&[&image]),
        "each blob once"
    );
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    node.wait_idle();
}

#[test]
fn a_caller_that_returns_in_time_finds_its_bytes() {
    let Some(programs) = programs("a_caller_that_returns_in_time_finds_its_bytes") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let registry = Registry::serve(&[("app:1", &image)], throttled(3_000_000), Vec::new());
    let node = Node::start(&programs, &registry.host, &[]);
    let (runtime, reference) = (runtime(), registry.reference("app:1"));
    for bytes in [1_000_000, 4_000_000] {
        let pull = node.begin_pull(&runtime, &reference);
        wait_until("bytes under way", || {
            registry.layer_bytes_total(&image) > bytes
        });
        pull.abort();
        assert!(runtime.block_on(pull).unwrap_err().is_cancelled());
    }
    node.pull_well(&reference);
    assert_eq!(
        registry.layer_bytes(&[&image]),
        layer_sizes(&[&image]),
        "nothing was fetched twice"
    );
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    node.wait_idle();
}

#[test]
fn a_caller_that_stays_away_leaves_nothing() {
    let Some(programs) = programs("a_caller_that_stays_away_leaves_nothing") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let registry = Registry::serve(&[("app:1", &image)], throttled(3_000_000), Vec::new());
    let settings = ["cancel_grace = \"1s\"", "staging_ttl = \"1s\""];
    let node = Node::start(&programs, &registry.host, &settings);
    let (runtime, reference) = (runtime(), registry.reference("app:1"));
    let pull = node.begin_pull(&runtime, &reference);
    wait_until("bytes under way", || {
        registry.layer_bytes_total(&image) > 2_000_000
    });
    assert_eq!(node.status()["pulls"].as_array().unwrap().len(), 1);
    pull.abort();
    node.wait_idle();
    assert_eq!(node.lane_threads(), 0);
    let at_rest = registry.layer_bytes_total(&image);
    assert!(
        at_rest < layer_sizes(&[&image]).values().sum(),
        "the pull went on to its end"
    );
    node.pull_well(&reference);
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
}

/// Pulls an image whose largest layer always meets the fault, expects `words` in containerd's message beside the layer and
/// the host, and pulls again when the fault is gone.
fn assert_failure_is_told_and_mended(test: &str, kind: FaultKind, words: &str) {
    let Some(programs) = programs(test) else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let sizes = image.layers.iter().map(|layer| layer.compressed_bytes);
    let (index, _) = sizes.enumerate().max_by_key(|(_, bytes)| *bytes).unwrap();
    let layer = &image.layers[index];
    let target = FaultTarget::Digest(layer.digest.clone());
    let faults = vec![fault(target, FaultTimes::Always, kind)];
    let images = [("app:1", &image)];
    let mut registry = Registry::serve(&images, RegistryProfile::default(), faults);
    let node = Node::start(&programs, &registry.host, &["staging_ttl = \"1s\""]);
    let reference = registry.reference("app:1");
    let message = node.pull_badly(&reference);
    let short = &layer.digest["sha256:".len()..][..12];
    let place = format!(
        "{reference}: layer {index} {short} from {}: ",
        registry.host
    );
    for wanted in [&place, words] {
        assert!(message.contains(wanted), "{wanted:?} is not in {message}");
    }
    let snapshots = node.snapshots();
    for chain in &chain_ids(&image)[index..] {
        assert!(!snapshots.contains(chain), "{chain} of a failed pull");
    }
    node.wait_idle();
    registry.heal(&images);
    node.pull_well(&reference);
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);
}

#[test]
fn a_corrupt_blob_is_told_and_the_next_pull_succeeds() {
    let kind = FaultKind::CorruptByte { offset: 1_000_000 };
    assert_failure_is_told_and_mended("a_corrupt_blob", kind, "layer");
}

#[test]
fn a_missing_blob_is_told_and_the_next_pull_succeeds() {
    let kind = FaultKind::Status {
        code: 404,
        retry_after_seconds: None,
    };
    assert_failure_is_told_and_mended("a_missing_blob", kind, "404");
}

#[test]
fn a_full_disk_is_told_and_the_next_pull_succeeds() {
    let Some(programs) = programs("a_full_disk_is_told_and_the_next_pull_succeeds") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let registry = Registry::healthy(&[("app:1", &image)]);
    let node = Node::start_on(
        &programs,
        &registry.host,
        &["staging_ttl = \"1s\""],
        Some("size=12m"),
    );
    let reference = registry.reference("app:1");
    let message = node.pull_badly(&reference);
    assert!(message.contains("No space left on device"), "{message}");
    assert!(
        message.contains(&format!("{reference}: layer ")),
        "{message}"
    );
    node.wait_idle();
    let grown = Command::new("mount")
        .args(["-o", "remount,size=200m"])
        .arg(&node.snapshotter.proxy().root)
        .status()
        .unwrap();
    assert!(grown.success());
    node.pull_well(&reference);
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
}

/// The diff ids of the layers that are committed, or staged and whole.
fn finished_layers(node: &Node, image: &CraftedImage) -> Vec<String> {
    let (mut finished, snapshots) = (node.kept(), node.snapshots());
    let missing: Vec<&String> = image
        .layers
        .iter()
        .zip(chain_ids(image))
        .filter(|(_, chain)| !snapshots.contains(chain))
        .map(|(layer, _)| &layer.diff_id)
        .collect();
    // A layer that the image has twice is fetched for its second place.
    let committed = image.layers.iter().map(|layer| &layer.diff_id);
    finished.extend(committed.filter(|id| !missing.contains(id)).cloned());
    finished
}

/// A crash in mid-pull: the caller is told, and after the restart the image is pulled whole, with what was finished and with
/// nothing left over.
#[test]
fn a_daemon_that_is_killed_in_mid_pull_goes_on_with_its_finished_layers() {
    let Some(programs) =
        programs("a_daemon_that_is_killed_in_mid_pull_goes_on_with_its_finished_layers")
    else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let images = [("app:1", &image)];
    let mut registry = Registry::serve(&images, throttled(3_000_000), Vec::new());
    let mut node = Node::start(&programs, &registry.host, &[]);
    let (runtime, reference) = (runtime(), registry.reference("app:1"));
    for wants_finished in [false, true] {
        let sent = registry.layer_bytes_total(&image);
        let pull = node.begin_pull(&runtime, &reference);
        wait_until("bytes under way", || {
            registry.layer_bytes_total(&image) > sent + 300_000
        });
        // Which layers are finished first is the engine's choice.
        wait_until("a finished layer", || {
            !wants_finished || !finished_layers(&node, &image).is_empty()
        });
        node.crash_snapshotter();
        let told = runtime.block_on(pull).unwrap();
        assert!(told.is_err(), "the caller was told nothing");
        node.wait_quiet();
        assert_eq!(
            node.staged().len(),
            node.kept().len(),
            "only finished trees"
        );
    }
    let finished = finished_layers(&node, &image);
    assert!(!finished.is_empty(), "a finished layer was lost");
    registry.heal(&images);
    node.pull_well(&reference);
    let sent = registry.layer_bytes(&[&image]);
    for layer in &image.layers {
        if finished.contains(&layer.diff_id) {
            assert_eq!(sent[&layer.digest], 0, "{} was fetched again", layer.digest);
        }
    }
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    node.wait_idle();
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);
}

#[test]
fn a_daemon_that_is_asked_to_stop_in_mid_pull_stops_soon() {
    let Some(programs) = programs("a_daemon_that_is_asked_to_stop_in_mid_pull_stops_soon") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let registry = Registry::serve(&[("app:1", &image)], throttled(1_000_000), Vec::new());
    let mut node = Node::start(&programs, &registry.host, &[]);
    let (runtime, reference) = (runtime(), registry.reference("app:1"));
    let pull = node.begin_pull(&runtime, &reference);
    wait_until("bytes under way", || {
        registry.layer_bytes_total(&image) > 300_000
    });
    let started = Instant::now();
    let id = Pid::from_raw(node.snapshotter.id().cast_signed()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    wait_until("the daemon's end", || !node.snapshotter.is_running());
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    let error = runtime.block_on(pull).unwrap().unwrap_err();
    assert!(!error.message().is_empty());
    assert_eq!(
        node.staged().len(),
        node.kept().len(),
        "only finished trees"
    );
}

#[test]
fn without_labels_it_is_plain_overlayfs() {
    let Some(programs) = programs("without_labels_it_is_plain_overlayfs") else {
        return;
    };
    let image = family("plain", 400_000, 500_000);
    let registry = Registry::healthy(&[("app:1", &image)]);
    let node = Node::start(&programs, &registry.host, &[]);
    let reference = registry.reference("app:1");
    node.containerd.ctr().pull(&reference, "parapull").unwrap();
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);
    // Each blob came once, through containerd's content store.
    assert_eq!(registry.layer_bytes(&[&image]), layer_sizes(&[&image]));
}

#[test]
fn an_image_removed_and_pulled_again_is_whole() {
    let Some(programs) = programs("an_image_removed_and_pulled_again_is_whole") else {
        return;
    };
    let (one, two) = (
        family("one", 400_000, 500_000),
        family("two", 400_000, 700_000),
    );
    let registry = Registry::healthy(&[("one:1", &one), ("two:1", &two)]);
    let node = Node::start(&programs, &registry.host, &[]);
    let (first, second) = (registry.reference("one:1"), registry.reference("two:1"));
    node.pull_well(&first);
    node.pull_well(&second);
    let before = node.tree(&one).sha256();
    // The shared layers stay for the other image; only the top one is fetched again.
    node.containerd.cri().unwrap().remove_image(&first).unwrap();
    node.containerd.ctr().remove_image(&first).unwrap();
    let top = chain_ids(&one).pop().unwrap();
    wait_until("garbage collection", || !node.snapshots().contains(&top));
    node.pull_well(&first);
    assert_eq!(node.tree(&one).sha256(), before);
    let sent = registry.layer_bytes(&[&one, &two]);
    let mut expected: BTreeMap<String, u64> = layer_sizes(&[&one, &two]);
    *expected.get_mut(&one.layers[3].digest).unwrap() *= 2;
    assert_eq!(sent, expected);
}
