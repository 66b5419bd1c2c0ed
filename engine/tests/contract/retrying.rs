//! What is tried again, when, where and how often.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn config(timing: Timing) -> Config {
    Config {
        timing,
        ..Bench::new(Strategy::Streamed, limits()).config
    }
}

fn retries(bench: &Bench) -> Vec<u32> {
    let attempt = |event: &Event| match event {
        Event::Retrying { attempt, .. } => Some(*attempt),
        _ => None,
    };
    bench.events.iter().filter_map(attempt).collect()
}

#[test]
fn an_error_is_repeated_read_whole_or_final_as_its_class_says() {
    let fatal = |error| Some(LayerError::Fetch(error));
    for (error, repeated, whole, failed) in [
        (FetchError::Connection, true, false, None),
        (FetchError::Stalled, true, false, None),
        (FetchError::Server, true, false, None),
        (FetchError::RateLimited, true, false, None),
        (FetchError::RangeUnusable, false, true, None),
        (
            FetchError::Unauthorized,
            false,
            false,
            fatal(FetchError::Unauthorized),
        ),
        (
            FetchError::NotFound,
            false,
            false,
            fatal(FetchError::NotFound),
        ),
        (
            FetchError::Protocol,
            false,
            false,
            fatal(FetchError::Protocol),
        ),
    ] {
        let mut bench = Bench::new(Strategy::Streamed, limits());
        bench.pull(0, 0, &[MIB]);
        let (op, ..) = bench.take_fetches()[0];
        bench.fail(op, error, None);
        assert_eq!(!retries(&bench).is_empty(), repeated, "{error:?}");
        let modes: Vec<FetchMode> = bench.take_sources().iter().map(|asked| asked.2).collect();
        assert_eq!(modes == [FetchMode::Whole], whole, "{error:?}");
        let told = bench.events.iter().find_map(|event| match event {
            Event::LayerFailed { error, .. } => Some(*error),
            _ => None,
        });
        assert_eq!(told, failed, "{error:?}");
    }
}

#[test]
fn backoffs_differ_from_range_to_range_and_stay_within_their_bounds() {
    let timing = Timing {
        backoff_ms_min: 1_000,
        backoff_ms_max: 3_000,
        ..Timing::default()
    };
    let mut waits = Vec::new();
    for blob in 0..20 {
        let mut bench = Bench::with_config(config(timing));
        bench.pull(0, blob, &[MIB]);
        for bound_ms in [1_000, 2_000, 3_000, 3_000] {
            let (op, ..) = bench.take_fetches()[0];
            let before = bench.now;
            bench.fail(op, FetchError::Server, None);
            bench.wake_for(Timer::RetryBackoff);
            let ms = bench.now.nanos_since(before) / 1_000_000;
            assert!((1..=bound_ms).contains(&ms), "{ms} of {bound_ms}");
            waits.push(ms);
        }
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 60, "a fleet would return in step: {waits:?}");
}

#[test]
fn a_wait_longer_than_a_person_would_is_an_error() {
    for (seconds, waits) in [(60, true), (61, false)] {
        let mut bench = Bench::with_config(config(Timing::default()));
        bench.pull(0, 0, &[MIB]);
        let (op, ..) = bench.take_fetches()[0];
        bench.fail(op, FetchError::RateLimited, Some(seconds * 1_000));
        assert_eq!(!retries(&bench).is_empty(), waits, "{seconds}");
    }
}

#[test]
fn a_trickle_below_the_least_rate_is_asked_for_again_from_the_byte_reached() {
    let timing = Timing::default();
    for (bytes, again) in [
        (timing.stall_bytes_min - 1, true),
        (timing.stall_bytes_min, false),
    ] {
        let mut bench = Bench::with_config(config(timing));
        bench.pull(0, 0, &[4 * MIB]);
        bench.await_all(0, 1);
        let (op, ..) = bench.take_fetches()[0];
        // A stall is counted from the first byte.
        for (at_ms, bytes) in [(0, 1), (timing.stall_ms - 1, bytes)] {
            bench.now = Instant::from_millis(at_ms);
            bench.input(Input::RangeProgressed {
                op,
                bytes,
                discarded: 0,
            });
        }
        bench.now = Instant::from_millis(timing.stall_ms);
        bench.input(Input::TimerReached);
        assert_eq!(bench.take().contains(&Action::CancelOp { op }), again);
        if again {
            bench.input(Input::OpCancelled {
                op,
                received: bytes,
            });
            bench.wake_for(Timer::RetryBackoff);
            assert_eq!(bench.take_fetches()[0].2.start, bytes);
        }
    }
}

#[test]
fn the_next_mirror_goes_on_from_the_byte_reached_and_the_first_is_not_asked_again() {
    let mut bench = Bench::with_config(config(Timing::default()));
    bench.pull_with(0, 0, &[4 * MIB], &[5, 6], &Have::Nothing);
    let mut asked = Vec::new();
    for _ in 0..100 {
        for action in bench.take() {
            let Action::FetchRange {
                op,
                source,
                range,
                attempt,
                ..
            } = action
            else {
                continue;
            };
            asked.push((source.0, attempt, range.start));
            if source == SourceId(1) {
                bench.finish_fetch(op);
                continue;
            }
            bench.input(Input::RangeFailed {
                op,
                error: FetchError::Server,
                received: 1_000,
                retry_after_ms: None,
            });
        }
        if asked.last().is_some_and(|last| last.0 == 1) {
            break;
        }
        bench.wake();
    }
    type Asked = (u16, u32, u64);
    let (mirrored, first): (Vec<Asked>, Vec<Asked>) = asked.iter().partition(|asked| asked.0 == 1);
    assert!(first.len() <= 8, "attempts are bounded: {first:?}");
    assert_eq!(mirrored, [(1, 1, 1_000 * first.len() as u64)], "{asked:?}");
}

#[test]
fn every_mirror_has_failed_before_the_pull_fails() {
    let mut bench = Bench::with_config(config(Timing::default()));
    bench.pull_with(0, 0, &[MIB], &[5, 6, 7], &Have::Nothing);
    let mut sources = Vec::new();
    while let Some((op, source, _)) = bench.take_sources().first().copied() {
        sources.push(source.0);
        bench.fail(op, FetchError::NotFound, None);
    }
    assert_eq!(sources, [0, 1, 2]);
    let error = LayerError::Fetch(FetchError::NotFound);
    let place = Place {
        image: ImageId(0),
        index: 0,
    };
    assert!(bench.events.contains(&Event::LayerFailed { place, error }));
}
