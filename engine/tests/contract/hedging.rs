//! The rest of a slow range is asked for a second time: when, where, and what becomes of the two.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

const RULES: HedgeRules = HedgeRules {
    bytes_permille: 50,
    burst_bytes: 16 * MIB,
    hedges_max: 2,
    slow_times: 3,
    slow_ms_min: 100,
};

/// A fetch of which the bench says what comes.
type Asked = (OpId, SourceId, ByteRange, bool);

struct Race {
    bench: Bench,
    /// The fetch that is slow.
    slow: Asked,
}

fn bench(rules: HedgeRules, hosts: HostRules, destination: Strategy) -> Bench {
    let config = Bench::new(destination, limits()).config;
    Bench::with_config(Config {
        hosts,
        hedging: rules,
        ..config
    })
}

/// Takes what was asked for of this kind; the rest waits until the bench is driven.
fn take<T>(bench: &mut Bench, one: impl Fn(&Action) -> Option<T>) -> Vec<T> {
    let mut taken = Vec::new();
    for action in bench.take() {
        match one(&action) {
            Some(action) => taken.push(action),
            None => bench.actions.push_back(action),
        }
    }
    taken
}

fn asked(bench: &mut Bench) -> Vec<Asked> {
    take(bench, |action| match *action {
        Action::FetchRange {
            op,
            source,
            range,
            hedge,
            ..
        } => Some((op, source, range, hedge)),
        _ => None,
    })
}

fn cancelled(bench: &mut Bench) -> Vec<OpId> {
    take(bench, |action| {
        matches!(action, Action::CancelOp { .. }).then_some(action.op())
    })
}

/// Lets every fetch but the first come in 50 ms, which is what ranges of this host then usually take. The first one has
/// brought one of its four MiB.
fn all_but_the_first(mut bench: Bench, hosts: &[u32]) -> Race {
    bench.pull_with(0, 0, &[24 * MIB], hosts, &Have::Nothing);
    bench.await_all(0, 1);
    let fetches = asked(&mut bench);
    assert_eq!(fetches.len(), 6);
    bench.now = Instant::from_millis(50);
    bench.bring(fetches[0].0, MIB);
    for fetch in &fetches[1..] {
        bench.finish_fetch(fetch.0);
    }
    Race {
        bench,
        slow: fetches[0],
    }
}

/// The same, until the first is hedged; with the hedge.
fn race_from(hosts: &[u32]) -> (Race, Asked) {
    let bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    let mut race = all_but_the_first(bench, hosts);
    race.bench.wake_for(Timer::Hedge);
    let hedges = asked(&mut race.bench);
    assert_eq!(hedges.len(), 1, "{hedges:?}");
    (race, hedges[0])
}

fn race() -> (Race, Asked) {
    race_from(&[0])
}

/// Lets the bench end whatever is under way, and tells what the pull took.
fn stats(bench: &mut Bench) -> PullStats {
    bench.drive();
    let ended = bench.events.iter().find_map(|event| match event {
        Event::PullFinished { stats, outcome, .. } => Some((*stats, *outcome)),
        _ => None,
    });
    let Some((stats, outcome)) = ended else {
        panic!("the pull is not over");
    };
    assert_eq!(outcome, Outcome::Ready);
    stats
}

#[test]
fn the_rest_of_a_slow_range_is_asked_for_again_over_another_connection() {
    let (race, (op, source, range, hedge)) = race();
    assert!(hedge && op != race.slow.0);
    assert_eq!(source, race.slow.1);
    assert_eq!(
        range,
        ByteRange::new(MIB, 4 * MIB),
        "what is here is not asked for"
    );
    assert_eq!(
        race.bench.now,
        Instant::from_millis(150),
        "three times what is usual"
    );
    let snapshot = race.bench.engine.snapshot();
    assert_eq!(snapshot.hedges, (1, 2));
    assert_eq!(snapshot.fetches.0, 2, "it takes a permit");
    assert_eq!(snapshot.window_bytes.0, 24 * MIB, "and no credit");
}

#[test]
fn the_next_source_is_asked_if_there_is_one() {
    let (_, (_, source, ..)) = race_from(&[0, 1]);
    assert_eq!(source, SourceId(1));
}

