//! Scenarios from seeds: small images under odd limits, with faults of every kind each absent in about half of them.
//!
//! The product is a value; what failed is kept as that value, so a change here invalidates nothing.

mod hedging;
mod mishaps;

use std::iter::once;
use std::num::{NonZeroU32, NonZeroU64};

use parapull_engine::{FetchOrder, HostRules, Strategy, Timing, UnpackOrder};
use parapull_scenario::registry::{
    Auth, Fault, FaultKind, FaultTarget, FaultTimes, Faults, RangeSupport, Redirect,
};
use parapull_scenario::{
    Awaiting, ByteSize, Cancel, Encoding, Host, ImageSource, LimitChange, LimitsSpec, LocalBytes,
    LocalFault, LocalFaultKind, Mishaps, PlannedLayer, PullSpec, RegistryProfile, Scenario,
    Setting,
};

use crate::draw::Draws;

/// The scenario of a seed.
#[must_use]
pub fn generate(seed: u64) -> Scenario {
    let mut draws = Draws::new(seed);
    let draws = &mut draws;
    let clean = draws.chance(20);
    let contents = contents(draws);
    let largest = contents.iter().map(|layer| layer.compressed_bytes).max();
    let strategy = *draws.pick(&[
        Strategy::Streamed,
        Strategy::Streamed,
        Strategy::Streamed,
        Strategy::Sequential,
        Strategy::Multipart,
        Strategy::StoreThenUnpack,
    ]);
    let mut scenario = Scenario {
        name: format!("seed {seed}"),
        seed,
        pulls: pulls(draws, &contents, clean),
        host: host(draws),
        registry: registry(draws, clean),
        strategy,
        fetch_order: None,
        unpack_order: None,
        limits: limits(draws, strategy, largest.unwrap_or(1)),
        timing: Some(timing(draws)),
        hosts: Some(host_rules(draws)),
        hedging: Some(hedging::rules(seed)),
        faults: Faults::default(),
        local_faults: Vec::new(),
        limit_changes: Vec::new(),
        shutdown_ms: None,
        mishaps: Mishaps::default(),
    };
    choose_orders(seed, &mut scenario);
    // From numbers of its own, so that everything else of a seed is what it was without it.
    let mut wide = Draws::new(seed ^ WIDE_SEED);
    scenario.host.inflate_pieces_percent = wide.within_u32(50, 100);
    widen(&mut wide, &mut scenario.limits, largest.unwrap_or(1));
    if !clean {
        scenario.faults.faults = faults(draws, largest.unwrap_or(1));
        scenario.local_faults = local_faults(draws);
        if draws.chance(25) {
            for _ in 0..draws.within(1, 3) {
                let mut limits = limits(draws, strategy, largest.unwrap_or(1));
                widen(&mut wide, &mut limits, largest.unwrap_or(1));
                let at_ms = draws.within(0, 3_000);
                scenario.limit_changes.push(LimitChange { at_ms, limits });
            }
        }
        if draws.chance(5) {
            scenario.shutdown_ms = Some(draws.within(0, 3_000));
        }
        scenario.mishaps = mishaps::mishaps(seed, scenario.pulls.len());
    }
    let changed = scenario
        .limit_changes
        .iter_mut()
        .map(|change| &mut change.limits);
    choose_chunks(
        seed,
        largest.unwrap_or(1),
        once(&mut scenario.limits).chain(changed),
    );
    scenario
}

/// The blobs there are; images pick from them, so that they share.
fn contents(draws: &mut Draws) -> Vec<PlannedLayer> {
    let count = draws.within_u32(1, 14);
    let sources = if draws.chance(20) { 2 } else { 1 };
    (0..count)
        .map(|content| {
            let compressed_bytes = match draws.within(0, 9) {
                0 => 32,
                1 => 1,
                2..=4 => draws.within(33, 64 << 10),
                5..=7 => draws.within(64 << 10, 2 << 20),
                _ => draws.within(2 << 20, 8 << 20),
            };
            PlannedLayer {
                content,
                compressed_bytes,
                uncompressed_bytes: compressed_bytes * draws.within(10, 60) / 10 + 1_024,
                entries: draws.within(0, compressed_bytes / 20_000 + 2),
                encoding: *draws.pick(&[
                    Encoding::Gzip,
                    Encoding::Gzip,
                    Encoding::Zstd,
                    Encoding::Plain,
                ]),
                sources,
            }
        })
        .collect()
}

