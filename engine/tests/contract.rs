//! The engine's contract, a sentence a test.

mod bench;

use bench::{Bench, MIB, limits};
use parapull_engine::*;

#[test]
fn a_pull_ends_ready_under_every_strategy_and_leaves_nothing() {
    for strategy in Strategy::ALL {
        for chunk_bytes_max in [0, MIB, 4 * MIB] {
            let mut bench = Bench::new(
                strategy,
                RawLimits {
                    chunk_bytes_max,
                    ..limits()
                },
            );
            bench.pull(0, 0, &[10 * MIB, 0, 3 * MIB, 90 * MIB, 1]);
            bench.await_all(0, 5);
            bench.drive();
            assert_eq!(
                bench.ready(),
                [0, 1, 2, 3, 4],
                "{strategy} {chunk_bytes_max}"
            );
            assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
            assert!(bench.engine.is_idle());
        }
    }
}

#[test]
fn the_smallest_window_is_enough() {
    for chunk_bytes_max in [0, 4 * MIB] {
        let raw = RawLimits {
            chunk_bytes_max,
            window_bytes_max: 8 * MIB,
            layer_window_bytes_max: 4 * MIB,
            ..limits()
        };
        let mut bench = Bench::new(Strategy::Streamed, raw);
        bench.pull(0, 0, &[50 * MIB, 30 * MIB, 90 * MIB]);
        bench.await_all(0, 3);
        bench.drive();
        assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    }
}

#[test]
fn nothing_is_linked_that_nobody_waits_for() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    assert_eq!(bench.ready(), [0]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 1,
    });
    bench.drive();
    assert_eq!(bench.ready(), [0, 1]);
}

#[test]
fn a_link_waits_for_its_parent() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 1,
    });
    bench.drive();
    assert!(bench.ready().is_empty());
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    assert_eq!(bench.ready(), [0, 1]);
}

#[test]
fn two_images_share_one_fetch_and_one_unpack() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, 3 * MIB]);
    bench.pull(1, 0, &[MIB, 3 * MIB]);
    bench.await_all(0, 2);
    bench.await_all(1, 2);
    let mut seen = Vec::new();
    while let Some(action) = bench.actions.pop_front() {
        seen.push(action);
        bench.perform(action);
    }
    let count = |matches: fn(&Action) -> bool| seen.iter().filter(|action| matches(action)).count();
    assert_eq!(
        count(|action| matches!(action, Action::FetchRange { .. })),
        2
    );
    assert_eq!(
        count(|action| matches!(action, Action::StartLane { .. })),
        2
    );
    assert_eq!(
        count(|action| matches!(action, Action::CloneLayer { .. })),
        2
    );
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready), (1, Outcome::Ready)]);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_failed_range_is_asked_for_again_from_the_byte_reached() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[4 * MIB]);
    bench.await_all(0, 1);
    let (op, _, range) = bench.take_fetches()[0];
    bench.input(Input::RangeFailed {
        op,
        error: FetchError::Connection,
        received: MIB,
        retry_after_ms: None,
    });
    assert_eq!(bench.wake(), Timer::RetryBackoff);
    let (_, _, again) = bench.take_fetches()[0];
    assert_eq!(again, ByteRange::new(range.start + MIB, range.end));
}

#[test]
fn retry_after_is_obeyed() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_fetches()[0];
    bench.input(Input::RangeFailed {
        op,
        error: FetchError::RateLimited,
        received: 0,
        retry_after_ms: Some(1_500),
    });
    assert_eq!(bench.wake.unwrap().at, Instant::from_millis(1_500));
    assert_eq!(bench.wake(), Timer::RetryAfter);
}

#[test]
fn attempts_end_and_the_pull_fails_with_the_cause() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.await_all(0, 2);
    for _ in 0..20 {
        for (op, blob, _) in bench.take_fetches() {
            if blob == BlobId(1) {
                bench.input(Input::RangeFailed {
                    op,
                    error: FetchError::Server,
                    received: 0,
                    retry_after_ms: None,
                });
            }
        }
        if bench.engine.snapshot().images[0].ending.is_some() {
            break;
        }
        bench.wake();
    }
    let error = LayerError::Fetch(FetchError::Server);
    let place = Place {
        image: ImageId(0),
        index: 1,
    };
    assert!(bench.events.contains(&Event::LayerFailed { place, error }));
}

