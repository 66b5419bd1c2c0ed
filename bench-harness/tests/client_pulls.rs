//! `parapull-snapshotter pull --containerd`: what a real containerd has afterwards, and what it has not after a failure.
//!
//! Needs the workspace's programs beside the test (`cargo build --bins`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::num::NonZeroU64;
use std::process::{Command, Output};

use fake_registry::{CraftedImage, HELLO_OUTPUT, OciLayout};
use parapull_bench::ctr::Ctr;
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{ImageSpec, RegistryProfile};
use parapull_snapshotter::digest::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::node::{Node, Registry, chain_ids, crafted, fault, layer_sizes, programs, wait_until};

const MODEL: &str = "ml-like:30MB";
const SERVED: &str = "team/app:1";

fn model() -> CraftedImage {
    crafted(&ImageSpec::preset(MODEL).unwrap())
}

/// Runs a pull that must succeed, and gives its document.
#[track_caller]
fn pull_well(node: &Node, reference: &str, namespace: &str) -> Value {
    let output = node.client_pull(reference, namespace).output().unwrap();
    assert!(output.status.success(), "{}", told(node, &output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a pull that must fail with exit code 1, and gives its document and the first line of its complaint.
#[track_caller]
fn pull_badly(node: &Node, reference: &str, change: impl FnOnce(&mut Command)) -> (Value, String) {
    let mut command = node.client_pull(reference, "k8s.io");
    change(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(node, &output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let line = text.lines().next().unwrap_or_default().to_owned();
    (document["error"].clone(), line)
}

fn told(node: &Node, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    format!("{text}\n{}", node.snapshotter.log_tail())
}

/// Everything a namespace holds but leases: images, blobs, snapshots.
fn held(ctr: &Ctr) -> Vec<String> {
    let images = ctr.run(["images", "ls", "--quiet"]).unwrap();
    let blobs = ctr.content().unwrap().into_iter().map(|blob| blob.digest);
    let snapshots = ctr.snapshots("parapull").unwrap().into_iter();
    let snapshots = snapshots.map(|row| format!("{} {}", row.kind, row.key));
    let images = images.lines().map(str::to_owned);
    images.chain(blobs).chain(snapshots).collect()
}

fn leases(ctr: &Ctr) -> Vec<String> {
    let leases = ctr.run(["leases", "ls", "--quiet"]).unwrap();
    leases.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_nothing_is_left(node: &Node) {
    let ctr = node.containerd.ctr();
    assert_eq!(leases(&ctr), [""; 0]);
    assert_eq!(held(&ctr), [""; 0]);
    node.wait_idle();
}

#[test]
fn an_image_pulled_as_a_client_is_whole_and_goes_when_removed() {
    let Some(programs) = programs("an_image_pulled_as_a_client") else {
        return;
    };
    let image = model();
    let registry = Registry::healthy(&[(SERVED, &image)]);
    let node = Node::start(&programs, &registry.host, &[]);
    let reference = registry.reference(SERVED);
    let first = pull_well(&node, &reference, "k8s.io");
    assert_eq!(first["digest"], image.manifest_digest);
    assert_eq!(first["image"], reference);
    let layers = first["layers"].as_array().unwrap();
    for ((layer, crafted), chain) in layers.iter().zip(&image.layers).zip(chain_ids(&image)) {
        assert_eq!(layer["digest"], crafted.digest);
        assert_eq!(layer["diff_id"], crafted.diff_id);
        assert_eq!(layer["compressed_bytes"], crafted.compressed_bytes);
        assert_eq!(layer["snapshot"], chain);
    }
    assert_eq!(layers.len(), image.layers.len());
    let fetched = registry.layer_bytes(&[&image]);
    assert_eq!(fetched, layer_sizes(&[&image]), "each blob once");

    let ctr = node.containerd.ctr();
    assert_eq!(leases(&ctr), [""; 0]);
    let check = ["images", "check", "--snapshotter", "parapull"];
    let check = ctr.run(check).unwrap();
    let row: Vec<&str> = check.lines().nth(1).unwrap().split_whitespace().collect();
    // The configuration is there, blobs of layers are not (as after a pull by Kubernetes); the image is unpacked.
    let wanted = format!("(1/{})", image.layers.len() + 1);
    assert_eq!(
        (row[0], row[4]),
        (reference.as_str(), wanted.as_str()),
        "{check}"
    );
    assert_eq!(row.last(), Some(&"true"), "{check}");
    let known = node
        .containerd
        .cri()
        .unwrap()
        .image_status(&reference)
        .unwrap();
    assert!(known.is_some(), "Kubernetes does not see the image");
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);

    // The second pull only looks.
    let second = pull_well(&node, &reference, "k8s.io");
    assert_eq!(second["layers"].as_array().unwrap().len(), layers.len());
    assert_eq!(registry.layer_bytes(&[&image]), fetched);

    node.containerd
        .cri()
        .unwrap()
        .remove_image(&reference)
        .unwrap();
    ctr.remove_image(&reference).unwrap();
    wait_until("garbage collection", || held(&ctr).is_empty());
    assert_nothing_is_left(&node);
}

#[test]
fn the_tree_is_that_of_containerd_s_own_pull() {
    let Some(programs) = programs("the_tree_is_that_of_containerd_s_own_pull") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("metadata").unwrap());
    let registry = Registry::healthy(&[(SERVED, &image)]);
    let node = Node::start(&programs, &registry.host, &[]);
    let reference = registry.reference(SERVED);
    pull_well(&node, &reference, "k8s.io");
    node.containerd.ctr().pull(&reference, "overlayfs").unwrap();
    let (ours, theirs) = (node.tree(&image), node.tree_in("overlayfs", &image));
    let differences: Vec<String> = ours.diff(&theirs).iter().map(ToString::to_string).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(ours.sha256(), theirs.sha256());
}

/// The same layout under an index that also names a platform nobody copied.
fn under_an_index(image: &CraftedImage, folder: &std::path::Path) -> CraftedImage {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for blob in fs::read_dir(image.layout.directory().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        std::os::unix::fs::symlink(blob.path(), blobs.join(blob.file_name())).unwrap();
    }
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let index_type = "application/vnd.oci.image.index.v1+json";
    let manifest = blobs.join(&image.manifest_digest["sha256:".len()..]);
    let other = Digest::of(b"another platform's manifest").to_string();
    let entry = |digest: &str, bytes: u64, architecture: &str| {
        json!({"mediaType": manifest_type, "digest": digest, "size": bytes,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [
        entry(&other, 7, "s390x"),
        entry(&image.manifest_digest, fs::metadata(manifest).unwrap().len(), "amd64")]});
    let index = index.to_string();
    let digest = Digest::of(index.as_bytes());
    fs::write(blobs.join(digest.hex()), &index).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": index_type, "digest": digest.to_string(), "size": index.len()}]});
    fs::write(folder.join("index.json"), top.to_string()).unwrap();
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    CraftedImage {
        layout: OciLayout::open(folder).unwrap(),
        ..image.clone()
    }
}

#[test]
fn an_index_is_kept_and_another_namespace_fetches_nothing() {
    let Some(programs) = programs("an_index_is_kept_and_another_namespace_fetches_nothing") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let image = under_an_index(&model(), folder.path());
    let registry = Registry::healthy(&[(SERVED, &image)]);
    let node = Node::start(&programs, &registry.host, &[]);
    let reference = registry.reference(SERVED);
    for namespace in ["default", "k8s.io"] {
        let pulled = pull_well(&node, &reference, namespace);
        assert_eq!(pulled["digest"], image.manifest_digest);
        let ctr = node.containerd.ctr().in_namespace(namespace);
        let listed = ctr.run(["images", "ls"]).unwrap();
        assert!(
            listed.contains("application/vnd.oci.image.index.v1+json"),
            "{listed}"
        );
        // Index, manifest and configuration outlive the garbage collection that each removal brings.
        ctr.run(["images", "tag", &reference, "local/other:1"])
            .unwrap();
        ctr.remove_image("local/other:1").unwrap();
        assert_eq!(ctr.content().unwrap().len(), 3, "{namespace}");
        let chains = ctr.snapshots("parapull").unwrap().len();
        assert_eq!(chains, image.layers.len(), "{namespace}");
    }
    assert_eq!(
        registry.layer_bytes(&[&image]),
        layer_sizes(&[&image]),
        "each blob once"
    );
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);
}

#[test]
fn what_cannot_be_pulled_is_told_and_leaves_nothing() {
    let Some(programs) = programs("what_cannot_be_pulled_is_told_and_leaves_nothing") else {
        return;
    };
    let image = model();
    let layer = &image.layers[3];
    let denied = FaultKind::Status {
        code: 403,
        retry_after_seconds: None,
    };
    let images = [(SERVED, &image)];
    let faults = |kind: FaultKind| -> Vec<Fault> {
        vec![fault(
            FaultTarget::Digest(layer.digest.clone()),
            FaultTimes::Always,
            kind,
        )]
    };
    let mut registry = Registry::serve(&images, RegistryProfile::default(), faults(denied));
    let node = Node::start(&programs, &registry.host, &["staging_ttl = \"0s\""]);
    let reference = registry.reference(SERVED);

    let (error, line) = pull_badly(&node, &registry.reference("team/app:none"), |_| {});
    assert_eq!(error["kind"], "not_found", "{line}");
    assert_nothing_is_left(&node);

    let (error, line) = pull_badly(&node, &reference, |_| {});
    let short = &layer.digest["sha256:".len()..][..12];
    let place = format!(
        "error: {reference}: layer 3 {short} from {}: ",
        registry.host
    );
    assert!(line.starts_with(&place) && line.contains("403"), "{line}");
    assert_eq!(
        (&error["digest"], &error["host"]),
        (&json!(layer.digest), &json!(registry.host))
    );
    assert_nothing_is_left(&node);

    let (error, line) = pull_badly(&node, &reference, |command| {
        command.args(["--snapshotter", "nobody"]);
    });
    assert_eq!(error["kind"], "containerd");
    assert!(line.contains("nobody"), "{line}");
    assert_nothing_is_left(&node);

    let (error, line) = pull_badly(&node, &reference, |command| {
        command.args(["--snapshotter", "overlayfs"]);
    });
    assert_eq!(error["kind"], "config");
    assert!(
        line.contains("ctr images pull --snapshotter overlayfs"),
        "{line}"
    );
    let own = node.containerd.ctr().snapshots("overlayfs").unwrap();
    assert!(own.is_empty(), "{own:?}");
    assert_nothing_is_left(&node);

    registry.heal(&images);
    pull_well(&node, &reference, "k8s.io");
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);
}

/// A signal in the middle ends the pull; killed outright it leaves a lease, which the next pull gives back.
#[test]
fn a_pull_ended_in_the_middle_leaves_no_image() {
    let Some(programs) = programs("a_pull_ended_in_the_middle_leaves_no_image") else {
        return;
    };
    let image = model();
    let images = [(SERVED, &image)];
    let slow = RegistryProfile {
        total_bytes_per_second: NonZeroU64::new(3_000_000),
        ..RegistryProfile::default()
    };
    let mut registry = Registry::serve(&images, slow, Vec::new());
    let settings = ["cancel_grace = \"100ms\"", "staging_ttl = \"0s\""];
    let node = Node::start(&programs, &registry.host, &settings);
    let (reference, ctr) = (registry.reference(SERVED), node.containerd.ctr());
    let end_in_the_middle = |signal: Signal| {
        let sent = registry.layer_bytes_total(&image);
        let pull = node.client_pull(&reference, "k8s.io").spawn().unwrap();
        wait_until("bytes under way", || {
            registry.layer_bytes_total(&image) > sent + 500_000
        });
        kill_process(Pid::from_raw(pull.id().cast_signed()).unwrap(), signal).unwrap();
        pull.wait_with_output().unwrap()
    };
    let output = end_in_the_middle(Signal::TERM);
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "cancelled");
    assert_nothing_is_left(&node);

    end_in_the_middle(Signal::KILL);
    node.wait_idle();
    assert_eq!(leases(&ctr).len(), 1);
    let active = |entry: &String| entry.starts_with("Active") || *entry == reference;
    assert!(!held(&ctr).iter().any(active), "{:?}", held(&ctr));
    let (error, _) = pull_badly(&node, &registry.reference("team/app:none"), |_| {});
    assert_eq!(error["kind"], "not_found");
    registry.heal(&images);
    pull_well(&node, &reference, "k8s.io");
    assert_eq!(leases(&ctr), [""; 0]);
    assert_eq!(node.run_hello(&reference), HELLO_OUTPUT);
}

#[test]
fn a_daemon_that_leaves_images_to_containerd_is_told_apart() {
    let Some(programs) = programs("a_daemon_that_leaves_images_to_containerd") else {
        return;
    };
    let image = model();
    let registry = Registry::healthy(&[(SERVED, &image)]);
    let settings = ["[pull_modes.parallel_pull_unpack]", "enable = false"];
    let node = Node::start(&programs, &registry.host, &settings);
    let (error, line) = pull_badly(&node, &registry.reference(SERVED), |_| {});
    assert_eq!(error["kind"], "config", "{line}");
    assert!(line.contains("switched off"), "{line}");
    assert_nothing_is_left(&node);
}

#[test]
fn a_directory_and_containerd_exclude_each_other() {
    let Some(programs) = programs("a_directory_and_containerd_exclude_each_other") else {
        return;
    };
    let both: &[&str] = &["--to", "/nowhere", "--containerd", "/nowhere.sock"];
    let table = [
        (both, 2, "cannot be used with"),
        (&[], 2, "--to <DIR>"),
        (
            &["--to", "/nowhere", "--namespace", "x"],
            2,
            "cannot be used with",
        ),
        (
            &["--containerd", "/nowhere.sock", "--mount", "/mnt"],
            2,
            "cannot be used with",
        ),
    ];
    for (arguments, code, words) in table {
        let mut command = Command::new(programs.snapshotter().unwrap());
        let output = command
            .args(["pull", "127.0.0.1:1/x"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

#[test]
fn a_containerd_that_does_not_answer_is_told() {
    let Some(programs) = programs("a_containerd_that_does_not_answer_is_told") else {
        return;
    };
    let image = crafted(&ImageSpec::preset("tiny").unwrap());
    let registry = Registry::healthy(&[(SERVED, &image)]);
    let output = Command::new(programs.snapshotter().unwrap())
        .args([
            "pull",
            &registry.reference(SERVED),
            "--containerd",
            "/nowhere/containerd.sock",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("/nowhere/containerd.sock") && text.contains("No such file"),
        "{text}"
    );
}
