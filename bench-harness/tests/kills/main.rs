//! Pulls by CRI on a real containerd, killed: before and after every answer of the engine, between the steps of the store,
//! at random instants, and with containerd in the snapshotter's place.
//!
//! After each kill and restart: what is listed is on the disk and the other way round, every snapshot answers, the image is
//! pulled again with the right tree, containers run, and when the image is removed nothing is left of it.
//!
//! A spread of points is killed in every run; all of them and many more instants with `PARAPULL_KILLS=all`. The points
//! exist only in a snapshotter with the feature `kill-points`: `cargo build --bins --features
//! parapull-snapshotter/kill-points`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blows;
mod machine;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use blows::{Blow, Seed};
use fake_registry::CraftedImage;
use machine::Machine;
use parapull_bench::processes::Programs;
use support::node::{Registry, crafted_of, programs};

/// The image that is pulled and killed, and one that shares its two lowest layers and stays.
struct Subject {
    killed: CraftedImage,
    kept: CraftedImage,
    registry: Registry,
}

impl Subject {
    fn craft() -> Self {
        let image = |name: &str, top: &str| {
            crafted_of(&format!(
                r#"{{"name": "{name}", "seed": 23, "layers": [
                    {{"uncompressed_bytes": 300000, "files": 6}},
                    {{"uncompressed_bytes": 200000, "files": 12, "directories": 4}}{top}]}}"#
            ))
        };
        let killed = image(
            "killed",
            r#", {"uncompressed_bytes": 400000, "files": 9, "media_type": "zstd:3"},
                {"uncompressed_bytes": 150000, "files": 3}"#,
        );
        let kept = image("kept", r#", {"uncompressed_bytes": 100000, "files": 2}"#);
        let registry = Registry::healthy(&[("killed:1", &killed), ("kept:1", &kept)]);
        Self {
            killed,
            kept,
            registry,
        }
    }

    fn reference(&self) -> String {
        self.registry.reference("killed:1")
    }

    fn reference_kept(&self) -> String {
        self.registry.reference("kept:1")
    }
}

/// What an undisturbed pull is like.
struct Undisturbed {
    /// From the snapshotter's start to the pull's end.
    points: Vec<String>,
    /// The same where the lower layers are there.
    points_reused: Vec<String>,
    took: Duration,
    tree_sha256: String,
    tree_sha256_kept: String,
}

#[test]
fn a_pull_that_is_killed_anywhere_leaves_a_sound_node() {
    let Some(programs) = programs("a_pull_that_is_killed_anywhere_leaves_a_sound_node") else {
        return;
    };
    let subject = Subject::craft();
    let mut machine = Machine::start(&programs, &subject.registry.host);
    let undisturbed = undisturbed(&mut machine, &subject);
    if undisturbed.points.is_empty() {
        let why = "the snapshotter was built without the feature kill-points";
        assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(), "{why}");
        eprintln!("SKIPPED a_pull_that_is_killed_anywhere_leaves_a_sound_node: {why}");
        return;
    }
    let seed = Seed::of_run();
    println!(
        "{} points, {} over shared layers, an undisturbed pull takes {:?}, {seed}",
        undisturbed.points.len(),
        undisturbed.points_reused.len(),
        undisturbed.took
    );
    let is_all = std::env::var("PARAPULL_KILLS").is_ok_and(|which| which == "all");
    let blows = blows::choose(
        [&undisturbed.points, &undisturbed.points_reused],
        undisturbed.took,
        seed,
        is_all,
    );
    let mut failures = Vec::new();
    for (number, blow) in blows.iter().enumerate() {
        let started = Instant::now();
        let struck = catch_unwind(AssertUnwindSafe(|| {
            strike_and_check(&mut machine, &subject, &undisturbed, blow, number)
        }));
        let took = started.elapsed();
        match struck {
            Ok(outcome) => println!("{number:>3} {blow}: {outcome}, {took:?}"),
            Err(_) => {
                println!("{number:>3} {blow}: FAILED, {took:?}");
                failures.push(blow.to_string());
                machine = restarted(machine, &programs, &subject);
            }
        }
    }
    println!("{} kills", blows.len());
    assert!(failures.is_empty(), "{seed}: {failures:#?}");
}

/// A new machine in the place of one whose state is not to be trusted.
fn restarted(old: Machine, programs: &Programs, subject: &Subject) -> Machine {
    drop(old);
    Machine::start(programs, &subject.registry.host)
}

fn undisturbed(machine: &mut Machine, subject: &Subject) -> Undisturbed {
    machine.boot(Some(0));
    machine.wait_agreement(Some(0));
    let started = Instant::now();
    machine.pull_well(&subject.reference());
    let (took, points) = (started.elapsed(), machine.points());
    let tree_sha256 = machine.tree_sha256(&subject.killed);
    machine.pull_well(&subject.reference_kept());
    let tree_sha256_kept = machine.tree_sha256(&subject.kept);
    machine.run_container(&subject.reference());
    machine.remove_image(&subject.reference());
    machine.wait_clean(subject.kept.layers.len());
    machine.boot(Some(0));
    machine.pull_well(&subject.reference());
    let points_reused = machine.points();
    machine.remove_image(&subject.reference());
    machine.remove_image(&subject.reference_kept());
    machine.wait_clean(0);
    Undisturbed {
        points,
        points_reused,
        took,
        tree_sha256,
        tree_sha256_kept,
    }
}

/// One pull, struck and looked at; says how the pull ended.
fn strike_and_check(
    machine: &mut Machine,
    subject: &Subject,
    undisturbed: &Undisturbed,
    blow: &Blow,
    number: usize,
) -> String {
    let is_reused = blow.is_reused;
    if is_reused {
        machine.pull_well(&subject.reference_kept());
    }
    let outcome = blow.strike(machine, &subject.reference());
    machine.wait_agreement(None);
    if is_reused {
        assert_eq!(
            machine.tree_sha256(&subject.kept),
            undisturbed.tree_sha256_kept
        );
    }
    machine.pull_well(&subject.reference());
    assert_eq!(
        machine.tree_sha256(&subject.killed),
        undisturbed.tree_sha256
    );
    if blow.hits_containerd() {
        machine.collect_garbage();
    }
    // Of the other image only the top layer is its own.
    machine.wait_clean(subject.killed.layers.len() + usize::from(is_reused));
    if number.is_multiple_of(4) {
        machine.run_container(&subject.reference());
    }
    machine.remove_image(&subject.reference());
    machine.collect_garbage();
    if is_reused {
        machine.run_container(&subject.reference_kept());
        machine.remove_image(&subject.reference_kept());
    }
    machine.wait_clean(0);
    outcome
}
