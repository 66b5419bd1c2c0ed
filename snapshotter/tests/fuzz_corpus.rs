//! What the fuzz targets have found worth keeping, replayed: each input in `snapshotter/fuzz/corpus` against the checks
//! that the fuzzer itself makes.
//!
//! Archives make devices, owners and trusted attributes, which needs root: without it these tests say so and pass,
//! unless `PARAPULL_REQUIRE_ALL=1`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to the fuzz targets as well"
)]

mod fuzz;

use std::path::PathBuf;

#[test]
fn archives_of_the_corpus_hold() {
    if is_root("archives_of_the_corpus_hold") {
        replay("tar_apply", fuzz::tar_apply);
    }
}

#[test]
fn chosen_entries_of_the_corpus_hold() {
    if is_root("chosen_entries_of_the_corpus_hold") {
        replay("tar_entries", fuzz::tar_entries);
    }
}

#[test]
fn streams_of_the_corpus_hold() {
    replay("stream_framing", fuzz::stream_framing);
}

#[test]
fn texts_of_the_corpus_hold() {
    replay("texts", fuzz::texts);
}

/// libzstd looks at the size that a frame states only if the frame does not end in an empty block, or comes whole.
#[test]
fn a_zstd_frame_of_another_size_than_it_says_is_refused_in_any_slices() {
    let input = regression("stream_framing", "zstd-frame-of-another-size");
    assert!(!fuzz::stream_framing(&input));
}

/// What came out of it before its fault was counted only if it came in an earlier slice.
#[test]
fn a_broken_gzip_member_behind_a_whole_one_is_refused_in_any_slices() {
    let input = regression("stream_framing", "gzip-broken-member-behind-a-whole-one");
    assert!(!fuzz::stream_framing(&input));
}

#[test]
fn implied_directories_come_in_the_order_of_their_bytes() {
    if is_root("implied_directories_come_in_the_order_of_their_bytes") {
        let input = regression("tar_entries", "implied-in-byte-order");
        assert!(fuzz::tar_entries(&input));
    }
}

#[test]
fn what_is_hidden_below_a_setgid_directory_has_not_its_group() {
    if is_root("what_is_hidden_below_a_setgid_directory_has_not_its_group") {
        let input = regression("tar_entries", "hidden-below-a-setgid-directory");
        assert!(fuzz::tar_entries(&input));
    }
}

#[test]
fn what_is_hidden_below_a_setgid_directory_of_its_own_layer_has_its_group() {
    if is_root("what_is_hidden_below_a_setgid_directory_of_its_own_layer_has_its_group") {
        let input = regression("tar_entries", "hidden-below-an-own-setgid-directory");
        assert!(fuzz::tar_entries(&input));
    }
}

fn corpus(target: &str) -> PathBuf {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    fuzz.join("corpus").join(target)
}

/// An input that once broke a check.
fn regression(target: &str, name: &str) -> Vec<u8> {
    std::fs::read(corpus(target).join(format!("regression-{name}"))).unwrap()
}

/// Checks every input of the target. The corpus is of use only if it holds what is accepted and what is refused.
fn replay(target: &str, check: fn(&[u8]) -> bool) {
    let (mut accepted, mut refused) = (0, 0);
    for entry in std::fs::read_dir(corpus(target)).unwrap() {
        let path = entry.unwrap().path();
        // The last one that is named has failed.
        println!("{}", path.display());
        if check(&std::fs::read(path).unwrap()) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    println!("{target}: {accepted} accepted, {refused} refused");
    assert!(
        accepted >= INPUTS_MIN && refused >= INPUTS_MIN,
        "{accepted} accepted, {refused} refused"
    );
}

fn is_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED {test}: needs root for devices, owners and trusted attributes");
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{test} needs root"
    );
    false
}

/// Of each kind.
const INPUTS_MIN: u32 = 10;
