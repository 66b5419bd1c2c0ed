//! Bytes flow on credit: what may be held in memory, whatever happens to the fetches that bring it.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

/// Limits under which the window is what holds things up.
fn tight() -> RawLimits {
    RawLimits {
        window_bytes_max: 16 * MIB,
        layer_window_bytes_max: 12 * MIB,
        ..limits()
    }
}

fn charged(bench: &Bench) -> u64 {
    bench.engine.snapshot().window_bytes.0
}

/// Chunks as ranges and blobs as streams.
fn both(raw: RawLimits) -> [RawLimits; 2] {
    [
        raw,
        RawLimits {
            chunk_bytes_max: 0,
            ..raw
        },
    ]
}

#[test]
fn outstanding_credit_and_unreleased_bytes_never_exceed_the_window() {
    for raw in both(tight()) {
        let mut bench = Bench::new(Strategy::Streamed, raw);
        bench.pull(0, 0, &[52 * MIB, 28 * MIB, 3 * MIB, 88 * MIB]);
        bench.await_all(0, 4);
        let mut fullest = 0;
        loop {
            let held = bench.credited - bench.released;
            assert!(held <= 16 * MIB, "{held} of {raw:?}");
            assert_eq!(held, charged(&bench), "the books agree");
            fullest = fullest.max(held);
            if bench.step().is_none() {
                break;
            }
        }
        assert!(fullest > 12 * MIB, "the window was used: {fullest}");
        assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    }
}

#[test]
fn the_bytes_issued_for_a_blob_are_a_contiguous_prefix() {
    let mut bench = Bench::new(Strategy::Streamed, tight());
    bench.pull(0, 0, &[52 * MIB, 28 * MIB, 88 * MIB]);
    bench.await_all(0, 3);
    let mut issued = [0; 3];
    while let Some(action) = bench.step() {
        if let Action::FetchRange { blob, range, .. } = action {
            let next = &mut issued[blob.0 as usize];
            assert_eq!(range.start, *next, "a hole in {blob:?}");
            *next = range.end;
        }
    }
    assert_eq!(issued, [52 * MIB, 28 * MIB, 88 * MIB]);
}

#[test]
fn layers_without_a_lane_leave_a_piece_for_every_lane_there_may_be() {
    // Two lanes of 4 MiB pieces: 8 of 16 MiB stay free of look-ahead while no lane runs.
    let mut bench = Bench::new(Strategy::StoreThenUnpack, tight());
    let scheduling = Scheduling {
        destination: Destination::Window,
        ..Strategy::StoreThenUnpack.scheduling()
    };
    bench = Bench::with_config(Config {
        scheduling,
        ..bench.config
    });
    bench.pull(0, 0, &[40 * MIB, 40 * MIB, 40 * MIB]);
    let asked: u64 = bench.take_fetches().iter().map(|asked| asked.2.len()).sum();
    assert!(asked <= 8 * MIB, "{asked}");
    let held = bench.engine.snapshot().blobs;
    assert!(held.iter().all(|blob| blob.hold == HoldReason::Lane));
}

#[test]
fn a_layer_holds_its_own_share_of_the_window_and_no_more() {
    let raw = RawLimits {
        layer_window_bytes_max: 8 * MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[88 * MIB]);
    let asked: u64 = bench.take_fetches().iter().map(|asked| asked.2.len()).sum();
    assert_eq!(asked, 8 * MIB);
    assert_eq!(
        bench.engine.snapshot().blobs[0].hold,
        HoldReason::LayerWindow
    );
}

#[test]
fn a_whole_read_is_granted_credit_as_its_lane_lets_go_of_bytes() {
    let raw = RawLimits {
        chunk_bytes_max: 0,
        layer_window_bytes_max: 8 * MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[40 * MIB]);
    let actions = bench.take();
    let lane = actions.iter().find_map(|action| match action {
        Action::StartLane { op, .. } => Some(*op),
        _ => None,
    });
    let (op, credit) = actions
        .iter()
        .find_map(|action| match action {
            Action::FetchRange { op, credit, .. } => Some((*op, *credit)),
            _ => None,
        })
        .unwrap_or((OpId(99), 0));
    assert_eq!(credit, 4 * MIB, "the first slice");
    bench.input(Input::RangeProgressed {
        op,
        bytes: 8 * MIB,
        discarded: 0,
    });
    assert!(bench.take().is_empty(), "its share is full");
    bench.input(Input::LaneAdvanced {
        op: lane.unwrap_or(OpId(99)),
        released: 5 * MIB,
        produced: 0,
        entries: 0,
        waiting: Waiting::Cpu,
    });
    let bytes = 4 * MIB;
    assert_eq!(bench.take(), [Action::GrantCredit { op, bytes }]);
}