#[test]
fn whoever_completes_the_range_ends_the_other_and_each_byte_counts_once() {
    for (hedge_brings, slow_brings) in [(MIB, MIB), (2 * MIB, MIB), (MIB, 3 * MIB)] {
        let (mut race, (hedge, ..)) = race();
        race.bench.bring(hedge, hedge_brings);
        race.bench.bring(race.slow.0, slow_brings);
        race.bench.finish_fetch(hedge);
        assert_eq!(cancelled(&mut race.bench), [race.slow.0]);
        race.bench.input(Input::OpCancelled {
            op: race.slow.0,
            received: slow_brings,
        });
        let stats = stats(&mut race.bench);
        // Behind the first MiB, which only the slow one brought, the hedge brings all three and the slow one `slow_brings - 1`.
        assert_eq!(stats.bytes_hedged, slow_brings - MIB, "{hedge_brings}");
        assert_eq!((stats.bytes_fetched, stats.hedges), (24 * MIB, 1));
        assert_eq!((stats.bytes_retried, stats.retries), (0, 0));
    }
}

#[test]
fn a_slow_range_that_comes_after_all_ends_its_hedge() {
    let (mut race, (hedge, ..)) = race();
    race.bench.bring(hedge, 2 * MIB);
    race.bench.finish_fetch(race.slow.0);
    assert_eq!(cancelled(&mut race.bench), [hedge]);
    race.bench.input(Input::OpCancelled {
        op: hedge,
        received: 2 * MIB,
    });
    let stats = stats(&mut race.bench);
    assert_eq!(
        (stats.bytes_fetched, stats.bytes_hedged),
        (24 * MIB, 2 * MIB)
    );
}

#[test]
fn a_hedge_that_fails_costs_the_range_no_attempt() {
    for error in [
        FetchError::Connection,
        FetchError::Server,
        FetchError::RangeUnusable,
        FetchError::NotFound,
        FetchError::Protocol,
    ] {
        let (mut race, (hedge, ..)) = race();
        race.bench.fail(hedge, error, None);
        assert!(asked(&mut race.bench).is_empty(), "{error:?}");
        let events = &race.bench.events;
        let retried =
            |event: &Event| matches!(event, Event::Retrying { .. } | Event::Degraded { .. });
        assert!(!events.iter().any(retried), "{error:?}");
        race.bench.finish_fetch(race.slow.0);
        let stats = stats(&mut race.bench);
        assert_eq!((stats.retries, stats.bytes_hedged), (0, 0), "{error:?}");
    }
}

#[test]
fn a_slow_range_that_fails_leaves_its_hedge_to_bring_it() {
    let (mut race, (hedge, ..)) = race();
    race.bench.fail(race.slow.0, FetchError::Connection, None);
    assert!(
        asked(&mut race.bench).is_empty(),
        "nothing is asked for again"
    );
    assert_eq!(race.bench.engine.snapshot().hedges.0, 1);
    race.bench.finish_fetch(hedge);
    let stats = stats(&mut race.bench);
    assert_eq!((stats.retries, stats.bytes_fetched), (0, 24 * MIB));
}

#[test]
fn when_both_fail_the_range_is_asked_for_from_the_byte_the_further_one_reached() {
    let (mut race, (hedge, ..)) = race();
    race.bench.bring(hedge, 2 * MIB);
    for (op, received) in [(race.slow.0, MIB), (hedge, 2 * MIB)] {
        race.bench.input(Input::RangeFailed {
            op,
            error: FetchError::Connection,
            received,
            retry_after_ms: None,
        });
    }
    race.bench.wake_for(Timer::RetryBackoff);
    let again = asked(&mut race.bench);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].2, ByteRange::new(3 * MIB, 4 * MIB));
    assert!(!again[0].3);
}

#[test]
fn a_hedge_that_is_answered_with_the_whole_blob_is_dropped_and_the_range_comes_on() {
    let (mut race, (hedge, ..)) = race();
    race.bench.input(Input::RangesRefused { op: hedge });
    assert_eq!(cancelled(&mut race.bench), [hedge]);
    assert!(
        !race
            .bench
            .events
            .contains(&Event::Degraded { blob: BlobId(0) })
    );
    race.bench.fail(race.slow.0, FetchError::Connection, None);
    race.bench.input(Input::OpCancelled {
        op: hedge,
        received: 0,
    });
    race.bench.wake_for(Timer::RetryBackoff);
    assert_eq!(
        asked(&mut race.bench).len(),
        1,
        "the range is asked for again"
    );
}

