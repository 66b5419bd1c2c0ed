//! The main job, end to end: a real containerd pulls by CRI through a real `parapull-snapshotter`, from two registries, and
//! what comes out is what containerd's own overlayfs makes, entry by entry. A container runs from it.
//!
//! Needs the workspace's programs beside the test (`cargo build --bins`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use parapull_bench::processes::Programs;
use parapull_bench::pulls::{RegistryKind, Stage, StageOptions, Subject};
use support::can_run;

const IMAGES: [&str; 3] = ["tiny", "metadata", "ml-like:300MB"];

#[test]
fn pulls_from_fake_registry_equal_those_of_containerds_overlayfs() {
    for image in IMAGES {
        pull_both_ways(RegistryKind::Fake, image);
    }
}

#[test]
fn pulls_from_docker_registry_equal_those_of_containerds_overlayfs() {
    for image in IMAGES {
        pull_both_ways(RegistryKind::Docker, image);
    }
}

/// A chain as long as overlay mounts usually get, each layer linked over the one before.
#[test]
fn an_image_of_125_layers_equals_that_of_containerds_overlayfs() {
    pull_both_ways(RegistryKind::Fake, "many-layers:20MB");
}

fn pull_both_ways(registry: RegistryKind, image: &str) {
    let programs = ["containerd", "ctr", "runc", "docker-registry", "skopeo"];
    if !can_run("cri_pulls", &programs) {
        return;
    }
    let stage = Stage::prepare(&StageOptions {
        image: image.into(),
        registry,
        profile: None,
        work: None,
        programs: Programs::beside_this_one(),
        containerd: None,
    })
    .unwrap();
    let overlayfs = stage
        .pull_by_cri(&Subject::Containerd(None), "overlayfs", 0)
        .unwrap()
        .pulled();
    let parapull = stage
        .pull_by_cri(&Subject::Parapull, "parapull", 0)
        .unwrap();

    let differences: Vec<String> = overlayfs
        .tree
        .diff(&parapull.pulled.tree)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        differences.is_empty(),
        "{image} from {registry:?}: {differences:#?}"
    );
    assert_eq!(overlayfs.tree.sha256(), parapull.pulled.tree.sha256());
    assert_eq!(
        parapull.run_container().unwrap(),
        fake_registry::HELLO_OUTPUT
    );
}
