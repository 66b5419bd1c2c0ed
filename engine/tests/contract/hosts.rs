//! What is learned of a host, and what that changes for everything asked of it.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn bench(rules: HostRules) -> Bench {
    let config = Bench::new(Strategy::Streamed, limits()).config;
    Bench::with_config(Config {
        hosts: rules,
        ..config
    })
}

#[test]
fn a_host_is_asked_over_no_more_connections_than_allowed() {
    let mut bench = bench(HostRules {
        connections_max: 3,
        ..HostRules::default()
    });
    bench.pull(0, 0, &[40 * MIB]);
    bench.pull(1, 1, &[40 * MIB]);
    let asked = bench.take_fetches();
    assert_eq!(asked.len(), 3);
    let holds: Vec<_> = bench.engine.snapshot().blobs;
    assert!(
        holds
            .iter()
            .any(|blob| blob.hold == HoldReason::HostConnections)
    );
    bench.finish_fetch(asked[0].0);
    assert_eq!(bench.take_fetches().len(), 1);
}

#[test]
fn requests_to_a_host_keep_to_its_rate() {
    let mut bench = bench(HostRules {
        requests_per_second_max: 4,
        ..HostRules::default()
    });
    bench.pull(0, 0, &[40 * MIB]);
    assert_eq!(bench.take_fetches().len(), 1);
    for second in 1..4 {
        assert_eq!(bench.wake(), Timer::HostReady);
        assert_eq!(bench.now, Instant::from_millis(second * 250));
        assert_eq!(bench.take_fetches().len(), 1);
    }
}

#[test]
fn a_host_that_asks_to_wait_is_asked_for_nothing_until_then() {
    let mut bench = bench(HostRules::default());
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_fetches()[0];
    bench.fail(op, FetchError::RateLimited, Some(2_000));
    bench.pull(1, 1, &[MIB]);
    assert!(
        bench.take_fetches().is_empty(),
        "another image has to wait too"
    );
    let blobs = bench.engine.snapshot().blobs;
    assert_eq!(blobs[1].hold, HoldReason::RetryAfter);
    bench.wake();
    assert_eq!(bench.now, Instant::from_millis(2_000));
    assert_eq!(bench.take_fetches().len(), 1);
}

#[test]
fn a_host_that_asks_to_slow_down_gets_half_the_connections() {
    let mut bench = bench(HostRules::default());
    bench.pull(0, 0, &[80 * MIB, 80 * MIB]);
    let asked = bench.take_fetches();
    assert_eq!(asked.len(), 8);
    bench.fail(asked[0].0, FetchError::RateLimited, Some(100));
    for (op, ..) in &asked[1..] {
        bench.finish_fetch(*op);
    }
    assert!(bench.take_fetches().is_empty());
    bench.wake_for(Timer::RetryAfter);
    assert_eq!(bench.take_fetches().len(), 4);
}

#[test]
fn while_one_host_asks_to_wait_the_next_one_is_asked() {
    let mut bench = bench(HostRules::default());
    bench.pull_with(0, 0, &[MIB], &[7, 3], &Have::Nothing);
    let (op, source, _) = bench.take_sources()[0];
    assert_eq!(source, SourceId(0));
    bench.fail(op, FetchError::RateLimited, Some(5_000));
    let (_, source, _) = bench.take_sources()[0];
    assert_eq!(source, SourceId(1));
}

#[test]
fn a_host_that_keeps_failing_is_avoided_for_a_while_and_then_probed_once() {
    let mut bench = bench(HostRules {
        failures_max: 2,
        cool_down_ms: 60_000,
        ..HostRules::default()
    });
    bench.pull_with(0, 0, &[8 * MIB], &[0, 1], &Have::Nothing);
    bench.await_all(0, 1);
    for (op, ..) in bench.take_sources() {
        bench.fail(op, FetchError::Server, None);
    }
    bench.pull_with(1, 1, &[8 * MIB], &[0, 1], &Have::Nothing);
    let sources = bench.take_sources();
    assert!(sources.iter().all(|(_, source, _)| *source == SourceId(1)));
    for (op, ..) in sources {
        bench.finish_fetch(op);
    }
    bench.drive();
    bench.now = Instant::from_millis(60_000);
    bench.pull_with(2, 2, &[8 * MIB], &[0, 1], &Have::Nothing);
    let sources = bench.take_sources();
    let probes = sources.iter().filter(|asked| asked.1 == SourceId(0));
    assert_eq!(probes.count(), 1, "{sources:?}");
}

