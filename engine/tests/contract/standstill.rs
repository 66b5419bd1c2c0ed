//! Pulls that would wait for each other, or for nothing, for ever.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

#[test]
fn a_whole_read_that_waits_for_the_window_gives_back_the_connection_its_bytes_need() {
    let raw = RawLimits {
        slice_bytes: 8 * MIB,
        window_bytes_max: 16 * MIB,
        layer_window_bytes_max: 12 * MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[88 * MIB, 40 * MIB]);
    let lane = bench.actions.iter().find_map(|action| match action {
        Action::StartLane {
            op,
            layer: LayerId(1),
            ..
        } => Some(*op),
        _ => None,
    });
    let asked = bench.take_fetches();
    let [of_first @ .., (whole, BlobId(1), _)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    // The second layer is read as one stream, and its lane lets go of what came.
    bench.input(Input::RangesRefused { op: *whole });
    bench.input(Input::RangeProgressed {
        op: *whole,
        bytes: 4 * MIB,
        discarded: 0,
    });
    let larger_share = RawLimits {
        layer_window_bytes_max: 16 * MIB,
        ..raw
    };
    let limits = Limits::try_from(larger_share).expect("limits that can work");
    bench.input(Input::LimitsChanged(limits));
    bench.take();
    bench.input(Input::LaneAdvanced {
        op: lane.expect("both layers have a lane"),
        released: 4 * MIB,
        produced: 0,
        entries: 0,
        waiting: Waiting::Input,
    });
    let more = bench.take_fetches();
    assert_eq!(more.len(), 1, "the longer layer takes the room");
    // Its host comes to bear one connection only, and the stream, which waits for room, holds that one.
    let of_first: Vec<OpId> = of_first.iter().chain(&more).map(|asked| asked.0).collect();
    for op in of_first {
        assert!(bench.take().is_empty(), "a chunk may still come");
        bench.fail(op, FetchError::RateLimited, Some(0));
    }
    assert_eq!(bench.take(), [Action::CancelOp { op: *whole }]);
    bench.input(Input::OpCancelled {
        op: *whole,
        received: 4 * MIB,
    });
    assert_eq!(bench.take_fetches()[0].1, BlobId(0));
}

/// Two images of one layer, whose tree turns out to depend on what lies below it, each time it is linked as it is.
#[test]
fn of_two_places_that_each_need_a_tree_of_their_own_the_first_goes_first() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB]);
    bench.pull(1, 0, &[MIB]);
    let here = |image| Input::LayerAwaited {
        image: ImageId(image),
        index: 0,
    };
    bench.input(here(0));
    bench.input(here(1));
    let mut refused = 0;
    while let Some(action) = bench.actions.pop_front() {
        match action {
            Action::LinkLayer {
                op,
                tree: Tree::Original,
                place,
                ..
            } => {
                refused += 1;
                // Its caller leaves while the link is made, so the other image does not wait for it.
                bench.input(Input::LayerLeft {
                    image: place.image,
                    index: 0,
                });
                bench.input(Input::LinkFailed {
                    op,
                    error: LinkError::NeedsParents,
                });
                bench.input(here(place.image.0));
            }
            other => bench.perform(other),
        }
    }
    assert!(refused >= 1);
    assert_eq!(bench.outcomes().len(), 2, "{:?}", bench.engine.snapshot());
    assert!(bench.engine.is_idle());
}

#[test]
fn smaller_pieces_are_looked_at_as_soon_as_they_are_allowed() {
    let raw = RawLimits {
        unpacks_max: 1,
        unpacks_per_image_max: 1,
        window_bytes_max: 5 * MIB,
        layer_window_bytes_max: 5 * MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[4 * MIB, 4 * MIB]);
    assert_eq!(bench.take_fetches().len(), 1, "no room for look-ahead");
    let smaller = RawLimits {
        chunk_bytes_max: MIB / 2,
        slice_bytes: MIB / 2,
        ..raw
    };
    let limits = Limits::try_from(smaller).expect("limits that can work");
    bench.input(Input::LimitsChanged(limits));
    assert_eq!(bench.take_fetches().len(), 2, "half a mebibyte each");
}

#[test]
fn a_whole_read_to_be_repeated_is_asked_for_as_soon_as_its_lane_starts() {
    let raw = RawLimits {
        chunk_bytes_max: 0,
        unpacks_max: 1,
        unpacks_per_image_max: 1,
        window_bytes_max: 24 * MIB,
        layer_window_bytes_max: 24 * MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[22 * MIB]);
    bench.pull(1, 1, &[20 * MIB]);
    bench.await_all(0, 1);
    bench.await_all(1, 1);
    // The second is read ahead; it fails, and there is no room for it any more when its backoff is over.
    let ahead = bench
        .take_fetches()
        .into_iter()
        .find(|asked| asked.1 == BlobId(1));
    let Some((op, ..)) = ahead else { return };
    bench.fail(op, FetchError::Server, None);
    bench.wake_for(Timer::RetryBackoff);
    bench.input(Input::PullCancelled { image: ImageId(0) });
    for _ in 0..1_000 {
        bench.drive();
        if bench.outcomes().len() == 2 {
            break;
        }
        bench.wake();
    }
    assert!(bench.outcomes().contains(&(1, Outcome::Ready)));
}
