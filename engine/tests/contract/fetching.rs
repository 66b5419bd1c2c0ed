//! What becomes of a fetch: retries, refusals, stalls, wrong bytes.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

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
    bench.input(Input::RangeProgressed {
        op,
        bytes: 100,
        discarded: 0,
    });
    bench.wake_for(Timer::StallCheck);
    assert!(bench.take().contains(&Action::CancelOp { op }));
    bench.input(Input::OpCancelled { op, received: 100 });
    assert_eq!(bench.wake(), Timer::RetryBackoff);
    let (_, _, range) = bench.take_fetches()[0];
    assert_eq!(range.start, 100);
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
    // No first byte by then, and none by the end of the time for it.
    bench.wake_for(Timer::StallCheck);
    bench.wake_for(Timer::StallCheck);
    assert!(bench.take().contains(&Action::CancelOp { op: ops[0] }));
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
