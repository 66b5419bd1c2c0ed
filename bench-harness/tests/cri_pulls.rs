//! The same image through CRI by containerd's own overlayfs and by parapull, from two registries: equal, entry by entry. A
//! container runs from what parapull made.
//!
//! Needs the workspace's programs beside the test (`cargo build --bins`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use fake_registry::HELLO_OUTPUT;
use parapull_bench::processes::Programs;
use parapull_bench::pulls::{RegistryKind, Stage, StageOptions, Subject};
use parapull_scenario::ImageSpec;
use support::node::{crafted, has_program, programs};

#[test]
fn a_tiny_image_is_the_same_by_both() {
    compare("tiny");
}

#[test]
fn odd_entries_are_the_same_by_both() {
    compare("metadata");
}

#[test]
fn a_model_image_is_the_same_by_both() {
    compare("ml-like:300MB");
}

/// A chain as long as overlay mounts usually get, each layer linked over the one before.
#[test]
fn an_image_of_125_layers_is_the_same_by_both() {
    compare("many-layers:20MB");
}

fn compare(preset: &str) {
    let Some(programs) = programs(preset) else {
        return;
    };
    for registry in [RegistryKind::Fake, RegistryKind::Docker] {
        if registry == RegistryKind::Docker
            && !(has_program(preset, "docker-registry") && has_program(preset, "skopeo"))
        {
            continue;
        }
        compare_from(preset, registry, &programs);
    }
}

fn compare_from(preset: &str, registry: RegistryKind, programs: &Programs) {
    let image = crafted(&ImageSpec::preset(preset).unwrap());
    let stage = Stage::prepare(&StageOptions {
        image: image.layout.directory().display().to_string(),
        registry,
        profile: None,
        work: None,
        programs: programs.clone(),
        containerd: None,
    })
    .unwrap();
    let case = format!("{preset} from {}", stage.registry_name());
    let theirs = stage
        .pull_by_cri(&Subject::Containerd(None), "theirs", 0)
        .unwrap()
        .pulled();
    let ours = stage.pull_by_cri(&Subject::Parapull, "ours", 0).unwrap();
    eprintln!(
        "{case}: {:.2} s by containerd, {:.2} s by parapull",
        theirs.run.seconds, ours.pulled.run.seconds
    );
    let differences: Vec<String> = ours
        .pulled
        .tree
        .diff(&theirs.tree)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(differences.is_empty(), "{case}: {differences:#?}");
    assert_eq!(
        ours.pulled.run.tree_sha256, theirs.run.tree_sha256,
        "{case}"
    );
    let entries: usize = ours
        .pulled
        .tree
        .layers
        .iter()
        .map(|layer| layer.entries.len())
        .sum();
    assert!(
        entries > image.layers.len(),
        "{case}: {entries} entries were compared"
    );
    assert_eq!(ours.run_container().unwrap(), HELLO_OUTPUT, "{case}");
}
