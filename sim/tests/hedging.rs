//! What hedges buy where a few connections crawl, and that they cost nothing where all are alike.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU64;

use parapull_engine::{HedgeRules, Outcome, Strategy};
use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{
    Encoding, Fault, Faults, Host, ImageSource, PlannedLayer, RegistryProfile, Scenario,
};
use parapull_sim::{Prediction, predict};

const MB: u64 = 1_000_000;

/// Ten layers of 100 MB over connections of 80 MB/s, the first byte of each after 20 ms.
fn scenario(strategy: Strategy) -> Scenario {
    let layers = (0..10).map(|content| PlannedLayer {
        content,
        compressed_bytes: 100 * MB,
        uncompressed_bytes: 200 * MB,
        entries: 0,
        encoding: Encoding::Gzip,
        sources: 1,
    });
    let mut scenario = Scenario::single(
        ImageSource::Layers(layers.collect()),
        Host::named("unlimited").unwrap(),
        RegistryProfile::default(),
        strategy,
    );
    scenario.host.cores = 64;
    scenario.registry.connection_bytes_per_second = NonZeroU64::new(80 * MB);
    scenario.registry.first_byte_ms = 20;
    scenario
}

/// Every so-and-so-manieth answer comes with 1 MB a second.
fn crawling(strategy: Strategy, every: u32) -> Scenario {
    let crawl = Fault {
        target: FaultTarget::AnyLayer,
        offset: None,
        times: FaultTimes::Every(every),
        kind: FaultKind::Trickle {
            bytes_per_second: MB,
        },
    };
    let mut scenario = scenario(strategy);
    scenario.faults = Faults {
        faults: vec![crawl],
    };
    scenario
}

/// The same without and with hedges.
fn both(mut scenario: Scenario) -> (Prediction, Prediction) {
    scenario.hedging = Some(HedgeRules::off());
    let without = predict(&scenario).unwrap();
    scenario.hedging = Some(HedgeRules::default());
    let with = predict(&scenario).unwrap();
    for prediction in [&without, &with] {
        assert_eq!(prediction.pulls[0].outcome, Outcome::Ready);
        assert_eq!(
            prediction.bytes_fetched,
            1_000 * MB,
            "each byte is kept once"
        );
    }
    assert_eq!((without.hedges, without.bytes_hedged), (0, 0));
    (without, with)
}

#[test]
fn a_tail_of_crawling_connections_costs_a_chunk_less() {
    for (strategy, every, times) in [
        (Strategy::Streamed, 50, 4.0),
        (Strategy::Streamed, 20, 4.0),
        (Strategy::StoreThenUnpack, 50, 4.0),
        (Strategy::Multipart, 50, 4.0),
    ] {
        let (without, with) = both(crawling(strategy, every));
        let told = format!(
            "{strategy}, every {every}th: {:.2} s, hedged {:.2} s; {} hedges, {} bytes twice",
            without.seconds, with.seconds, with.hedges, with.bytes_hedged
        );
        println!("{told}");
        // One crawling chunk takes 8 MiB over 1 MB/s: 8.4 s, with everything else done long before.
        assert!(without.seconds > 8.0, "{told}");
        assert!(without.seconds > times * with.seconds, "{told}");
        let rules = HedgeRules::default();
        let allowed = rules.burst_bytes + with.bytes_fetched / 20;
        assert!(with.hedges > 0 && with.bytes_hedged <= allowed, "{told}");
    }
}

#[test]
fn connections_that_are_all_alike_are_not_hedged() {
    for strategy in [
        Strategy::Streamed,
        Strategy::StoreThenUnpack,
        Strategy::Multipart,
    ] {
        for rate in [500_000, 5 * MB, 80 * MB] {
            let mut scenario = scenario(strategy);
            scenario.registry.connection_bytes_per_second = NonZeroU64::new(rate);
            let (without, with) = both(scenario);
            assert_eq!(with.hedges, 0, "{strategy} at {rate} bytes a second");
            assert!((without.seconds - with.seconds).abs() < 1e-9);
        }
        let (_, with) = both(crawling(strategy, 1));
        assert_eq!(with.hedges, 0, "{strategy}, every answer crawls");
    }
}

#[test]
fn a_narrow_link_that_all_share_is_not_hedged() {
    let mut scenario = scenario(Strategy::Streamed);
    scenario.registry.connection_bytes_per_second = None;
    scenario.host.link_bytes_per_second = 50 * MB;
    let (_, with) = both(scenario);
    assert_eq!(with.hedges, 0);
}
