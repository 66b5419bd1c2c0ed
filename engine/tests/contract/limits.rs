//! What may run at once, and what the engine promises whatever happens.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

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
    bench.input(Input::LaneResized { op, threads: 2 });
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