#[test]
fn a_whole_read_without_a_lane_is_credited_completely_or_not_opened() {
    for (size, opened) in [(20 * MIB, true), (88 * MIB, false)] {
        let raw = RawLimits {
            chunk_bytes_max: 0,
            unpacks_max: 1,
            unpacks_per_image_max: 1,
            ..limits()
        };
        let mut bench = Bench::new(Strategy::Streamed, raw);
        bench.pull(0, 0, &[100 * MIB, size]);
        let blob = bench.engine.snapshot().blobs[1];
        let expected = if opened { (1, size) } else { (0, 0) };
        assert_eq!((blob.fetches, blob.charged_bytes), expected);
    }
}

#[test]
fn a_chunk_keeps_its_credit_across_retries() {
    let mut bench = Bench::new(Strategy::Streamed, tight());
    bench.pull(0, 0, &[88 * MIB]);
    let before = charged(&bench);
    for _ in 0..3 {
        let asked = bench.take_fetches();
        bench.fail(asked[0].0, FetchError::Server, None);
        assert_eq!(charged(&bench), before);
        bench.wake_for(Timer::RetryBackoff);
        assert_eq!(charged(&bench), before);
    }
}

#[test]
fn a_refused_range_gives_its_credit_back_and_is_granted_new_credit_for_the_stream() {
    let mut bench = Bench::new(Strategy::Streamed, tight());
    bench.pull(0, 0, &[88 * MIB]);
    let asked = bench.take_fetches();
    let before = charged(&bench);
    bench.input(Input::RangesRefused { op: asked[0].0 });
    assert_eq!(charged(&bench), before - 4 * MIB);
    for (op, ..) in &asked[1..] {
        bench.input(Input::OpCancelled {
            op: *op,
            received: 0,
        });
    }
    let granted: u64 = bench
        .take()
        .iter()
        .map(|action| match action {
            Action::GrantCredit { bytes, .. } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(granted, charged(&bench));
    assert!(granted > 0);
}

#[test]
fn the_bytes_of_a_cancelled_pull_come_back_to_the_window() {
    for raw in both(tight()) {
        let mut bench = Bench::new(Strategy::Streamed, raw);
        bench.pull(0, 0, &[88 * MIB]);
        assert!(charged(&bench) > 0);
        bench.input(Input::PullCancelled { image: ImageId(0) });
        assert!(charged(&bench) > 0, "only when its fetches have ended");
        bench.drive();
        assert_eq!(charged(&bench), 0);
        bench.pull(1, 1, &[88 * MIB]);
        bench.await_all(1, 1);
        bench.drive();
        assert_eq!(bench.outcomes()[1], (1, Outcome::Ready));
    }
}

#[test]
fn wrong_bytes_give_back_all_they_were_charged_for_though_a_lane_had_read_them() {
    let mut bench = Bench::new(Strategy::Streamed, tight());
    bench.pull(0, 0, &[40 * MIB]);
    bench.await_all(0, 1);
    let mut lanes = 0;
    while let Some(action) = bench.actions.pop_front() {
        let Action::StartLane { op, .. } = action else {
            bench.perform(action);
            continue;
        };
        lanes += 1;
        if lanes == 2 {
            assert_eq!(
                bench.engine.snapshot().window_bytes.0,
                bench.engine.snapshot().blobs[0].charged_bytes
            );
            bench.perform(action);
            continue;
        }
        for (fetch, ..) in bench.take_fetches() {
            bench.finish_fetch(fetch);
        }
        bench.input(Input::LaneAdvanced {
            op,
            released: 4 * MIB,
            produced: 0,
            entries: 0,
            waiting: Waiting::Input,
        });
        bench.input(Input::LaneFailed {
            op,
            error: LaneError::Corrupt,
        });
    }
    assert_eq!(lanes, 2);
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    assert_eq!(charged(&bench), 0);
}

#[test]
fn a_window_that_cannot_hold_a_piece_for_every_lane_is_refused_at_start() {
    let piece = 4 * MIB;
    for (window_bytes_max, unpacks_max, allowed) in [
        (2 * piece, 2, true),
        (2 * piece - 1, 2, false),
        (3 * piece - 1, 3, false),
        (3 * piece, 3, true),
    ] {
        let raw = RawLimits {
            window_bytes_max,
            unpacks_max,
            layer_window_bytes_max: piece,
            threads_max: 3,
            ..limits()
        };
        let bytes_min = piece * u64::from(unpacks_max);
        let refused = LimitsError::WindowTooSmall { bytes_min };
        assert_eq!(Limits::try_from(raw).err(), (!allowed).then_some(refused));
    }
}
