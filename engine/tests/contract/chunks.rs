//! How large the ranges are that are asked for, where the engine chooses.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn chosen() -> RawLimits {
    RawLimits {
        chunk_bytes_max: 32 * MIB,
        chunk_bytes_min: MIB,
        window_bytes_max: 512 * MIB,
        layer_window_bytes_max: 256 * MIB,
        ..limits()
    }
}

fn with_rules(hosts: HostRules) -> Bench {
    let config = Bench::new(Strategy::Streamed, chosen()).config;
    Bench::with_config(Config { hosts, ..config })
}

fn lengths(bench: &mut Bench) -> Vec<u64> {
    let asked = bench.take_fetches();
    asked.iter().map(|(.., range)| range.len()).collect()
}

/// Delivers a range over a connection of so many bytes per millisecond that takes so long to its first byte.
fn deliver(bench: &mut Bench, op: OpId, bytes: u64, first_byte_ms: u64, bytes_per_ms: u64) {
    bench.now = bench.now.after_millis(first_byte_ms);
    let kept = bytes.min(1_000);
    bench.input(Input::RangeProgressed {
        op,
        bytes: kept,
        discarded: 0,
    });
    bench.now = bench.now.after_millis(bytes / bytes_per_ms);
    bench.finish_fetch(op);
}

#[test]
fn ranges_are_small_while_nothing_is_known_of_a_host() {
    let mut bench = Bench::new(Strategy::Streamed, chosen());
    bench.pull(0, 0, &[1024 * MIB]);
    assert_eq!(lengths(&mut bench), [4 * MIB; 8]);
}

#[test]
fn ranges_last_several_times_as_long_as_their_first_byte_takes() {
    for (first_byte_ms, bytes_per_ms) in [(20, 90_000), (30, 190_000), (100, 20_000)] {
        let mut bench = Bench::new(Strategy::Streamed, chosen());
        bench.pull(0, 0, &[1024 * MIB]);
        let (op, _, range) = bench.take_fetches()[0];
        deliver(&mut bench, op, range.len(), first_byte_ms, bytes_per_ms);
        let next = lengths(&mut bench)[0];
        let lasts_ms = next / bytes_per_ms;
        let wanted = 4 * first_byte_ms..=6 * first_byte_ms;
        assert!(
            wanted.contains(&lasts_ms),
            "{next} bytes last {lasts_ms} ms"
        );
    }
}

#[test]
fn ranges_from_a_host_nearby_are_as_small_as_they_may_be() {
    let mut bench = Bench::new(Strategy::Streamed, chosen());
    bench.pull(0, 0, &[1024 * MIB]);
    let (op, _, range) = bench.take_fetches()[0];
    deliver(&mut bench, op, range.len(), 1, 20_000);
    assert_eq!(lengths(&mut bench)[0], MIB);
}

#[test]
fn what_is_known_of_a_host_serves_the_next_image() {
    let mut bench = Bench::new(Strategy::Streamed, chosen());
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    for (op, _, range) in bench.take_fetches() {
        deliver(&mut bench, op, range.len(), 50, 100_000);
    }
    bench.drive();
    bench.pull(1, 1, &[1024 * MIB]);
    let first = lengths(&mut bench)[0];
    assert!((20 * MIB..30 * MIB).contains(&first), "{first}");
}

#[test]
fn every_fetch_there_may_be_gets_a_piece_of_a_small_image() {
    let mut bench = Bench::new(Strategy::Streamed, chosen());
    bench.pull(0, 0, &[16 * MIB]);
    assert_eq!(lengths(&mut bench), [2 * MIB; 8]);
}

#[test]
fn a_layer_of_less_than_two_chunks_is_one_request_and_no_chunk_is_tiny() {
    let mut bench = Bench::new(Strategy::Streamed, chosen());
    bench.pull(0, 0, &[7 * MIB, 9 * MIB + 1, 300, 1024 * MIB]);
    let asked = bench.take_fetches();
    let of = |blob: u32| {
        let of_blob = asked.iter().filter(move |(_, id, _)| *id == BlobId(blob));
        of_blob.map(|(.., range)| range.len()).collect::<Vec<_>>()
    };
    bench.drive();
    assert!(of(3).iter().all(|bytes| *bytes == 4 * MIB), "{:?}", of(3));
    let mut alone = Bench::new(Strategy::Streamed, chosen());
    alone.pull(0, 0, &[MIB + MIB / 2]);
    assert_eq!(lengths(&mut alone), [MIB + MIB / 2]);
}

#[test]
fn a_host_with_a_stated_request_rate_is_asked_for_few_large_ranges() {
    let mut bench = with_rules(HostRules {
        requests_per_second_max: 50,
        ..HostRules::default()
    });
    bench.pull(0, 0, &[1024 * MIB]);
    let asked = lengths(&mut bench);
    assert!(asked.iter().all(|bytes| *bytes > 20 * MIB), "{asked:?}");
}

#[test]
fn a_host_that_says_it_is_asked_too_often_is_asked_for_larger_ranges() {
    let mut bench = Bench::new(Strategy::Streamed, chosen());
    bench.pull(0, 0, &[1024 * MIB]);
    let asked = bench.take_fetches();
    bench.fail(asked[0].0, FetchError::RateLimited, Some(100));
    for (op, ..) in &asked[1..] {
        bench.finish_fetch(*op);
    }
    bench.take();
    bench.wake_for(Timer::RetryAfter);
    let next = lengths(&mut bench);
    assert!(next.iter().any(|bytes| *bytes >= 8 * MIB), "{next:?}");
}

#[test]
fn ranges_of_a_size_that_was_set_keep_it() {
    let raw = RawLimits {
        chunk_bytes_max: 4 * MIB,
        chunk_bytes_min: 0,
        ..chosen()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[1024 * MIB]);
    let (op, _, range) = bench.take_fetches()[0];
    deliver(&mut bench, op, range.len(), 100, 100_000);
    assert_eq!(lengths(&mut bench)[0], 4 * MIB);
}
