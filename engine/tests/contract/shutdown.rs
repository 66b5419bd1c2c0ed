//! The end of the daemon: what still finishes, what stays, what goes.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn bench() -> Bench {
    let config = Bench::new(Strategy::Streamed, limits()).config;
    Bench::with_config(Config {
        timing: Timing::default(),
        ..config
    })
}

fn kept(bench: &Bench) -> Vec<LayerId> {
    let kept = |event: &Event| match event {
        Event::LayerKept { layer } => Some(*layer),
        _ => None,
    };
    bench.events.iter().filter_map(kept).collect()
}

/// A pull of one layer whose bytes are all here and whose lane runs.
fn unpacking(bench: &mut Bench) -> OpId {
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    let actions = bench.take();
    let lane = actions.iter().find_map(|action| match action {
        Action::StartLane { op, .. } => Some(*op),
        _ => None,
    });
    for action in actions {
        if let Action::FetchRange { op, .. } = action {
            bench.input(Input::RangeFetched { op });
        }
    }
    let Some(lane) = lane else {
        panic!("no lane was started");
    };
    lane
}

#[test]
fn a_lane_that_has_all_of_its_bytes_may_finish_and_its_tree_stays() {
    let mut bench = bench();
    let lane = unpacking(&mut bench);
    bench.input(Input::ShutdownRequested);
    assert!(!bench.take().contains(&Action::CancelOp { op: lane }));
    assert_eq!(bench.wake.map(|wake| wake.why), Some(Timer::ShutdownGrace));
    bench.input(Input::LaneFinished {
        op: lane,
        produced: MIB,
        entries: 1,
    });
    assert_eq!(kept(&bench), [LayerId(0)]);
    assert!(bench.take().is_empty(), "nothing is dropped");
    assert_eq!(bench.outcomes(), [(0, Outcome::Cancelled)]);
    assert!(bench.engine.is_idle());
    assert_eq!(bench.wake, None);
}

#[test]
fn a_lane_that_takes_too_long_is_cancelled_after_the_grace() {
    let mut bench = bench();
    let lane = unpacking(&mut bench);
    bench.input(Input::ShutdownRequested);
    bench.wake_for(Timer::ShutdownGrace);
    assert_eq!(bench.now, Instant::from_millis(10_000));
    assert!(bench.take().contains(&Action::CancelOp { op: lane }));
    bench.input(Input::OpCancelled {
        op: lane,
        received: 0,
    });
    bench.drive();
    assert!(bench.engine.is_idle());
}

#[test]
fn a_lane_that_fails_in_the_grace_leaves_nothing() {
    let mut bench = bench();
    let lane = unpacking(&mut bench);
    bench.input(Input::ShutdownRequested);
    bench.input(Input::LaneFailed {
        op: lane,
        error: LaneError::Corrupt,
    });
    bench.drive();
    assert!(kept(&bench).is_empty());
    assert!(bench.engine.is_idle());
}

#[test]
fn a_lane_that_still_needs_bytes_is_cancelled_at_once() {
    let mut bench = bench();
    bench.pull(0, 0, &[400 * MIB]);
    bench.await_all(0, 1);
    bench.take();
    bench.input(Input::ShutdownRequested);
    let cancelled = bench.take();
    assert!(cancelled.len() > 2);
    for action in cancelled {
        bench.input(Input::OpCancelled {
            op: action.op(),
            received: 0,
        });
    }
    bench.drive();
    assert!(bench.engine.is_idle());
}

#[test]
fn staged_layers_stay_for_the_next_start() {
    let mut bench = bench();
    bench.pull(0, 0, &[MIB, MIB]);
    bench.drive();
    bench.input(Input::ShutdownRequested);
    assert_eq!(kept(&bench), [LayerId(0), LayerId(1)]);
    assert!(bench.engine.is_idle());
}

#[test]
fn staged_layers_go_where_nothing_is_kept() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB]);
    bench.drive();
    bench.input(Input::ShutdownRequested);
    assert!(kept(&bench).is_empty());
    assert!(matches!(bench.take()[..], [Action::DropStaged { .. }]));
}
