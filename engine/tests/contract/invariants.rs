//! The numbered invariants, seen from outside, step by step through whole pulls. What the engine can tell of its own state
//! it asserts after every input as well (`Engine::check_invariants`).

use std::collections::{BTreeMap, BTreeSet};

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

/// Two images that share a layer, under every strategy, in chunks and as streams.
fn each_run(mut run: impl FnMut(Bench, &str)) {
    for strategy in Strategy::ALL {
        for chunk_bytes_max in [0, MIB, 4 * MIB] {
            let raw = RawLimits {
                chunk_bytes_max,
                fetches_max: 6,
                fetches_per_image_max: 4,
                ..limits()
            };
            let mut bench = Bench::new(strategy, raw);
            bench.pull_layers(0, &[(0, 10 * MIB), (1, 0), (2, 30 * MIB)], |_| {
                Have::Nothing
            });
            bench.pull_layers(1, &[(3, 7 * MIB), (2, 30 * MIB)], |_| Have::Nothing);
            bench.await_all(0, 3);
            bench.await_all(1, 2);
            run(bench, &format!("{strategy} {chunk_bytes_max}"));
        }
    }
}

#[test]
fn invariant_1_no_more_runs_than_the_limits_allow() {
    each_run(|mut bench, name| {
        let mut most = (0, 0);
        loop {
            let (fetches, lanes) = bench.open();
            assert!(fetches <= 6 && lanes <= 2, "{name}: {fetches} {lanes}");
            most = (most.0.max(fetches), most.1.max(lanes));
            if bench.step().is_none() {
                break;
            }
        }
        assert!(most.0 > 1 && most.1 > 0, "{name}: {most:?}");
    });
}

#[test]
fn invariant_2_every_byte_is_asked_for_once() {
    each_run(|mut bench, name| {
        let mut asked: BTreeMap<BlobId, Vec<(u64, u64)>> = BTreeMap::new();
        while let Some(action) = bench.step() {
            if let Action::FetchRange { blob, range, .. } = action {
                asked
                    .entry(blob)
                    .or_default()
                    .push((range.start, range.end));
            }
        }
        for (blob, mut ranges) in asked {
            ranges.sort_unstable();
            let ends = std::iter::once(0).chain(ranges.iter().map(|range| range.1));
            let holes: Vec<_> = ends
                .zip(&ranges)
                .filter(|(end, next)| *end != next.0)
                .collect();
            assert!(holes.is_empty(), "{name}: {blob:?} {holes:?}");
        }
    });
}

#[test]
fn invariant_3_a_report_that_comes_late_takes_nothing_back() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[4 * MIB]);
    let (op, ..) = bench.take_fetches()[0];
    let fetched = |bench: &Bench| bench.engine.snapshot().images[0].layers[0].fetched;
    for (bytes, known) in [
        (MIB, MIB),
        (3 * MIB, 3 * MIB),
        (2 * MIB, 3 * MIB),
        (0, 3 * MIB),
    ] {
        bench.input(Input::RangeProgressed {
            op,
            bytes,
            discarded: 0,
        });
        assert_eq!(fetched(&bench), known);
    }
}

#[test]
fn invariant_4_a_layer_is_ready_once_and_only_when_its_link_was_made() {
    each_run(|mut bench, name| {
        let (mut linked, mut told, mut unpacked) = (0, 0, BTreeSet::new());
        while let Some(action) = bench.step() {
            match action {
                Action::StartLane { layer, .. } => {
                    unpacked.insert(layer);
                }
                Action::LinkLayer { layer, .. } => {
                    assert!(
                        unpacked.contains(&layer),
                        "{name}: {layer:?} was never unpacked"
                    );
                    linked += 1;
                }
                _ => {}
            }
            let ready = bench.ready().len();
            assert!(
                ready <= linked && ready >= told,
                "{name}: {ready} of {linked}"
            );
            told = ready;
        }
        assert_eq!((linked, told), (5, 5), "{name}");
        let places: BTreeSet<Place> = bench
            .events
            .iter()
            .filter_map(|event| match event {
                Event::LayerReady { place } => Some(*place),
                _ => None,
            })
            .collect();
        assert_eq!(places.len(), 5, "{name}: one of them was told twice");
    });
}

#[test]
fn invariant_5_an_op_is_asked_for_in_one_action_and_its_id_never_comes_again() {
    each_run(|mut bench, name| {
        let mut last = None;
        while let Some(action) = bench.step() {
            let goes_on = matches!(
                action,
                Action::GrantCredit { .. } | Action::ResizeLane { .. } | Action::CancelOp { .. }
            );
            if !goes_on {
                assert!(last < Some(action.op()), "{name}: {action:?}");
                last = Some(action.op());
            }
        }
    });
}