#[test]
fn the_only_host_is_asked_however_often_it_failed() {
    let mut bench = bench(HostRules {
        failures_max: 1,
        ..HostRules::default()
    });
    bench.pull(0, 0, &[MIB]);
    bench.await_all(0, 1);
    let (op, ..) = bench.take_fetches()[0];
    bench.fail(op, FetchError::Connection, None);
    bench.wake_for(Timer::RetryBackoff);
    assert_eq!(bench.take_fetches().len(), 1);
}

#[test]
fn a_host_that_refused_the_ranges_of_two_blobs_is_asked_for_whole_ones_for_a_while() {
    let mut bench = bench(HostRules::default());
    for image in 0..2 {
        bench.pull(image, image, &[MIB]);
        let (op, _, mode) = bench.take_sources()[0];
        assert_eq!(mode, FetchMode::Ranged);
        bench.fail(op, FetchError::RangeUnusable, None);
        bench.drive();
    }
    bench.pull(2, 2, &[MIB]);
    assert_eq!(bench.take_sources()[0].2, FetchMode::Whole);
    bench.now = bench
        .now
        .after_millis(HostRules::default().ranges_memory_ms);
    bench.pull(3, 3, &[MIB]);
    let modes: Vec<_> = bench.take_sources().iter().map(|asked| asked.2).collect();
    assert!(modes.contains(&FetchMode::Ranged), "{modes:?}");
}

#[test]
fn a_host_that_serves_one_connection_is_found_out_without_a_time_out() {
    let mut bench = bench(HostRules::default());
    bench.pull(0, 0, &[32 * MIB]);
    bench.await_all(0, 1);
    let asked = bench.take_fetches();
    assert_eq!(asked.len(), 8);
    bench.now = Instant::from_millis(100);
    bench.input(Input::RangeProgressed {
        op: asked[0].0,
        bytes: MIB,
        discarded: 0,
    });
    bench.wake_for(Timer::Silence);
    assert_eq!(bench.now, Instant::from_millis(2_000));
    let silent: Vec<OpId> = bench.take().iter().map(Action::op).collect();
    assert_eq!(silent.len(), 7, "all but the one that speaks are cancelled");
    for op in silent {
        bench.input(Input::OpCancelled { op, received: 0 });
    }
    assert!(bench.take_fetches().is_empty());
    bench.finish_fetch(asked[0].0);
    let next: Vec<_> = bench.take();
    let attempt = |action: &Action| match action {
        Action::FetchRange { attempt, .. } => Some(*attempt),
        _ => None,
    };
    let attempts: Vec<u32> = next.iter().filter_map(attempt).collect();
    assert_eq!(
        attempts,
        [1],
        "one connection, and nothing counts as failed"
    );
}

#[test]
fn a_refused_connection_beside_one_that_serves_is_one_too_many() {
    let mut bench = bench(HostRules::default());
    bench.pull(0, 0, &[8 * MIB]);
    bench.await_all(0, 1);
    let asked = bench.take_fetches();
    bench.input(Input::RangeProgressed {
        op: asked[0].0,
        bytes: MIB,
        discarded: 0,
    });
    bench.fail(asked[1].0, FetchError::Connection, None);
    bench.wake_for(Timer::RetryBackoff);
    assert!(
        bench.take_fetches().is_empty(),
        "one connection is what it bears"
    );
    bench.finish_fetch(asked[0].0);
    assert_eq!(bench.take_fetches().len(), 1);
}

#[test]
fn what_is_known_of_hosts_wakes_nobody_when_there_is_no_work() {
    let mut bench = bench(HostRules::default());
    bench.pull(0, 0, &[MIB]);
    let (op, ..) = bench.take_fetches()[0];
    bench.fail(op, FetchError::RateLimited, Some(60_000));
    bench.input(Input::PullCancelled { image: ImageId(0) });
    bench.drive();
    assert!(bench.engine.is_idle());
    assert_eq!(bench.wake, None);
}
