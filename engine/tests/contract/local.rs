//! Bytes that are on the node before a pull begins.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn finished(bench: &Bench) -> PullStats {
    let stats = |event: &Event| match event {
        Event::PullFinished { stats, .. } => Some(*stats),
        _ => None,
    };
    bench.events.iter().find_map(stats).unwrap_or_default()
}

#[test]
fn a_blob_in_the_local_store_is_read_from_there_without_a_request() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull_with(0, 0, &[10 * MIB], &[0], &Have::LocalBlob);
    bench.await_all(0, 1);
    bench.drive();
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    let stats = finished(&bench);
    assert_eq!(
        (stats.requests, stats.bytes_fetched, stats.bytes_local),
        (0, 0, 10 * MIB)
    );
}

#[test]
fn a_blob_that_is_gone_from_the_local_store_is_fetched_at_once() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull_with(0, 0, &[MIB], &[0], &Have::LocalBlob);
    bench.await_all(0, 1);
    let (op, source, _) = bench.take_sources()[0];
    assert_eq!(source, SourceId::LOCAL);
    bench.fail(op, FetchError::NotFound, None);
    let (op, source, _) = bench.take_sources()[0];
    assert_eq!(source, SourceId(0));
    bench.finish_fetch(op);
    assert_eq!(finished(&bench).requests, 0, "it is not linked yet");
}

#[test]
fn chunks_that_are_here_are_read_and_the_others_fetched() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    let here = Have::Ranges(vec![ByteRange::new(0, 5 * MIB)]);
    bench.pull_with(0, 0, &[12 * MIB], &[0], &here);
    bench.await_all(0, 1);
    let sources: Vec<SourceId> = bench.take_sources().iter().map(|asked| asked.1).collect();
    assert_eq!(
        sources,
        [SourceId::LOCAL, SourceId(0), SourceId(0)],
        "a chunk that is here in part is fetched"
    );
}

#[test]
fn wrong_bytes_of_the_local_store_are_fetched_from_the_first_host() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull_with(0, 0, &[MIB], &[0, 1], &Have::LocalBlob);
    bench.await_all(0, 1);
    let mut sources = Vec::new();
    let mut lanes = 0;
    while let Some(action) = bench.actions.pop_front() {
        match action {
            Action::StartLane { op, .. } if lanes == 0 => {
                lanes += 1;
                bench.input(Input::LaneFailed {
                    op,
                    error: LaneError::Corrupt,
                });
            }
            Action::FetchRange { source, .. } => {
                sources.push(source);
                bench.perform(action);
            }
            other => bench.perform(other),
        }
    }
    assert_eq!(sources, [SourceId::LOCAL, SourceId(0)]);
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}