fn pulls(draws: &mut Draws, contents: &[PlannedLayer], clean: bool) -> Vec<PullSpec> {
    let count = *draws.pick(&[1, 1, 1, 2, 2, 3]);
    (0..count)
        .map(|_| {
            let layers: Vec<PlannedLayer> = (0..draws.within(1, 12))
                .map(|_| *draws.pick(contents))
                .collect();
            let total = u32::try_from(layers.len()).unwrap_or(1);
            let mut spec = PullSpec::new(ImageSource::Layers(layers));
            if draws.chance(50) {
                spec.at_ms = draws.within(0, 2_000);
            }
            if draws.chance(40) {
                let pause_us = draws.within_u32(0, 50_000);
                spec.awaiting = Awaiting::BottomUp { pause_us };
            }
            spec.weight = draws.within_u32(1, 3);
            if draws.chance(15) {
                spec.linked = draws.within_u32(0, total);
            }
            if draws.chance(15) {
                spec.staged = (0..total).filter(|_| draws.chance(30)).collect();
            }
            if draws.chance(15) {
                let indices = (0..total).filter(|_| draws.chance(40)).collect::<Vec<_>>();
                spec.local = indices
                    .into_iter()
                    .map(|index| local(draws, index))
                    .collect();
            }
            if draws.chance(15) {
                spec.elsewhere = (0..total).filter(|_| draws.chance(30)).collect();
            }
            if !clean && draws.chance(25) {
                let at_ms = draws.within(0, 3_000);
                let outright = draws.chance(50);
                spec.cancel = Some(Cancel { at_ms, outright });
            }
            spec
        })
        .collect()
}

fn local(draws: &mut Draws, index: u32) -> LocalBytes {
    let whole = draws.chance(50);
    let (from_permille, to_permille) = if whole {
        (0, 1_000)
    } else {
        (draws.within_u32(0, 500), draws.within_u32(500, 1_000))
    };
    LocalBytes {
        index,
        from_permille,
        to_permille,
    }
}

fn host(draws: &mut Draws) -> Host {
    Host {
        name: "generated".to_owned(),
        cores: draws.within_u32(1, 8),
        inflate_bytes_per_second: draws.within(20_000_000, 800_000_000),
        file_create_ns: draws.within(0, 100_000),
        disk_bytes_per_second: draws.within(20_000_000, 2_000_000_000),
        disk_dirty_credit_bytes: *draws.pick(&[0, 1 << 20, 1 << 30]),
        link_bytes_per_second: draws.within(10_000_000, 2_000_000_000),
        round_trip_us: draws.within_u32(0, 20_000),
        link_layer_us: draws.within_u32(0, 20_000),
        ..Host::default()
    }
}

fn registry(draws: &mut Draws, clean: bool) -> RegistryProfile {
    let mut profile = RegistryProfile {
        name: "generated".to_owned(),
        first_byte_ms: draws.within_u32(0, 50),
        ..RegistryProfile::default()
    };
    if draws.chance(50) {
        profile.first_byte_ms_p99 = Some(draws.within_u32(50, 400));
    }
    if draws.chance(50) {
        profile.connection_bytes_per_second = NonZeroU64::new(draws.within(1_000_000, 200_000_000));
    }
    if draws.chance(25) {
        profile.total_bytes_per_second = NonZeroU64::new(draws.within(5_000_000, 500_000_000));
    }
    if draws.chance(20) {
        profile.ranges = *draws.pick(&[
            RangeSupport::IgnoredWith200,
            RangeSupport::Refused416,
            RangeSupport::WrongContentRange,
            RangeSupport::NoContentRange,
            RangeSupport::NoAcceptRangesHeader,
        ]);
    }
    if draws.chance(20) {
        let expires_seconds = 300;
        profile.redirect = Redirect::SecondOrigin { expires_seconds };
        profile.auth = Auth::Token {
            username: None,
            password: None,
            expires_seconds,
        };
    }
    if !clean && draws.chance(15) {
        profile.connections_max = NonZeroU32::new(draws.within_u32(1, 8));
    }
    if !clean && draws.chance(10) {
        profile.requests_per_second_max = NonZeroU32::new(draws.within_u32(5, 100));
        profile.retry_after_seconds = draws.chance(50).then_some(1);
    }
    profile
}