#[test]
fn a_hedge_that_carries_its_range_alone_may_become_the_whole_read() {
    let (mut race, (hedge, ..)) = race();
    race.bench.fail(race.slow.0, FetchError::Connection, None);
    race.bench.input(Input::RangesRefused { op: hedge });
    assert!(
        race.bench
            .events
            .contains(&Event::Degraded { blob: BlobId(0) })
    );
}

#[test]
fn nothing_is_hedged_before_it_is_known_what_is_usual() {
    let mut bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    bench.pull(0, 0, &[12 * MIB]);
    bench.await_all(0, 1);
    let fetches = asked(&mut bench);
    bench.now = Instant::from_millis(50);
    bench.finish_fetch(fetches[1].0);
    bench.finish_fetch(fetches[2].0);
    assert_ne!(bench.wake.map(|wake| wake.why), Some(Timer::Hedge));
}

#[test]
fn ranges_that_are_all_slow_are_not_hedged() {
    let mut bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    bench.pull(0, 0, &[64 * MIB]);
    bench.await_all(0, 1);
    for turn in 1..=16 {
        // One after the other, each a little later than the one before.
        bench.now = Instant::from_millis(turn * 500);
        let open: Vec<Asked> = asked(&mut bench);
        for fetch in open {
            assert!(!fetch.3);
            bench.finish_fetch(fetch.0);
        }
        bench.input(Input::TimerReached);
    }
}

#[test]
fn off_is_off() {
    let bench = bench(HedgeRules::off(), HostRules::default(), Strategy::Streamed);
    let race = all_but_the_first(bench, &[0]);
    assert_ne!(race.bench.wake.map(|wake| wake.why), Some(Timer::Hedge));
}

#[test]
fn a_range_larger_than_what_may_come_twice_is_not_hedged() {
    let rules = HedgeRules {
        burst_bytes: 3 * MIB - 1,
        ..RULES
    };
    let mut race = all_but_the_first(bench(rules, HostRules::default(), Strategy::Streamed), &[0]);
    race.bench.wake_for(Timer::Hedge);
    assert!(asked(&mut race.bench).is_empty());
}

#[test]
fn a_host_that_asked_to_wait_is_not_asked_for_a_hedge() {
    let bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    let mut race = all_but_the_first(bench, &[0]);
    race.bench.pull(1, 1, &[16 * MIB]);
    let others = asked(&mut race.bench);
    race.bench
        .fail(others[0].0, FetchError::RateLimited, Some(10_000));
    race.bench.wake_for(Timer::Hedge);
    for other in &others[1..] {
        race.bench.finish_fetch(other.0);
    }
    assert!(asked(&mut race.bench).is_empty());
    race.bench.wake_for(Timer::RetryAfter);
    let again = asked(&mut race.bench);
    assert!(
        !again[0].3,
        "what was asked for before comes first: {again:?}"
    );
    race.bench.finish_fetch(again[0].0);
    let then = [again, asked(&mut race.bench)].concat();
    assert!(then.iter().any(|fetch| fetch.3), "{then:?}");
}

#[test]
fn a_host_without_a_free_connection_or_request_is_not_asked_for_a_hedge() {
    let few = HostRules {
        connections_max: 6,
        ..HostRules::default()
    };
    let mut bench = bench(RULES, few, Strategy::Streamed);
    bench.pull(0, 0, &[24 * MIB]);
    bench.await_all(0, 1);
    let fetches = asked(&mut bench);
    bench.now = Instant::from_millis(50);
    for fetch in &fetches[1..] {
        bench.finish_fetch(fetch.0);
    }
    // Five others take the connections there are; their bytes never come.
    bench.pull(1, 1, &[20 * MIB]);
    assert_eq!(asked(&mut bench).len(), 5);
    bench.wake_for(Timer::Hedge);
    assert!(asked(&mut bench).is_empty());
}

#[test]
fn a_range_that_nobody_waits_for_is_not_hedged() {
    let mut bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    bench.pull(0, 0, &[60 * MIB]);
    bench.await_all(0, 1);
    let fetches = asked(&mut bench);
    bench.now = Instant::from_millis(50);
    // The last one is slow, and the lane waits for the first.
    let (last, others) = fetches.split_last().unwrap();
    for fetch in &others[1..] {
        bench.finish_fetch(fetch.0);
    }
    bench.bring(others[0].0, 3 * MIB);
    let begun = asked(&mut bench);
    assert!(begun.iter().all(|fetch| !fetch.3) && last.0 != others[0].0);
    bench.wake_for(Timer::Hedge);
    let hedges: Vec<Asked> = asked(&mut bench)
        .into_iter()
        .filter(|fetch| fetch.3)
        .collect();
    assert!(
        hedges.iter().all(|hedge| hedge.2.start < 4 * MIB),
        "{hedges:?}"
    );
}

