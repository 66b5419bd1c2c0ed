//! Limits that change while pulls run.

#![expect(clippy::expect_used, reason = "a test may panic")]

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn lower() -> RawLimits {
    RawLimits {
        window_bytes_max: 16 * MIB,
        layer_window_bytes_max: 12 * MIB,
        ..limits()
    }
}

fn change(bench: &mut Bench, raw: RawLimits) {
    let limits = Limits::try_from(raw).expect("limits that can work");
    bench.input(Input::LimitsChanged(limits));
}

#[test]
fn a_lowered_window_takes_force_as_soon_as_what_is_held_fits_it_and_not_before() {
    for chunk_bytes_max in [4 * MIB, 0] {
        let raw = |raw| RawLimits {
            chunk_bytes_max,
            ..raw
        };
        let mut bench = Bench::new(Strategy::Streamed, raw(limits()));
        bench.pull(0, 0, &[100 * MIB, 100 * MIB, 100 * MIB]);
        bench.await_all(0, 3);
        let asked = bench.engine.snapshot().window_bytes.0;
        change(&mut bench, raw(lower()));
        let mut waited = 0;
        loop {
            let (held, max) = bench.engine.snapshot().window_bytes;
            match max == 16 * MIB {
                true => assert!(held <= max, "{held}"),
                false => {
                    assert!(held > 16 * MIB, "it fits: {held}");
                    waited += 1;
                }
            }
            if bench.step().is_none() {
                break;
            }
        }
        assert_eq!(waited > 0, asked > 16 * MIB, "{chunk_bytes_max}");
        assert_eq!(bench.engine.snapshot().window_bytes.1, 16 * MIB);
        assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    }
}

#[test]
fn until_a_lowered_window_takes_force_only_running_lanes_get_more() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[100 * MIB, 100 * MIB, 90 * MIB]);
    bench.await_all(0, 3);
    let asked = bench.take();
    change(&mut bench, lower());
    let third = bench.engine.snapshot().blobs[2];
    assert_eq!(third.charged_bytes, 0);
    bench.actions.extend(asked);
    let mut lanes_fed = 0;
    while bench.engine.snapshot().window_bytes.1 > 16 * MIB {
        let said = bench.actions.len();
        bench.step();
        let new = bench.actions.iter().skip(said.saturating_sub(1));
        for action in new {
            let pending = bench.engine.snapshot().window_bytes.1 > 16 * MIB;
            match action {
                Action::FetchRange { blob, .. } if pending => {
                    assert!(blob.0 < 2, "a layer without bytes begins: {action:?}");
                    lanes_fed += 1;
                }
                Action::StartLane { .. } if pending => panic!("a lane begins"),
                _ => {}
            }
        }
    }
    assert!(lanes_fed < 100, "{lanes_fed}");
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}

#[test]
fn a_raised_window_takes_force_at_once() {
    let mut bench = Bench::new(Strategy::Streamed, lower());
    bench.pull(0, 0, &[100 * MIB, 100 * MIB]);
    let before = bench.take_fetches().len();
    change(&mut bench, limits());
    assert_eq!(bench.engine.snapshot().window_bytes.1, 64 * MIB);
    assert_eq!((before, bench.take_fetches().len()), (4, 4));
}

#[test]
fn lowered_again_before_it_took_force_the_last_word_counts() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[100 * MIB, 100 * MIB]);
    bench.await_all(0, 2);
    change(&mut bench, lower());
    change(&mut bench, limits());
    assert_eq!(bench.engine.snapshot().window_bytes.1, 64 * MIB);
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}

#[test]
fn a_window_lowered_while_chunks_wait_out_their_backoff_lets_them_be_fetched() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[100 * MIB, 100 * MIB]);
    bench.await_all(0, 2);
    let actions = bench.take();
    for (op, ..) in actions.iter().filter_map(|action| match action {
        Action::FetchRange { op, .. } => Some((*op, ())),
        _ => None,
    }) {
        bench.fail(op, FetchError::Server, None);
    }
    bench.actions.extend(actions);
    change(&mut bench, lower());
    assert_eq!(bench.engine.snapshot().window_bytes.1, 64 * MIB);
    for _ in 0..1_000 {
        bench.drive();
        if !bench.outcomes().is_empty() {
            break;
        }
        bench.wake();
    }
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    assert_eq!(bench.engine.snapshot().window_bytes.1, 16 * MIB);
}

#[test]
fn fewer_fetches_and_lanes_are_waited_for_and_nothing_is_cancelled() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[100 * MIB, 100 * MIB, 30 * MIB]);
    bench.await_all(0, 3);
    let fewer = RawLimits {
        fetches_max: 2,
        fetches_per_image_max: 1,
        unpacks_max: 1,
        unpacks_per_image_max: 1,
        ..limits()
    };
    change(&mut bench, fewer);
    let mut least = usize::MAX;
    loop {
        let (fetches, lanes) = bench.open();
        let took_force = bench.engine.snapshot().fetches.1 == 2;
        least = least.min(fetches);
        assert!(!took_force || lanes <= 1);
        match bench.step() {
            Some(action) => assert!(!matches!(action, Action::CancelOp { .. })),
            None => break,
        }
    }
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}
