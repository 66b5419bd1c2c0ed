//! How pulls end: cancelled, failed, abandoned, shut down.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

#[test]
fn a_cancelled_pull_frees_everything() {
    for after in 0..12 {
        let mut bench = Bench::new(Strategy::Streamed, limits());
        bench.pull(0, 0, &[40 * MIB, 40 * MIB]);
        bench.await_all(0, 2);
        for _ in 0..after {
            if let Some(action) = bench.actions.pop_front() {
                bench.perform(action);
            }
        }
        bench.input(Input::PullCancelled { image: ImageId(0) });
        bench.drive();
        assert_eq!(bench.outcomes(), [(0, Outcome::Cancelled)], "after {after}");
        assert!(
            bench.engine.is_idle(),
            "after {after}: {:?}",
            bench.engine.snapshot()
        );
    }
}

#[test]
fn one_cancelled_image_does_not_stop_what_another_wants() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[40 * MIB]);
    bench.pull(1, 0, &[40 * MIB]);
    bench.await_all(0, 1);
    bench.await_all(1, 1);
    bench.input(Input::PullCancelled { image: ImageId(0) });
    bench.drive();
    assert_eq!(
        bench.outcomes(),
        [(0, Outcome::Cancelled), (1, Outcome::Ready)]
    );
    assert!(bench.engine.is_idle());
}

#[test]
fn an_image_nobody_waits_for_ends_after_the_grace_period() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[400 * MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.input(Input::LayerLeft {
        image: ImageId(0),
        index: 0,
    });
    bench.now = Instant::from_millis(29_999);
    bench.input(Input::TimerReached);
    assert!(bench.engine.snapshot().images[0].ending.is_none());
    bench.now = Instant::from_millis(30_000);
    bench.input(Input::TimerReached);
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Cancelled)]);
}

#[test]
fn a_caller_that_joins_within_the_grace_period_keeps_the_pull_alive() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[4 * MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.input(Input::LayerLeft {
        image: ImageId(0),
        index: 0,
    });
    bench.now = Instant::from_millis(20_000);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}

#[test]
fn lowered_limits_wait_for_what_is_held_and_never_cancel() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[100 * MIB, 100 * MIB, 50 * MIB]);
    bench.await_all(0, 3);
    let lower = RawLimits {
        fetches_max: 1,
        fetches_per_image_max: 1,
        unpacks_max: 1,
        unpacks_per_image_max: 1,
        window_bytes_max: 8 * MIB,
        layer_window_bytes_max: 4 * MIB,
        ..limits()
    };
    bench.input(Input::LimitsChanged(Limits::try_from(lower).unwrap()));
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    assert_eq!(bench.engine.snapshot().window_bytes.1, 8 * MIB);
}

#[test]
fn shutdown_ends_every_pull_and_refuses_new_ones() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[40 * MIB]);
    bench.input(Input::ShutdownRequested);
    bench.pull(1, 5, &[MIB]);
    bench.drive();
    let mut outcomes = bench.outcomes();
    outcomes.sort_by_key(|(image, _)| *image);
    assert_eq!(outcomes, [(0, Outcome::Cancelled), (1, Outcome::Cancelled)]);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_caller_that_was_answered_waits_no_more() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, 400 * MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    while bench.ready().is_empty() {
        let action = bench.actions.pop_front().unwrap();
        bench.perform(action);
    }
    assert_eq!(bench.engine.snapshot().images[0].callers, 0);
    bench.now = Instant::from_millis(30_000);
    bench.input(Input::TimerReached);
    assert!(bench.engine.snapshot().images[0].ending.is_some());
}

#[test]
fn the_cause_of_a_failure_is_told_before_its_consequences() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB, MIB]);
    bench.await_all(0, 3);
    for (op, blob, _) in bench.take_fetches() {
        if blob == BlobId(2) {
            bench.input(Input::RangeFailed {
                op,
                error: FetchError::NotFound,
                received: 0,
                retry_after_ms: None,
            });
        }
    }
    let failed: Vec<u32> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::LayerFailed { place, .. } => Some(place.index),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [2, 0, 1]);
}

#[test]
fn shutdown_does_not_wait_for_what_is_kept_in_case() {
    let mut config = Bench::new(Strategy::Streamed, limits()).config;
    config.timing.staging_ttl_ms = 600_000;
    let mut bench = Bench::with_config(config);
    bench.pull(0, 0, &[MIB, MIB]);
    bench.drive();
    bench.input(Input::PullCancelled { image: ImageId(0) });
    bench.drive();
    assert!(!bench.engine.is_idle(), "the staged layers are kept");
    bench.input(Input::ShutdownRequested);
    bench.drive();
    assert!(bench.engine.is_idle());
}