#[test]
fn a_stored_layer_is_hedged_for_its_own_last_ranges() {
    let bench = bench(RULES, HostRules::default(), Strategy::StoreThenUnpack);
    let mut race = all_but_the_first(bench, &[0]);
    race.bench.wake_for(Timer::Hedge);
    let hedges = asked(&mut race.bench);
    assert_eq!(hedges.len(), 1);
    race.bench.finish_fetch(hedges[0].0);
    assert_eq!(stats(&mut race.bench).hedges, 1);
}

#[test]
fn whole_reads_are_not_hedged() {
    let mut bench = bench(RULES, HostRules::default(), Strategy::Sequential);
    for image in 0..6 {
        bench.pull(image, image, &[MIB]);
        bench.await_all(image, 1);
        bench.drive();
    }
    let whole = RawLimits {
        chunk_bytes_max: 0,
        ..limits()
    };
    bench.input(Input::LimitsChanged(Limits::try_from(whole).unwrap()));
    bench.pull(6, 6, &[4 * MIB]);
    bench.await_all(6, 1);
    assert_eq!(asked(&mut bench).len(), 1);
    assert_ne!(bench.wake.map(|wake| wake.why), Some(Timer::Hedge));
}

#[test]
fn a_cancelled_pull_ends_both_and_a_shutdown_starts_none() {
    for input in [
        Input::PullCancelled { image: ImageId(0) },
        Input::ShutdownRequested,
    ] {
        let (mut race, (hedge, ..)) = race();
        race.bench.input(input);
        let ended = cancelled(&mut race.bench);
        assert!(
            ended.contains(&hedge) && ended.contains(&race.slow.0),
            "{ended:?}"
        );
        for op in [race.slow.0, hedge] {
            race.bench.input(Input::OpCancelled {
                op,
                received: 2 * MIB,
            });
        }
    }
}

#[test]
fn a_wrong_digest_ends_both_before_the_blob_is_fetched_anew() {
    let bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    let mut race = all_but_the_first(bench, &[0]);
    race.bench.wake_for(Timer::Hedge);
    assert_eq!(asked(&mut race.bench).len(), 1);
    let lanes = take(&mut race.bench, |action| {
        matches!(action, Action::StartLane { .. }).then_some(action.op())
    });
    race.bench.input(Input::LaneFailed {
        op: lanes[0],
        error: LaneError::Corrupt,
    });
    let ended = cancelled(&mut race.bench);
    assert_eq!(ended.len(), 2, "{ended:?}");
    for op in ended {
        race.bench.input(Input::OpCancelled { op, received: MIB });
    }
    race.bench.drive();
    assert!(
        race.bench
            .events
            .contains(&Event::NewLife { blob: BlobId(0) })
    );
}

#[test]
fn a_slow_fetch_is_hedged_once() {
    let (mut race, (hedge, ..)) = race();
    race.bench.fail(hedge, FetchError::Connection, None);
    for _ in 0..20 {
        assert!(asked(&mut race.bench).is_empty());
        if race.bench.wake.is_none() || race.bench.wake() == Timer::StallCheck {
            break;
        }
    }
}

#[test]
fn a_range_that_waits_for_its_first_byte_is_hedged_by_what_first_bytes_take() {
    let mut bench = bench(RULES, HostRules::default(), Strategy::Streamed);
    bench.pull(0, 0, &[24 * MIB]);
    bench.await_all(0, 1);
    let fetches = asked(&mut bench);
    bench.now = Instant::from_millis(10);
    for fetch in &fetches[1..] {
        bench.bring(fetch.0, MIB);
    }
    bench.now = Instant::from_millis(400);
    for fetch in &fetches[1..] {
        bench.finish_fetch(fetch.0);
    }
    // First bytes take 10 ms, so after 100 ms of silence it was slow; whole ranges take 400.
    let hedges = asked(&mut bench);
    assert_eq!(hedges.iter().filter(|fetch| fetch.3).count(), 1);
}
