//! What is fetched and unpacked first, and in which pieces.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn ranges(bench: &mut Bench) -> Vec<(u32, u64, u64)> {
    let fetches = bench.take_fetches();
    let of = |(_, blob, range): (OpId, BlobId, ByteRange)| (blob.0, range.start, range.end);
    fetches.into_iter().map(of).collect()
}

fn wait_for(bench: &mut Bench, index: u32) {
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index,
    });
}

#[test]
fn a_blob_is_asked_for_in_equal_chunks_of_at_most_the_limit() {
    for (size, chunks) in [
        (1, vec![(0, 0, 1)]),
        (4 * MIB, vec![(0, 0, 4 * MIB)]),
        (
            5 * MIB,
            vec![(0, 0, 5 * MIB / 2), (0, 5 * MIB / 2, 5 * MIB)],
        ),
        (8 * MIB, vec![(0, 0, 4 * MIB), (0, 4 * MIB, 8 * MIB)]),
    ] {
        let mut bench = Bench::new(Strategy::Streamed, limits());
        bench.pull(0, 0, &[size]);
        assert_eq!(ranges(&mut bench), chunks, "{size}");
    }
}

#[test]
fn running_lanes_are_fed_before_layers_without_one() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[100 * MIB, 90 * MIB, 80 * MIB]);
    let asked = ranges(&mut bench);
    assert_eq!(asked.len(), 8);
    assert!(asked.iter().all(|(blob, ..)| *blob < 2), "{asked:?}");
    let lanes_fed: Vec<u32> = asked.iter().take(4).map(|(blob, ..)| *blob).collect();
    assert_eq!(
        lanes_fed,
        [0, 0, 1, 1],
        "each lane gets one piece to inflate and one on its way before either runs ahead"
    );
}

#[test]
fn of_layers_without_a_lane_the_one_somebody_waits_for_comes_first_and_then_the_longest() {
    for (waits, second) in [(None, 1), (Some(2), 2)] {
        let raw = RawLimits {
            unpacks_max: 1,
            unpacks_per_image_max: 1,
            fetches_max: 3,
            fetches_per_image_max: 3,
            layer_window_bytes_max: 4 * MIB,
            ..limits()
        };
        let mut bench = Bench::new(Strategy::Streamed, raw);
        bench.pull(0, 0, &[30 * MIB]);
        bench.pull_layers(1, &[(1, 20 * MIB), (2, 10 * MIB)], |_| Have::Nothing);
        bench.take();
        if let Some(layer) = waits {
            bench.input(Input::LayerAwaited {
                image: ImageId(1),
                index: layer - 1,
            });
        }
        // The one that is served first is also the one that is unpacked first when the lane is free.
        bench.input(Input::PullCancelled { image: ImageId(0) });
        let mut started = None;
        for _ in 0..4 {
            for action in bench.take() {
                match action {
                    Action::StartLane { layer, .. } => started = started.or(Some(layer.0)),
                    Action::CancelOp { op } => {
                        bench.input(Input::OpCancelled { op, received: 0 });
                    }
                    Action::DropBytes { .. } => bench.perform(action),
                    _ => {}
                }
            }
        }
        assert_eq!(started, Some(second), "{waits:?}");
    }
}

#[test]
fn what_failed_is_asked_for_again_before_anything_new() {
    let raw = RawLimits {
        fetches_max: 1,
        fetches_per_image_max: 1,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[40 * MIB]);
    wait_for(&mut bench, 0);
    let (op, ..) = bench.take_fetches()[0];
    bench.fail(op, FetchError::Server, None);
    let (second, _, range) = bench.take_fetches()[0];
    assert_eq!(range.start, 4 * MIB, "a backoff keeps no permit");
    bench.wake();
    bench.finish_fetch(second);
    assert_eq!(bench.take_fetches()[0].2.start, 0);
}

/// What a strategy asks for first, where the bytes go, and how far the fetches are when the first lane starts.
#[test]
fn each_strategy_fetches_and_unpacks_in_its_own_order() {
    use Destination::{Spool, Window};
    let small = RawLimits {
        fetches_max: 3,
        fetches_per_image_max: 3,
        ..limits()
    };
    for (strategy, chunk_bytes_max, to, first, fetched_before_lane) in [
        (Strategy::Sequential, 0, Spool, [0, 1, 2], 8 * MIB),
        (Strategy::Multipart, 4 * MIB, Spool, [0, 0, 1], 8 * MIB),
        (
            Strategy::StoreThenUnpack,
            4 * MIB,
            Spool,
            [0, 1, 2],
            4 * MIB,
        ),
        (Strategy::Streamed, 4 * MIB, Window, [2, 2, 0], 0),
    ] {
        let raw = RawLimits {
            chunk_bytes_max,
            ..small
        };
        let mut bench = Bench::new(strategy, raw);
        bench.pull(0, 0, &[8 * MIB, 4 * MIB, 20 * MIB]);
        bench.await_all(0, 3);
        let (mut asked, mut fetched, mut lane_after) = (Vec::new(), 0, None);
        let mut lanes = Vec::new();
        while let Some(action) = bench.actions.pop_front() {
            match action {
                Action::FetchRange {
                    blob,
                    to: goes,
                    range,
                    ..
                } => {
                    assert_eq!(goes, to, "{strategy}");
                    asked.push(blob.0);
                    fetched += range.len();
                }
                Action::StartLane { layer, .. } => {
                    lane_after = lane_after.or(Some(fetched));
                    lanes.push(layer.0);
                }
                _ => {}
            }
            bench.perform(action);
        }
        assert_eq!(asked[..3], first, "{strategy}");
        assert!(
            lane_after >= Some(fetched_before_lane),
            "{strategy}: {lane_after:?}"
        );
        let chain = strategy == Strategy::Sequential || strategy == Strategy::Multipart;
        assert!(!chain || lanes == [0, 1, 2], "{strategy}: {lanes:?}");
        assert_eq!(bench.outcomes(), [(0, Outcome::Ready)], "{strategy}");
    }
}