#[test]
#[should_panic(expected = "never issued")]
fn invariant_5_an_op_that_never_was_is_a_programmers_error() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.input(Input::RangeProgressed {
        op: OpId(7),
        bytes: 1,
        discarded: 0,
    });
}

#[test]
fn invariant_7_what_is_over_is_forgotten() {
    each_run(|mut bench, name| {
        bench.drive();
        assert_eq!(bench.outcomes().len(), 2, "{name}");
        assert!(bench.engine.is_idle(), "{name}");
        let snapshot = bench.engine.snapshot();
        let used = [
            snapshot.fetches.0,
            snapshot.unpacks.0,
            snapshot.threads.0,
            snapshot.window_bytes.0,
            snapshot.spool_bytes.0,
        ];
        assert_eq!(used, [0; 5], "{name}");
        assert_eq!(bench.wake, None, "{name}: it wants to be woken for nothing");
    });
}

#[test]
fn invariants_8_and_9_unfinished_work_is_owed_an_event_and_no_wake_has_passed() {
    each_run(|mut bench, name| {
        loop {
            let (fetches, lanes) = bench.open();
            let owed = fetches + lanes > 0 || !bench.actions.is_empty() || bench.wake.is_some();
            assert!(owed || bench.engine.is_idle(), "{name}");
            assert!(bench.wake.is_none_or(|wake| wake.at > bench.now), "{name}");
            if bench.step().is_none() {
                break;
            }
        }
    });
}

#[test]
fn invariant_10_with_a_permit_free_every_blob_that_has_chunks_says_what_holds_it() {
    each_run(|mut bench, name| {
        loop {
            let snapshot = bench.engine.snapshot();
            if snapshot.fetches.0 < snapshot.fetches.1 {
                for blob in &snapshot.blobs {
                    assert_ne!(blob.hold, HoldReason::Fetches, "{name}: {blob:?}");
                }
            }
            let idle = snapshot.images.iter().flat_map(|image| {
                image.layers.iter().filter(|layer| {
                    layer.phase == LayerPhase::Waiting && layer.hold == HoldReason::Nothing
                })
            });
            assert_eq!(idle.count(), 0, "{name}: {snapshot:?}");
            if bench.step().is_none() {
                break;
            }
        }
    });
}

#[test]
#[should_panic(expected = "invariant 13 (time)")]
fn invariant_13_time_that_runs_backwards_is_a_programmers_error() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.now = Instant::from_millis(5);
    bench.input(Input::TimerReached);
    bench.now = Instant::from_millis(4);
    bench.input(Input::TimerReached);
}

/// Bytes of two blobs, each way of which some are fetched for nothing.
#[test]
fn invariant_14_what_was_fetched_is_the_size_and_what_was_fetched_again() {
    let size = 12 * MIB;
    for (fails, again) in [
        ("", 0),
        ("retry", 0),
        ("corrupt", size),
        ("refused", 4 * MIB),
    ] {
        let mut bench = Bench::new(Strategy::Streamed, limits());
        bench.pull(0, 0, &[size]);
        bench.await_all(0, 1);
        let mut failed = fails.is_empty();
        while bench.outcomes().is_empty() {
            let Some(action) = bench.actions.pop_front() else {
                bench.wake();
                continue;
            };
            match (action, fails) {
                (Action::FetchRange { op, range, .. }, "retry") if !failed && range.start > 0 => {
                    failed = true;
                    bench.fail(op, FetchError::Server, None);
                }
                (Action::StartLane { op, .. }, "corrupt") if !failed => {
                    failed = true;
                    for (fetch, ..) in bench.take_fetches() {
                        bench.finish_fetch(fetch);
                    }
                    bench.input(Input::LaneFailed {
                        op,
                        error: LaneError::Corrupt,
                    });
                }
                (Action::FetchRange { op, range, .. }, "refused") if !failed => {
                    failed = true;
                    assert_eq!(range.start, 0);
                    // The third chunk came before the first was refused; it lies beyond the frontier.
                    if let Some(last) = bench.take_fetches().last() {
                        bench.finish_fetch(last.0);
                    }
                    bench.fail(op, FetchError::RangeUnusable, None);
                }
                (action, _) => bench.perform(action),
            }
        }
        let stats = bench.events.iter().find_map(|event| match event {
            Event::PullFinished { stats, .. } => Some(*stats),
            _ => None,
        });
        let stats = stats.unwrap_or_default();
        assert_eq!(stats.bytes_retried, again, "{fails}");
        assert_eq!(stats.bytes_fetched, size + again, "{fails}");
    }
}
