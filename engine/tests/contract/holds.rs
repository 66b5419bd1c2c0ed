//! Everything that waits says for what.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::path::Path;

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

/// Everything that holds anything up.
fn holds(bench: &Bench) -> Vec<HoldReason> {
    let snapshot = bench.engine.snapshot();
    let blobs = snapshot.blobs.iter().map(|blob| blob.hold);
    let layers = snapshot.images.iter().flat_map(|image| &image.layers);
    blobs.chain(layers.map(|layer| layer.hold)).collect()
}

/// A bench in which each image of `sizes` has just been asked for.
fn asked(strategy: Strategy, raw: RawLimits, images: &[&[u64]]) -> Bench {
    let mut bench = Bench::new(strategy, raw);
    for (image, sizes) in (0..).zip(images) {
        bench.pull(image, image * 10, sizes);
    }
    bench
}

fn streamed(raw: RawLimits, images: &[&[u64]]) -> Bench {
    asked(Strategy::Streamed, raw, images)
}

fn at_hosts(rules: HostRules) -> Bench {
    let config = Bench::new(Strategy::Streamed, limits()).config;
    let mut bench = Bench::with_config(Config {
        hosts: rules,
        ..config
    });
    bench.pull(0, 0, &[40 * MIB]);
    bench
}

/// A bench in which the first fetch failed so.
fn after_failure(raw: RawLimits, error: FetchError, retry_after_ms: Option<u64>) -> Bench {
    let mut bench = streamed(raw, &[&[40 * MIB]]);
    let (op, ..) = bench.take_fetches()[0];
    bench.fail(op, error, retry_after_ms);
    bench.pull(1, 10, &[MIB]);
    bench
}

fn one_lane() -> RawLimits {
    RawLimits {
        unpacks_per_image_max: 1,
        ..limits()
    }
}

fn one_fetch_each() -> RawLimits {
    RawLimits {
        fetches_per_image_max: 1,
        ..limits()
    }
}

fn least_window() -> RawLimits {
    RawLimits {
        window_bytes_max: 8 * MIB,
        layer_window_bytes_max: 8 * MIB,
        ..limits()
    }
}

fn small_spool() -> Bench {
    let raw = RawLimits {
        spool_bytes_max: 10 * MIB,
        ..limits()
    };
    asked(Strategy::StoreThenUnpack, raw, &[&[8 * MIB, 8 * MIB]])
}

fn staged(callers: u32) -> Bench {
    let mut bench = streamed(limits(), &[&[MIB, MIB]]);
    for index in 2 - callers..2 {
        bench.input(Input::LayerAwaited {
            image: ImageId(0),
            index,
        });
    }
    bench.drive();
    bench
}

fn all_threads_taken() -> Bench {
    let mut bench = streamed(limits(), &[&[40 * MIB]]);
    let resized = bench.take().into_iter().find_map(|action| match action {
        Action::ResizeLane { op, threads } => Some((op, threads)),
        _ => None,
    });
    let (op, threads) = resized.expect("the only lane gets both threads");
    bench.input(Input::LaneResized { op, threads });
    bench.pull(1, 10, &[40 * MIB]);
    bench
}

fn blob_in_use() -> Bench {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    let layer = |layer| PullLayer {
        blob: BlobId(0),
        size: 40 * MIB,
        layer: LayerId(layer),
        chain: ChainId(layer),
        hosts: vec![HostId(0)],
        have: Have::Nothing,
    };
    bench.input(Input::PullRequested(Pull {
        image: ImageId(0),
        layers: vec![layer(0), layer(1)],
        weight: 1,
    }));
    bench
}

fn changing() -> Bench {
    let mut bench = streamed(limits(), &[&[90 * MIB, 90 * MIB, 80 * MIB]]);
    let lower = Limits::try_from(least_window()).expect("limits that can work");
    bench.input(Input::LimitsChanged(lower));
    bench
}

fn settling() -> Bench {
    let mut bench = streamed(limits(), &[&[40 * MIB]]);
    let (op, ..) = bench.take_fetches()[0];
    bench.input(Input::RangesRefused { op });
    bench
}

fn no_look_ahead() -> Bench {
    let raw = RawLimits {
        unpacks_max: 1,
        chunk_bytes_max: 0,
        ..one_lane()
    };
    streamed(raw, &[&[100 * MIB, 90 * MIB]])
}

/// Each reason with a moment in which it is the reason.
fn moments() -> Vec<(HoldReason, Bench)> {
    use HoldReason as Hold;
    let whole = RawLimits {
        chunk_bytes_max: 0,
        ..limits()
    };
    let one_each = RawLimits {
        fetches_max: 1,
        ..one_fetch_each()
    };
    let single = RawLimits {
        unpacks_max: 1,
        ..one_lane()
    };
    let small_share = RawLimits {
        layer_window_bytes_max: 4 * MIB,
        ..limits()
    };
    let rules = HostRules::default();
    let few = HostRules {
        connections_max: 2,
        ..rules
    };
    let slow = HostRules {
        requests_per_second_max: 1,
        ..rules
    };
    let two: &[&[u64]] = &[&[40 * MIB], &[40 * MIB]];
    let one: &[&[u64]] = &[&[40 * MIB, 40 * MIB]];
    vec![
        (Hold::Nothing, streamed(limits(), &[&[MIB]])),
        (Hold::Fetches, streamed(one_each, two)),
        (Hold::FetchesPerImage, streamed(one_fetch_each(), one)),
        (Hold::Window, streamed(least_window(), one)),
        (Hold::LayerWindow, streamed(small_share, one)),
        (Hold::Lane, no_look_ahead()),
        (Hold::Spool, small_spool()),
        (
            Hold::Backoff,
            after_failure(whole, FetchError::Server, None),
        ),
        (
            Hold::RetryAfter,
            after_failure(limits(), FetchError::RateLimited, Some(9_000)),
        ),
        (Hold::HostConnections, at_hosts(few)),
        (Hold::HostRequests, at_hosts(slow)),
        (Hold::Settling, settling()),
        (Hold::Unpacks, streamed(single, two)),
        (Hold::UnpacksPerImage, streamed(one_lane(), one)),
        (Hold::Threads, all_threads_taken()),
        (Hold::Bytes, asked(Strategy::StoreThenUnpack, limits(), two)),
        (Hold::Parent, staged(1)),
        (Hold::Caller, staged(0)),
        (Hold::BlobInUse, blob_in_use()),
        (Hold::LimitsChanging, changing()),
    ]
}

#[test]
fn whatever_waits_says_for_what() {
    for (reason, bench) in moments() {
        let seen = holds(&bench);
        assert!(seen.contains(&reason), "{reason:?} is not in {seen:?}");
    }
}

/// A new reason needs a moment above.
#[test]
fn every_reason_has_a_moment() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snapshot.rs");
    let source = std::fs::read_to_string(source).expect("the source is here");
    let (_, reasons) = source
        .split_once("pub enum HoldReason {")
        .expect("the enum");
    let (reasons, _) = reasons.split_once('}').expect("its end");
    let named = reasons.lines().map(str::trim);
    let named = named.filter_map(|line| line.strip_suffix(','));
    let shown: Vec<String> = moments()
        .iter()
        .map(|(reason, _)| format!("{reason:?}"))
        .collect();
    let missing: Vec<&str> = named
        .filter(|name| !shown.iter().any(|shown| shown == name))
        .collect();
    assert_eq!(missing, [""; 0], "reasons without a moment");
}
