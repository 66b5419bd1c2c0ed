//! Pulls that get nowhere, and what one pull may repeat.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn bench(timing: Timing) -> Bench {
    let config = Bench::new(Strategy::Streamed, limits()).config;
    Bench::with_config(Config { timing, ..config })
}

fn failed(bench: &Bench) -> Option<LayerError> {
    bench.events.iter().find_map(|event| match event {
        Event::LayerFailed { error, .. } => Some(*error),
        _ => None,
    })
}

/// Lets every fetch fail, and every deadline come, until the pull fails.
fn fail_all(bench: &mut Bench, error: FetchError, retry_after_ms: Option<u64>) -> LayerError {
    for _ in 0..10_000 {
        if let Some(error) = failed(bench) {
            return error;
        }
        for action in bench.take() {
            match action {
                Action::FetchRange { op, .. } if error != FetchError::Stalled => {
                    bench.fail(op, error, retry_after_ms);
                }
                Action::CancelOp { op } => bench.input(Input::OpCancelled { op, received: 0 }),
                _ => {}
            }
        }
        if bench.actions.is_empty() && failed(bench).is_none() {
            bench.wake();
        }
    }
    panic!("it never fails");
}

#[test]
fn a_pull_without_any_progress_for_two_minutes_fails() {
    let mut bench = bench(Timing {
        attempts_max: 1_000,
        ..Timing::default()
    });
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    assert_eq!(
        fail_all(&mut bench, FetchError::Stalled, None),
        LayerError::NoProgress
    );
    assert_eq!(bench.now, Instant::from_millis(120_000));
}

#[test]
fn waiting_because_the_registry_said_so_is_no_lack_of_progress() {
    let mut bench = bench(Timing::default());
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    let error = fail_all(&mut bench, FetchError::RateLimited, Some(59_000));
    assert_eq!(error, LayerError::Fetch(FetchError::RateLimited));
    assert!(bench.now > Instant::from_millis(7 * 58_000));
}

#[test]
fn waiting_for_permits_is_no_lack_of_progress() {
    let mut config = bench(Timing::default()).config;
    config.limits = Limits::try_from(RawLimits {
        fetches_max: 1,
        fetches_per_image_max: 1,
        ..limits()
    })
    .unwrap();
    let mut bench = Bench::with_config(config);
    bench.pull(0, 0, &[4 * MIB]);
    bench.pull(1, 1, &[4 * MIB]);
    bench.await_all(0, 1);
    bench.await_all(1, 1);
    let (op, ..) = bench.take_fetches()[0];
    for step in 1..=30 {
        bench.now = Instant::from_millis(step * 15_000);
        bench.input(Input::RangeProgressed {
            op,
            bytes: step * 100_000,
            discarded: 0,
        });
    }
    assert_eq!(failed(&bench), None);
}

#[test]
fn a_pull_repeats_only_so_many_requests_in_all() {
    let mut bench = bench(Timing {
        attempts_max: 1_000,
        retries_max: 20,
        progress_ms: 0,
        ..Timing::default()
    });
    bench.pull(0, 0, &[20 * MIB]);
    bench.await_all(0, 1);
    let error = fail_all(&mut bench, FetchError::Server, None);
    assert_eq!(error, LayerError::Fetch(FetchError::Server));
    let retries = bench
        .events
        .iter()
        .filter(|event| matches!(event, Event::Retrying { .. }));
    assert_eq!(retries.count(), 20);
}

#[test]
fn a_fetch_without_credit_does_not_stall() {
    let mut bench = Bench::new(
        Strategy::Streamed,
        RawLimits {
            chunk_bytes_max: 0,
            layer_window_bytes_max: 4 * MIB,
            ..limits()
        },
    );
    bench.pull(0, 0, &[12 * MIB]);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_fetches()[0];
    bench.now = Instant::from_millis(1_000);
    bench.input(Input::RangeProgressed {
        op,
        bytes: 4 * MIB,
        discarded: 0,
    });
    bench.now = Instant::from_millis(100_000);
    bench.input(Input::TimerReached);
    assert!(!bench.take().contains(&Action::CancelOp { op }));
}

/// A fetch asked for at time 0, of a blob that is here or at a host.
fn asked(have: &Have) -> (Bench, OpId) {
    let mut bench = bench(Timing::default());
    bench.pull_with(0, 0, &[4 * MIB], &[0], have);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_sources()[0];
    (bench, op)
}

/// Comes to a time without anything else happening; whether the fetch is then given up.
fn is_given_up_at(bench: &mut Bench, op: OpId, ms: u64) -> bool {
    while bench
        .wake
        .is_some_and(|wake| wake.at <= Instant::from_millis(ms))
    {
        bench.wake();
    }
    bench.take().contains(&Action::CancelOp { op })
}

#[test]
fn a_first_byte_has_time_to_connect_and_to_be_found() {
    let (mut bench, op) = asked(&Have::Nothing);
    assert!(!is_given_up_at(&mut bench, op, 39_999));
    assert!(is_given_up_at(&mut bench, op, 40_000));
}

#[test]
fn a_stall_is_counted_from_the_first_byte() {
    let (mut bench, op) = asked(&Have::Nothing);
    assert!(!is_given_up_at(&mut bench, op, 35_000));
    bench.now = Instant::from_millis(35_000);
    bench.input(Input::RangeProgressed {
        op,
        bytes: 1,
        discarded: 0,
    });
    assert!(!is_given_up_at(&mut bench, op, 54_999));
    assert!(is_given_up_at(&mut bench, op, 55_000));
}

#[test]
fn what_lies_on_the_node_has_no_time_to_be_found() {
    let (mut bench, op) = asked(&Have::LocalBlob);
    assert!(!is_given_up_at(&mut bench, op, 19_999));
    assert!(is_given_up_at(&mut bench, op, 20_000));
}