/// Limits from generous to the least that can work: a window of exactly one piece for every lane.
fn limits(draws: &mut Draws, strategy: Strategy, largest: u64) -> LimitsSpec {
    let unpacks = draws.within_u32(1, 5);
    let unpacks_per_image = match strategy {
        Strategy::Sequential | Strategy::Multipart => 1,
        Strategy::StoreThenUnpack | Strategy::Streamed => draws.within_u32(1, unpacks),
    };
    let fetches = draws.within_u32(1, 24);
    // At most 64 chunks of the largest blob, so that a run stays short.
    let least = (largest / 64).max(1);
    let chunk = if strategy == Strategy::Sequential || draws.chance(15) {
        0
    } else {
        draws.within(least, largest.max(least) + 10)
    };
    let slice = match chunk {
        0 => draws.within(least, largest.max(least)),
        chunk if draws.chance(70) => chunk,
        _ => draws.within(least, largest.max(least)),
    };
    let piece = chunk.max(slice);
    let window_min = piece * u64::from(unpacks);
    let window = match draws.within(0, 3) {
        0 => window_min,
        1 => window_min + draws.within(0, piece),
        2 => window_min * 2,
        _ => window_min + draws.within(0, largest * 8),
    };
    let layer_window = match draws.within(0, 2) {
        0 => piece,
        1 => piece * 2,
        _ => window.max(piece),
    };
    let spool = match draws.within(0, 9) {
        0 => draws.within(1, largest),
        1..=4 => largest,
        _ => largest * 20,
    };
    let threads = draws.within_u32(unpacks, unpacks * 3);
    LimitsSpec {
        fetches: Setting::Is(fetches),
        fetches_per_image: Setting::Is(draws.within_u32(1, fetches)),
        unpacks: Setting::Is(unpacks),
        unpacks_per_image: Setting::Is(unpacks_per_image),
        chunk: Setting::Is(ByteSize(chunk)),
        chunk_min: Setting::Auto,
        slice: Setting::Is(ByteSize(slice)),
        window: Setting::Is(ByteSize(window)),
        layer_window: Setting::Is(ByteSize(layer_window)),
        spool: Setting::Is(ByteSize(spool)),
        threads: Setting::Is(threads),
        threads_per_lane: Setting::Is(draws.within_u32(1, 4)),
        ..LimitsSpec::default()
    }
}

/// Takes other orders than the strategy's in every fourth run, by a stream of draws of its own.
fn choose_orders(seed: u64, scenario: &mut Scenario) {
    let mut draws = Draws::new(seed ^ ORDER_STREAM);
    if draws.chance(25) {
        scenario.fetch_order = Some(*draws.pick(&FetchOrder::ALL));
    }
    if draws.chance(25) {
        let at_once = scenario.strategy == Strategy::Streamed;
        let order = *draws.pick(&UnpackOrder::ALL);
        scenario.unpack_order = (order.is_at_once() == at_once).then_some(order);
    }
}

/// Lets the engine choose the size of ranges in every third run, by a stream of draws of its own.
fn choose_chunks<'a>(seed: u64, largest: u64, limits: impl Iterator<Item = &'a mut LimitsSpec>) {
    let mut draws = Draws::new(seed ^ CHOSEN_STREAM);
    if !draws.chance(33) {
        return;
    }
    for limits in limits {
        let most = limits.chunk.or(ByteSize(0)).0;
        if most > 1 {
            let least = (largest / 64).clamp(1, most);
            limits.chunk_min = Setting::Is(ByteSize(draws.within(least, most)));
        }
    }
}

/// Lets lanes be widened in half of all scenarios.
fn widen(draws: &mut Draws, limits: &mut LimitsSpec, largest: u64) {
    let threads = if draws.chance(50) {
        draws.within_u32(4, 10)
    } else {
        1
    };
    limits.wide_threads = Setting::Is(threads);
    limits.wide_min = Setting::Is(ByteSize(draws.within(0, largest / 4)));
}

fn timing(draws: &mut Draws) -> Timing {
    let mut timing = Timing {
        first_byte_ms: 0,
        attempts_max: draws.within_u32(2, 8),
        backoff_ms_min: draws.within(1, 300),
        backoff_ms_max: draws.within(300, 5_000),
        retry_after_ms_max: 5_000,
        stall_ms: draws.within(5_000, 20_000),
        stall_bytes_min: draws.within(1, 1_024),
        cancel_grace_ms: draws.within(100, 10_000),
        staging_ttl_ms: *draws.pick(&[0, 50, 1_000, 60_000]),
        retries_max: draws.within_u32(20, 200),
        progress_ms: draws.within(15_000, 150_000),
        shutdown_grace_ms: draws.within(0, 5_000),
    };
    // First bytes have longer in half of the runs.
    if timing.stall_ms.is_multiple_of(2) {
        timing.first_byte_ms = timing.stall_ms * 3 / 2;
    }
    timing
}

