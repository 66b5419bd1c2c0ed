//! Every containerd generation, in every way that clients make it pull, configured by the fragment we ship for it.
//!
//! In each case parapull pulls beside the same containerd's own overlayfs: the trees are equal entry by entry, who fetched
//! is as the table says, a container runs, a second pull changes nothing, and the image's removal leaves nothing.
//!
//! What Debian 12 does not have is unpacked from the archives of later releases. Needs the workspace's programs beside the
//! test (`cargo build --bins`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use fake_registry::HELLO_OUTPUT;
use parapull_bench::processes::{Generation, ObtainedContainerd, Programs};
use parapull_bench::pulls::{RegistryKind, Stage, StageOptions, Subject, Way};
use parapull_scenario::ImageSpec;
use support::node::{crafted, crafted_of, programs};

#[test]
fn containerd_1_6_pulls_through_us_in_every_way() {
    in_every_way(Generation::V1_6);
}

#[test]
fn containerd_1_7_pulls_through_us_in_every_way() {
    in_every_way(Generation::V1_7);
}

#[test]
fn containerd_2_pulls_through_us_in_every_way() {
    in_every_way(Generation::V2);
}

/// Layers of every encoding, one of them twice.
#[test]
fn every_generation_takes_every_encoding() {
    let image = crafted_of(
        r#"{"name": "encodings", "seed": 5, "layers": [
            {"uncompressed_bytes": 500000, "files": 5},
            {"uncompressed_bytes": 900000, "files": 30, "directories": 4, "media_type": "zstd:3"},
            {"uncompressed_bytes": 300000, "files": 7, "media_type": "uncompressed"},
            {"duplicate_of": 1}]}"#,
    );
    for generation in Generation::ALL {
        let Some((programs, containerd)) = obtained(generation) else {
            return;
        };
        let stage = stage(image.layout.directory(), &programs);
        check(&stage, &containerd, Way::Cri);
    }
}

fn in_every_way(generation: Generation) {
    let Some((programs, containerd)) = obtained(generation) else {
        return;
    };
    let image = crafted(&ImageSpec::preset("metadata").unwrap());
    let stage = stage(image.layout.directory(), &programs);
    for way in Way::of(containerd.version) {
        check(&stage, &containerd, way);
    }
}

/// A containerd of this generation; where none can be had this says why, and fails if everything is required.
fn obtained(generation: Generation) -> Option<(Programs, ObtainedContainerd)> {
    let test = format!("containerd {generation}");
    let programs = programs(&test)?;
    match generation.obtain() {
        Ok(containerd) => {
            eprintln!("containerd {generation} is {}", containerd.version);
            Some((programs, containerd))
        }
        Err(why) => {
            assert!(
                std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
                "{test}: failed to {why}"
            );
            eprintln!("SKIPPED {test}: failed to {why}");
            None
        }
    }
}

fn stage(layout: &Path, programs: &Programs) -> Stage {
    Stage::prepare(&StageOptions {
        image: layout.display().to_string(),
        registry: RegistryKind::Fake,
        profile: None,
        work: None,
        programs: programs.clone(),
        containerd: None,
    })
    .unwrap()
}

fn check(stage: &Stage, containerd: &ObtainedContainerd, way: Way) {
    let case = format!("containerd {} by {way}", containerd.version);
    let through = (containerd.program.as_path(), way);
    let pull = |subject, name| {
        let pulled = stage.pull_by_containerd(subject, through, name, 0);
        pulled.unwrap_or_else(|error| panic!("{case}: {subject}: {error}"))
    };
    let theirs = pull(&Subject::Containerd(None), "theirs").pulled();
    let ours = pull(&Subject::Parapull, "ours");
    let differences: Vec<String> = theirs
        .tree
        .diff(&ours.pulled.tree)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(differences.is_empty(), "{case}: {differences:#?}");
    let observed = ours
        .observe(stage)
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    eprintln!(
        "{case}: {} fetched, {:.2} s, containerd alone {:.2} s",
        observed.fetcher, ours.pulled.run.seconds, theirs.run.seconds
    );
    assert_eq!(observed.fetcher, way.fetcher(containerd.version), "{case}");
    assert_eq!(observed.output, HELLO_OUTPUT, "{case}");
    assert_eq!(observed.changed_by_second_pull, [""; 0], "{case}");
    assert_eq!(observed.left_behind, [""; 0], "{case}");
}
