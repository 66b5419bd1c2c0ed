//! The time no scheduler can beat: the largest of what link, disk, cores and the longest layer need by themselves.

use parapull_engine::{Destination, RawLimits};
use parapull_scenario::{PlannedLayer, Scenario};

use crate::mishaps;
use crate::plan::Plan;
use crate::trouble::Trouble;
use crate::world::lanes::Cost;

/// What each resource needs at least, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowerBound {
    /// All bytes over the link, and over as many connections as are allowed.
    pub(crate) network: u64,
    /// All writes beyond what the page cache takes.
    pub(crate) disk: u64,
    /// All work on all cores.
    pub(crate) cores: u64,
    /// The longest layer: its bytes and its lane, at once when streamed, one after the other when stored.
    pub(crate) path: u64,
}

impl LowerBound {
    pub(crate) const fn nanos(&self) -> u64 {
        let network_or_disk = if self.network > self.disk {
            self.network
        } else {
            self.disk
        };
        let cores_or_path = if self.cores > self.path {
            self.cores
        } else {
            self.path
        };
        if network_or_disk > cores_or_path {
            network_or_disk
        } else {
            cores_or_path
        }
    }

    /// Of everything a scenario unpacks, each layer once. Faults only add to it.
    pub(crate) fn of(scenario: &Scenario, plan: &Plan) -> Self {
        let raw = *plan.config.limits.raw();
        let layers = missing(scenario, plan);
        let compressed: u64 = layers.iter().map(|layer| layer.compressed_bytes).sum();
        let uncompressed: u64 = layers.iter().map(|layer| layer.uncompressed_bytes).sum();
        let stored = plan.config.scheduling.destination == Destination::Spool;
        let host = &scenario.host;
        let written = uncompressed + if stored { compressed } else { 0 };
        let work: u64 = layers
            .iter()
            .map(|layer| Cost::of(host, layer, 0, layer.compressed_bytes).work())
            .sum();
        let threads = u64::from(raw.threads_max.min(host.cores));
        // A layer that is alone may have the most threads there are for one.
        let threads_of_one = raw.threads_per_lane_max.max(raw.wide_threads_max);
        let path = layers
            .iter()
            .map(|layer| {
                let fetch = fetch_nanos(scenario, &raw, layer.compressed_bytes);
                let lane =
                    Cost::of(host, layer, 0, layer.compressed_bytes).nanos_min(threads_of_one);
                if stored {
                    fetch + lane
                } else {
                    fetch.max(lane)
                }
            })
            .max();
        Self {
            network: fetch_nanos(scenario, &raw, compressed),
            disk: nanos(
                written.saturating_sub(host.disk_dirty_credit_bytes),
                host.disk_bytes_per_second,
            ),
            cores: work / threads,
            path: path.unwrap_or(0),
        }
    }
}

/// The layers that have to be made, each once.
fn missing(scenario: &Scenario, plan: &Plan) -> Vec<PlannedLayer> {
    let mut wanted = vec![false; plan.layers.len()];
    for (pull, layers) in plan.pulls.iter().enumerate() {
        let spec = &scenario.pulls[pull];
        for (index, layer) in (0..).zip(layers) {
            let here = index < spec.linked || spec.staged.contains(&index);
            wanted[layer.0 as usize] |= !here;
        }
    }
    plan.layers
        .iter()
        .zip(wanted)
        .filter(|(_, wanted)| *wanted)
        .map(|(blob, _)| *plan.blob(*blob))
        .collect()
}

/// Bytes over the link, or over all connections, each of which also waits for first bytes.
fn fetch_nanos(scenario: &Scenario, raw: &RawLimits, bytes: u64) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let host = &scenario.host;
    let registry = &scenario.registry;
    let total = registry
        .total_bytes_per_second
        .map_or(u64::MAX, std::num::NonZeroU64::get)
        .min(host.link_bytes_per_second);
    let first_byte = first_byte_nanos(scenario);
    let over_link = nanos(bytes, total);
    let Some(cap) = registry.connection_bytes_per_second else {
        return over_link + first_byte;
    };
    let images = u32::try_from(scenario.pulls.len()).unwrap_or(u32::MAX);
    let fetches = raw
        .fetches_per_image_max
        .saturating_mul(images)
        .min(raw.fetches_max)
        .min(
            registry
                .connections_max
                .map_or(u32::MAX, std::num::NonZeroU32::get),
        );
    let fetches = u64::from(fetches);
    let chunks = match raw.chunk_bytes_max {
        0 => fetches,
        chunk => bytes.div_ceil(chunk).max(1),
    };
    let waits = first_byte * (chunks / fetches).max(1);
    (over_link + first_byte).max(nanos(bytes, cap.get()) / fetches + waits)
}