fn host_rules(draws: &mut Draws) -> HostRules {
    let few = draws.chance(25);
    let slowly = draws.chance(15);
    HostRules {
        connections_max: if few { draws.within_u32(1, 6) } else { 65_536 },
        requests_per_second_max: if slowly { draws.within_u32(2, 40) } else { 0 },
        failures_max: draws.within_u32(1, 8),
        cool_down_ms: draws.within(10, 20_000),
        silence_ms: draws.within(50, 3_000),
        raise_ms: draws.within(100, 20_000),
        ranges_memory_ms: draws.within(0, 60_000),
    }
}

fn faults(draws: &mut Draws, largest: u64) -> Vec<Fault> {
    let kinds: [fn(&mut Draws, u64) -> FaultKind; 9] = [
        |draws, largest| FaultKind::ResetAfter {
            bytes: draws.within(0, largest),
        },
        |draws, largest| FaultKind::TruncatedAfter {
            bytes: draws.within(0, largest),
        },
        |draws, largest| FaultKind::CorruptByte {
            offset: draws.within(0, largest),
        },
        |draws, _| FaultKind::Status {
            code: *draws.pick(&[500, 502, 503, 429, 408, 500, 429, 401, 403, 404, 416, 400]),
            retry_after_seconds: draws.chance(40).then_some(*draws.pick(&[0, 1, 2, 1, 100])),
        },
        |draws, largest| FaultKind::StallAfter {
            bytes: draws.within(0, largest),
            stall_ms: draws.chance(50).then_some(draws.within_u32(10, 30_000)),
        },
        |draws, _| FaultKind::Trickle {
            bytes_per_second: draws.within(20_000, 1_000_000),
        },
        |_, _| FaultKind::WrongContentLength { delta_bytes: 1 },
        |_, _| FaultKind::WholeBodyForRange,
        |_, _| FaultKind::WrongRange,
    ];
    let mut faults = Vec::new();
    for kind in kinds {
        if draws.chance(50) {
            continue;
        }
        if draws.chance(50) {
            // Half of the half, so that most scenarios have two or three kinds, not six.
            continue;
        }
        for _ in 0..draws.within(1, 2) {
            let fault = fault(draws, largest, kind);
            faults.push(fault);
        }
    }
    faults
}

fn fault(draws: &mut Draws, largest: u64, kind: fn(&mut Draws, u64) -> FaultKind) -> Fault {
    let target = if draws.chance(50) {
        FaultTarget::AnyLayer
    } else {
        FaultTarget::Layer(draws.within_u32(0, 11))
    };
    let times = match draws.within(0, 9) {
        0 => FaultTimes::Always,
        1 | 2 => FaultTimes::Every(draws.within_u32(2, 10)),
        3..=5 => FaultTimes::First(draws.within_u32(1, 4)),
        6 => FaultTimes::Burst {
            from: draws.within_u32(1, 10),
            count: draws.within_u32(2, 6),
        },
        _ => FaultTimes::Nth(draws.within_u32(1, 20)),
    };
    Fault {
        target,
        offset: draws.chance(30).then_some(draws.within(0, largest)),
        times,
        kind: kind(draws, largest),
    }
}

fn local_faults(draws: &mut Draws) -> Vec<LocalFault> {
    let mut faults = Vec::new();
    let at_permille = draws.within_u32(0, 1_000);
    for (percent, kind) in [
        (4, LocalFaultKind::LaneDisk { at_permille }),
        (4, LocalFaultKind::LaneBadImage { at_permille }),
        (12, LocalFaultKind::LinkNeedsParents),
        (12, LocalFaultKind::LinkSourceGone),
        (4, LocalFaultKind::LinkDisk),
        (10, LocalFaultKind::LocalGone),
        (6, LocalFaultKind::LocalCorrupt),
    ] {
        if draws.chance(percent) {
            let layer = draws.chance(60).then_some(draws.within_u32(0, 11));
            let times = draws.within_u32(1, 3);
            faults.push(LocalFault { layer, times, kind });
        }
    }
    faults
}

const CHOSEN_STREAM: u64 = 0x0c07_5e9c_4a1b_77d3;
const ORDER_STREAM: u64 = 0x6f72_6465_7200_1d4b;
/// Keeps what is drawn for wide lanes apart from all other draws of a seed.
const WIDE_SEED: u64 = 0x7769_6465;
