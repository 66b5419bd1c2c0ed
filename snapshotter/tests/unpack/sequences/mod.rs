//! Random sequences of layers: what is made of them here, apart and at once and linked later, is what containerd's
//! overlayfs applier makes of them one after the other.
//!
//! Each sequence follows from its seed. `PARAPULL_SEQUENCES=FROM..TO` chooses the seeds; a failure is shrunk and says how
//! to repeat it.

mod attributes;
mod dress;
mod explain;
mod generate;
mod judge;
mod paths;
mod random;
mod umoci;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::applier::Applier;
use super::lane::is_root;
pub use generate::{Plan, Taste, sequence};
use judge::{Outcome, judge};

#[test]
fn random_sequences_are_as_containerd_unpacks_them() {
    if !is_root("random_sequences_are_as_containerd_unpacks_them") {
        return;
    }
    let Some(applier) = Applier::get() else {
        return;
    };
    let mut total = Outcome::default();
    let seeds = seeds(SEQUENCES);
    for seed in seeds.clone() {
        let plans = sequence(seed, Taste::Wild);
        match judged(applier, &plans) {
            Ok(outcome) => total.add(&outcome),
            Err(why) => fail(seed, &plans, &why, |plans| judged(applier, plans).err()),
        }
    }
    println!("seeds {seeds:?}: {total:#?}");
    assert!(
        total.compared >= seeds.end - seeds.start,
        "most layers are compared: {total:?}"
    );
}

#[test]
fn random_tame_sequences_are_as_umoci_unpacks_them() {
    if !is_root("random_tame_sequences_are_as_umoci_unpacks_them") || !umoci::is_installed() {
        return;
    }
    let (mut compared, seeds) = (0, seeds(TAME_SEQUENCES));
    for seed in seeds.clone() {
        let plans = sequence(seed, Taste::Tame);
        let judged = |plans: &[Plan]| {
            catch_unwind(AssertUnwindSafe(|| umoci::judge(plans)))
                .unwrap_or_else(|_| Err("a panic, told above".to_owned()))
        };
        match judged(&plans) {
            Ok(is_compared) => compared += u64::from(is_compared),
            Err(why) => fail(seed, &plans, &why, |plans| judged(plans).err()),
        }
    }
    println!("seeds {seeds:?}: {compared} compared with umoci");
    assert!(
        compared * 4 >= seeds.end - seeds.start,
        "only {compared} compared"
    );
}

fn judged(applier: &Applier, plans: &[Plan]) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| judge(applier, plans)))
        .unwrap_or_else(|_| Err("a panic, told above".to_owned()))
}

/// Makes the sequence as small as it can be while it still fails, and ends the test.
fn fail(
    seed: u64,
    plans: &[Plan],
    why: &str,
    mut failure: impl FnMut(&[Plan]) -> Option<String>,
) -> ! {
    let mut smallest = plans.to_vec();
    let mut why = why.to_owned();
    let mut attempts = 0;
    loop {
        let next = smaller(&smallest).find_map(|plans| {
            attempts += 1;
            let reason = (attempts < SHRINK_ATTEMPTS_MAX).then(|| failure(&plans))??;
            Some((plans, reason))
        });
        let Some(next) = next else {
            break;
        };
        (smallest, why) = next;
    }
    for (index, plan) in smallest.iter().enumerate() {
        println!("layer {index}:");
        for entry in &plan.entries {
            println!("  {entry:?}");
        }
    }
    panic!(
        "seed {seed}: {why}\nrepeat: PARAPULL_SEQUENCES={seed}..{} cargo test -p parapull-snapshotter --test unpack_layers \
         random_",
        seed + 1
    );
}

/// The sequence without one layer or without one entry.
fn smaller(plans: &[Plan]) -> impl Iterator<Item = Vec<Plan>> {
    let layers = (0..plans.len()).map(|layer| {
        let mut fewer = plans.to_vec();
        fewer.remove(layer);
        fewer
    });
    let entries = plans.iter().enumerate().flat_map(move |(layer, plan)| {
        (0..plan.entries.len()).map(move |entry| {
            let mut fewer = plans.to_vec();
            fewer[layer].entries.remove(entry);
            fewer
        })
    });
    layers.chain(entries)
}

/// The seeds that were asked for, or the first `count`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("PARAPULL_SEQUENCES") else {
        return 0..count;
    };
    let parsed = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("PARAPULL_SEQUENCES={text} is not FROM..TO"))
}

/// Sequences of every run.
const SEQUENCES: u64 = 200;
/// Fewer with umoci, which is a process for each.
const TAME_SEQUENCES: u64 = 60;
const SHRINK_ATTEMPTS_MAX: u32 = 3000;
