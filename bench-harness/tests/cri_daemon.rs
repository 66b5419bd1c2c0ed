//! The daemon under a real containerd: shared layers, callers that go away, faults, disks that fill up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::process::Command;

use fake_registry::{CraftedImage, HELLO_OUTPUT};
use parapull_bench::processes::Programs;
use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{ImageSpec, RegistryProfile};
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

#[test]
fn images_pulled_at_once_share_their_layers() {
    let Some(programs) = programs("images_pulled_at_once_share_their_layers") else {
        return;
    };
    let (one, two) = (
        family("one", 400_000, 500_000),
        family("two", 400_000, 700_000),
    );
    let other = family("other", 900_000, 500_000);
    assert_eq!(one.layers[..3], two.layers[..3]);
    assert_eq!(one.layers[1..3], other.layers[1..3]);
    let images = [("one:1", &one), ("two:1", &two), ("other:1", &other)];
    // Slow enough that all three are under way together.
    let registry = Registry::serve(&images, throttled(2_000_000), Vec::new());
    let node = Node::start(&programs, &registry.host, &[]);
    std::thread::scope(|scope| {
        for (name, _) in &images {
            scope.spawn(|| node.pull_well(&registry.reference(name)));
        }
    });
    let all = [&one, &two, &other];
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
    let output = node
        .containerd
        .ctr()
        .run_container(&registry.reference("other:1"), "parapull", "hello", &[])
        .unwrap();
    assert_eq!(output, HELLO_OUTPUT);
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

/// A fault, what containerd's message must hold beside the layer and the host, and the layer.
fn assert_failure_is_told_and_mended(kind: FaultKind, times: FaultTimes, words: &[&str]) {
    let Some(programs) = programs(words[0]) else {
        return;
    };
    let image = crafted(&ImageSpec::preset("ml-like:30MB").unwrap());
    let index = (0..image.layers.len())
        .max_by_key(|&index| image.layers[index].compressed_bytes)
        .unwrap();
    let layer = &image.layers[index];
    let faults = vec![fault(
        FaultTarget::Digest(layer.digest.clone()),
        times,
        kind,
    )];
    let registry = Registry::serve(&[("app:1", &image)], RegistryProfile::default(), faults);
    let node = Node::start(&programs, &registry.host, &["staging_ttl = \"1s\""]);
    let reference = registry.reference("app:1");
    let message = node.pull_badly(&reference);
    let short = &layer.digest["sha256:".len()..][..12];
    let place = format!(
        "{reference}: layer {index} {short} from {}: ",
        registry.host
    );
    for wanted in [&[place.as_str()][..], words].concat() {
        assert!(message.contains(wanted), "{wanted:?} is not in {message}");
    }
    let chains = chain_ids(&image);
    let snapshots = node.snapshots();
    for chain in &chains[index..] {
        assert!(!snapshots.contains(chain), "{chain} of a failed pull");
    }
    node.wait_idle();
    node.pull_well(&reference);
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    let output = node
        .containerd
        .ctr()
        .run_container(&reference, "parapull", "hello", &[])
        .unwrap();
    assert_eq!(output, HELLO_OUTPUT);
}

#[test]
fn a_corrupt_blob_is_told_and_the_next_pull_succeeds() {
    let kind = FaultKind::CorruptByte { offset: 1_000_000 };
    assert_failure_is_told_and_mended(kind, FaultTimes::First(2), &["layer"]);
}

#[test]
fn a_missing_blob_is_told_and_the_next_pull_succeeds() {
    let kind = FaultKind::Status {
        code: 404,
        retry_after_seconds: None,
    };
    assert_failure_is_told_and_mended(kind, FaultTimes::First(1), &["404"]);
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

#[test]
fn without_labels_it_is_plain_overlayfs() {
    let Some(programs) = programs("without_labels_it_is_plain_overlayfs") else {
        return;
    };
    let image = family("plain", 400_000, 500_000);
    let registry = Registry::healthy(&[("app:1", &image)]);
    let node = Node::start(&programs, &registry.host, &[]);
    let (ctr, reference) = (node.containerd.ctr(), registry.reference("app:1"));
    ctr.pull(&reference, "parapull").unwrap();
    assert_eq!(
        node.tree(&image).sha256(),
        tree_sha256_alone(&programs, &image)
    );
    assert_eq!(
        ctr.run_container(&reference, "parapull", "hello", &[])
            .unwrap(),
        HELLO_OUTPUT
    );
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