#[test]
fn refused_ranges_become_one_stream() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[40 * MIB]);
    bench.await_all(0, 1);
    let fetches: Vec<_> = bench.take();
    let ops: Vec<OpId> = fetches
        .iter()
        .filter(|action| matches!(action, Action::FetchRange { .. }))
        .map(Action::op)
        .collect();
    assert!(ops.len() > 2);
    bench.input(Input::RangesRefused { op: ops[1] });
    assert!(bench.events.contains(&Event::Degraded { blob: BlobId(0) }));
    let cancelled: Vec<_> = bench.take().iter().map(Action::op).collect();
    assert_eq!(cancelled.len(), ops.len() - 1);
    for op in cancelled {
        bench.input(Input::OpCancelled { op, received: 0 });
    }
    let granted = bench.take();
    assert!(
        matches!(granted[0], Action::GrantCredit { op, .. } if op == ops[1]),
        "{granted:?}"
    );
}

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
fn a_wrong_digest_opens_one_new_life_and_no_third() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[3 * MIB]);
    bench.await_all(0, 1);
    let mut lives = 0;
    while let Some(action) = bench.actions.pop_front() {
        match action {
            Action::StartLane { op, .. } => {
                lives += 1;
                bench.input(Input::LaneFailed {
                    op,
                    error: LaneError::Corrupt,
                });
            }
            other => bench.perform(other),
        }
    }
    assert_eq!(lives, 2);
    let outcome = Outcome::Failed {
        index: 0,
        error: LayerError::Lane(LaneError::Corrupt),
    };
    assert_eq!(bench.outcomes(), [(0, outcome)]);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_fetch_without_progress_is_asked_for_again() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[4 * MIB]);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_fetches()[0];
    assert_eq!(bench.wake(), Timer::StallCheck);
    assert!(bench.take().contains(&Action::CancelOp { op }));
    bench.input(Input::OpCancelled { op, received: 100 });
    assert_eq!(bench.wake(), Timer::RetryBackoff);
    let (_, _, range) = bench.take_fetches()[0];
    assert_eq!(range.start, 100);
}

#[test]
fn spare_threads_go_to_a_lane_and_come_back_for_another_layer() {
    let raw = RawLimits {
        threads_max: 2,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[40 * MIB]);
    bench.await_all(0, 1);
    let widened = bench.take().into_iter().find_map(|action| match action {
        Action::ResizeLane { op, threads: 2 } => Some(op),
        _ => None,
    });
    let op = widened.expect("the only lane gets both threads");
    bench.pull(1, 1, &[40 * MIB]);
    assert!(
        bench
            .take()
            .contains(&Action::ResizeLane { op, threads: 1 })
    );
    bench.input(Input::LaneResized { op, threads: 1 });
    assert!(
        bench
            .take()
            .iter()
            .any(|action| matches!(action, Action::StartLane { .. }))
    );
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
fn a_blob_larger_than_the_spool_fails_its_pull_at_once() {
    let raw = RawLimits {
        spool_bytes_max: MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::StoreThenUnpack, raw);
    bench.pull(0, 0, &[MIB + 1]);
    bench.drive();
    let outcome = Outcome::Failed {
        index: 0,
        error: LayerError::SpoolTooSmall,
    };
    assert_eq!(bench.outcomes(), [(0, outcome)]);
}

#[test]
fn facts_about_closed_ops_are_ignored_and_counted() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    bench.drive();
    let before = bench.engine.snapshot().stale;
    for input in [
        Input::RangeFetched { op: OpId(0) },
        Input::RangeProgressed {
            op: OpId(0),
            bytes: 5,
            discarded: 0,
        },
        Input::LaneResized {
            op: OpId(1),
            threads: 1,
        },
        Input::Linked { op: OpId(1) },
    ] {
        bench.input(input);
    }
    assert_eq!(bench.engine.snapshot().stale - before, 4);
}

#[test]
#[should_panic(expected = "the law")]
fn an_input_before_the_drain_is_a_programmers_error() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench
        .engine
        .handle_input(Instant::ZERO, Input::TimerReached);
    bench
        .engine
        .handle_input(Instant::ZERO, Input::TimerReached);
}

#[test]
fn equal_inputs_give_equal_traces() {
    let run = || {
        let mut bench = Bench::new(Strategy::Streamed, limits());
        bench.pull(0, 0, &[40 * MIB, 7 * MIB]);
        bench.await_all(0, 2);
        bench.drive();
        bench.engine.trace_hash()
    };
    assert_eq!(run(), run());
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

#[test]
fn a_whole_read_that_reads_away_what_is_here_is_no_stall() {
    let mut bench = Bench::new(
        Strategy::Streamed,
        RawLimits {
            chunk_bytes_max: 0,
            ..limits()
        },
    );
    bench.pull(0, 0, &[4 * MIB]);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_fetches()[0];
    bench.now = Instant::from_millis(19_000);
    bench.input(Input::RangeProgressed {
        op,
        bytes: 0,
        discarded: 3 * MIB,
    });
    assert_eq!(bench.wake(), Timer::StallCheck);
    assert!(bench.take().is_empty());
}

#[test]
fn a_fetch_that_is_being_cancelled_is_not_kept_as_the_whole_read() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[40 * MIB]);
    bench.await_all(0, 1);
    let (lanes, fetches): (Vec<Action>, Vec<Action>) = bench
        .take()
        .into_iter()
        .partition(|action| matches!(action, Action::StartLane { .. }));
    let fetches = fetches
        .iter()
        .filter(|action| matches!(action, Action::FetchRange { .. }));
    let ops: Vec<OpId> = fetches.map(Action::op).collect();
    assert_eq!(bench.wake(), Timer::StallCheck);
    bench.take();
    bench.input(Input::RangesRefused { op: ops[0] });
    bench.input(Input::OpCancelled {
        op: ops[0],
        received: 0,
    });
    for op in &ops[1..] {
        bench.input(Input::OpCancelled {
            op: *op,
            received: 0,
        });
    }
    bench.actions.extend(lanes);
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}