/// The median time to the first byte, round trip included.
pub(crate) fn first_byte_nanos(scenario: &Scenario) -> u64 {
    u64::from(scenario.host.round_trip_us) * 1_000
        + u64::from(scenario.registry.first_byte_ms) * 1_000_000
}

/// Manifest list, manifest and config, and a challenge and a token where one is needed: one after the other.
pub(crate) fn setup_nanos(scenario: &Scenario) -> u64 {
    let requests = match scenario.registry.auth {
        parapull_scenario::registry::Auth::None
        | parapull_scenario::registry::Auth::Basic { .. } => 3,
        parapull_scenario::registry::Auth::Token { .. } => 5,
    };
    requests * first_byte_nanos(scenario)
}

fn nanos(bytes: u64, bytes_per_second: u64) -> u64 {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// When everything is over at the latest: each pull's layers one after the other, three times over, over one connection
/// and on one thread, and every request that can fail waiting as long as it may.
pub(crate) fn deadline_nanos(scenario: &Scenario, plan: &Plan) -> u64 {
    let host = &scenario.host;
    let raw = plan.config.limits.raw();
    let timing = plan.config.timing;
    let last = scenario.pulls.iter().map(|pull| pull.at_ms).max();
    let mut total = last.unwrap_or(0) * NANOS_PER_MILLI + setup_nanos(scenario);
    let latency = first_byte_nanos(scenario)
        + u64::from(scenario.registry.first_byte_ms_p99.unwrap_or(0)) * NANOS_PER_MILLI;
    let wait_ms = timing.backoff_ms_max
        + timing.retry_after_ms_max
        + timing.first_byte_ms
        + 2 * timing.stall_ms;
    let mishaps = mishaps::Delays::of(scenario);
    let faulty = !scenario.faults.faults.is_empty()
        || mishaps.breaks_fetches
        || scenario.registry.requests_per_second_max.is_some()
        || scenario.registry.connections_max.is_some();
    // What can fail only so often costs only so much in all; else every request fails as often as it may.
    let trouble = Trouble::of(scenario, plan, |_| true);
    if trouble.failures < u64::MAX {
        let trouble_ms = trouble.silence_ms().saturating_add(trouble.crawl_ms);
        total = total.saturating_add(trouble_ms.saturating_mul(NANOS_PER_MILLI));
    }
    let chunk_bytes = match (raw.chunk_bytes_max, raw.chunk_bytes_min) {
        (0, _) => raw.slice_bytes,
        (chunk, 0) => chunk.min(raw.slice_bytes),
        (chunk, least) => chunk.min(raw.slice_bytes).min(least),
    };
    for layer in plan.pulls.iter().flatten().map(|layer| plan.layer(*layer)) {
        let cap = scenario.registry.connection_bytes_per_second;
        let rate = cap
            .map_or(u64::MAX, std::num::NonZeroU64::get)
            .min(host.link_bytes_per_second)
            .min(host.disk_bytes_per_second);
        let bytes = layer.compressed_bytes * 2 + layer.uncompressed_bytes;
        let lane = Cost::of(host, layer, 0, layer.compressed_bytes).work();
        let chunks = layer.compressed_bytes.div_ceil(chunk_bytes).max(1);
        let asked = NANOS_PER_SECOND / u64::from(plan.config.hosts.requests_per_second_max).max(1);
        let latency = latency
            + if plan.config.hosts.requests_per_second_max > 0 {
                asked
            } else {
                0
            };
        let per_chunk = if faulty && trouble.failures == u64::MAX {
            (wait_ms * NANOS_PER_MILLI + latency + mishaps.late_nanos)
                .saturating_mul(u64::from(timing.attempts_max) * u64::from(layer.sources))
        } else {
            2 * (latency + mishaps.late_nanos)
        };
        let once = nanos(bytes, rate)
            .saturating_add(2 * lane)
            .saturating_add(per_chunk.saturating_mul(chunks))
            .saturating_add(SPARE_NANOS);
        total = total.saturating_add(once.saturating_mul(3));
    }
    let pauses = scenario.pulls.iter().map(|pull| match pull.awaiting {
        parapull_scenario::Awaiting::Together => 0,
        parapull_scenario::Awaiting::BottomUp { pause_us } => u64::from(pause_us) * 1_000 * 200,
    });
    let grace = (timing.cancel_grace_ms + 1_000) * NANOS_PER_MILLI;
    total
        .saturating_add(pauses.sum())
        .saturating_add(grace)
        .saturating_add(mishaps.nanos)
        .saturating_mul(1 + scenario.mishaps.crashes.len() as u64)
}

const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Links, drops, cancelled ops.
const SPARE_NANOS: u64 = 1_000_000_000;
