//! Pulls that would wait for each other, or for nothing, for ever.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

#[test]
fn a_whole_read_that_waits_for_the_window_gives_back_the_connection_its_bytes_need() {
    let raw = RawLimits {
        window_bytes_max: 8 * MIB,
        layer_window_bytes_max: 8 * MIB,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[88 * MIB, 40 * MIB]);
    let of = |asked: &[(OpId, BlobId, ByteRange)], blob: u32| {
        let mut asked = asked.iter().filter(|asked| asked.1 == BlobId(blob));
        asked.next().expect("one of each was asked for").0
    };
    let asked = bench.take_fetches();
    let (first, whole) = (of(&asked, 0), of(&asked, 1));
    // The second layer is to be read as one stream; the longer one takes the room its chunk gave back.
    bench.input(Input::RangesRefused { op: whole });
    let second = of(&bench.take_fetches(), 0);
    // The host bears fewer connections from here on, and the stream, which waits for room, holds the only one.
    bench.fail(first, FetchError::RateLimited, Some(0));
    assert!(bench.take().is_empty(), "the other chunk may come");
    bench.fail(second, FetchError::RateLimited, Some(0));
    assert_eq!(bench.take(), [Action::CancelOp { op: whole }]);
    bench.input(Input::OpCancelled {
        op: whole,
        received: 0,
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
