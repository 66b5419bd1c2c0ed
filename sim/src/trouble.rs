//! How much trouble a scenario can make for fetches: how often requests fail, and how long nothing comes for them.
//!
//! Told from the scenario alone, for the oracle and its deadline. It errs on the side of trouble.

use parapull_engine::{Class, FetchError};
use parapull_scenario::Scenario;
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};

use crate::bound;
use crate::mishaps;
use crate::plan::Plan;
use crate::registry;

/// What can go wrong with the requests of some pulls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    /// Requests that can fail in all and are asked again; `u64::MAX` is without bound.
    pub(crate) failures: u64,
    /// What one of them costs at most: its silence, then its backoff, in milliseconds.
    pub(crate) each_ms: u64,
    /// How long clogs and sleeps last together, in milliseconds.
    pub(crate) still_ms: u64,
    /// How long bodies that trickle, but not so slowly that they stall, take together, in milliseconds.
    pub(crate) crawl_ms: u64,
}

impl Trouble {
    /// Of the blobs that `concerns` a scenario's pulls.
    pub(crate) fn of(scenario: &Scenario, plan: &Plan, concerns: impl Fn(&Fault) -> bool) -> Self {
        let timing = plan.config.timing;
        let faults = scenario.faults.faults.iter();
        let met: Vec<&Fault> = faults
            .filter(|fault| is_retried(fault.kind) && concerns(fault))
            .collect();
        let failures = met
            .iter()
            .map(|fault| widened(hits(fault.times)))
            .fold(of_mishaps(scenario, plan), u64::saturating_add);
        let mishaps = &scenario.mishaps;
        let falls_silent = withholds(scenario)
            || !mishaps.clogs.is_empty()
            || !mishaps.sleeps.is_empty()
            || met
                .iter()
                .any(|fault| error_of(fault.kind) == Some(FetchError::Stalled));
        let is_told = scenario.registry.retry_after_seconds.is_some()
            || met.iter().any(|fault| told_ms(fault.kind).is_some());
        let told_ms = if is_told {
            timing.retry_after_ms_max
        } else {
            0
        };
        let silent_ms = if falls_silent { 2 * timing.stall_ms } else { 0 };
        let slowest_ms = u64::from(scenario.registry.first_byte_ms_p99.unwrap_or(0)) * 2;
        let clogged = mishaps.clogs.iter().map(|clog| clog.for_ms);
        let slept = mishaps.sleeps.iter().map(|sleep| sleep.for_ms);
        Self {
            failures: if withholds(scenario) {
                u64::MAX
            } else {
                failures
            },
            each_ms: timing.backoff_ms_max.max(told_ms)
                + silent_ms
                + slowest_ms
                + latency_ms(scenario)
                + read_away_ms(scenario, plan),
            still_ms: clogged.chain(slept).sum(),
            crawl_ms: crawl_ms(&met, plan),
        }
    }

    /// How long a pull can wait for bytes at most while it is owed some, in milliseconds.
    pub(crate) const fn silence_ms(&self) -> u64 {
        self.failures
            .saturating_mul(self.each_ms)
            .saturating_add(self.still_ms)
    }
}

/// How long bodies that trickle take at most, in milliseconds: one fast enough not to count as a stall is read to its end.
fn crawl_ms(faults: &[&Fault], plan: &Plan) -> u64 {
    let largest = plan.blobs.iter().map(|blob| blob.compressed_bytes).max();
    let largest = largest.unwrap_or(0).saturating_mul(1_000);
    let crawls = faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::Trickle { bytes_per_second } => {
            Some(widened(hits(fault.times)).saturating_mul(largest / bytes_per_second.max(1)))
        }
        _ => None,
    });
    crawls.fold(0, u64::saturating_add)
}

/// Requests that mishaps can make fail, and those that are closed because a host seems to bear fewer connections.
fn of_mishaps(scenario: &Scenario, plan: &Plan) -> u64 {
    let mishaps = mishaps::Failures::of(scenario);
    let fetches = u64::from(plan.config.limits.raw().fetches_max);
    // What stands still, or sleeps, takes every open fetch with it.
    widened(mishaps.unconnected).saturating_add(widened(mishaps.stalled).saturating_mul(fetches))
}

/// Answers and places in line that the registry withholds: they fail without bound.
pub(crate) fn withholds(scenario: &Scenario) -> bool {
    let registry = &scenario.registry;
    registry.requests_per_second_max.is_some() || registry.connections_max.is_some()
}

/// A stream that is opened again reads away what is here, at its slowest, in milliseconds.
fn read_away_ms(scenario: &Scenario, plan: &Plan) -> u64 {
    let largest = plan.blobs.iter().map(|blob| blob.compressed_bytes).max();
    largest.unwrap_or(0).saturating_mul(1_000) / rate_least(scenario, plan)
}

/// Bytes per second of one connection when all are open.
fn rate_least(scenario: &Scenario, plan: &Plan) -> u64 {
    let limits = std::iter::once(&plan.config.limits).chain(&plan.limit_changes);
    let fetches = limits.map(|limits| limits.raw().fetches_max).max();
    let registry = &scenario.registry;
    let total = registry
        .total_bytes_per_second
        .map_or(u64::MAX, std::num::NonZeroU64::get)
        .min(scenario.host.link_bytes_per_second);
    let own = registry
        .connection_bytes_per_second
        .map_or(u64::MAX, std::num::NonZeroU64::get);
    own.min(total / u64::from(fetches.unwrap_or(1)).max(1))
        .max(1)
}

/// Whether a request can be silent for so long that it looks like one connection too many, while others are served.
pub(crate) fn may_crowd(scenario: &Scenario, plan: &Plan) -> bool {
    let mishaps = &scenario.mishaps;
    let disturbed = withholds(scenario)
        || !mishaps.clogs.is_empty()
        || !mishaps.sleeps.is_empty()
        || mishaps.delivery.is_some()
        || scenario
            .faults
            .faults
            .iter()
            .any(|fault| error_of(fault.kind) == Some(FetchError::Stalled));
    let first_ms = latency_ms(scenario)
        + u64::from(scenario.registry.first_byte_ms_p99.unwrap_or(0)) * 2
        + FIRST_BYTES_TOLD * 1_000 / rate_least(scenario, plan)
        + read_away_ms(scenario, plan);
    disturbed || first_ms >= plan.config.hosts.silence_ms
}

fn latency_ms(scenario: &Scenario) -> u64 {
    2 * bound::first_byte_nanos(scenario).div_ceil(1_000_000)
}

/// Whether a fault can meet a request for a blob.
pub(crate) fn concerns(fault: &Fault, plan: &Plan, blob: parapull_engine::BlobId) -> bool {
    let size = plan.blob(blob).compressed_bytes;
    let is_target = match fault.target {
        FaultTarget::AnyLayer => true,
        FaultTarget::Layer(index) => plan.is_at(blob, index),
        FaultTarget::Digest(_)
        | FaultTarget::Config
        | FaultTarget::Manifest
        | FaultTarget::Token
        | FaultTarget::Ping => false,
    };
    let carried = match fault.kind {
        FaultKind::CorruptByte { offset } => offset < size,
        _ => size > 0,
    };
    is_target && carried && fault.offset.is_none_or(|offset| offset < size)
}

/// How often a fault can happen.
pub(crate) const fn hits(times: FaultTimes) -> u32 {
    match times {
        FaultTimes::First(count) => count,
        FaultTimes::Burst { count, .. } => count,
        FaultTimes::Nth(_) => 1,
        FaultTimes::Always | FaultTimes::Every(_) => u32::MAX,
    }
}

/// `u32::MAX` stands for "without bound".
const fn widened(hits: u32) -> u64 {
    if hits == u32::MAX {
        u64::MAX
    } else {
        hits as u64
    }
}

/// The error a request ends with that meets a fault, if it ends with one.
pub(crate) fn error_of(kind: FaultKind) -> Option<FetchError> {
    match kind {
        FaultKind::ResetAfter { .. } | FaultKind::TruncatedAfter { .. } => {
            Some(FetchError::Connection)
        }
        FaultKind::StallAfter { .. } | FaultKind::Trickle { .. } => Some(FetchError::Stalled),
        FaultKind::WrongContentLength { .. } => Some(FetchError::Protocol),
        FaultKind::Status {
            code,
            retry_after_seconds,
        } => Some(registry::classify(
            code,
            retry_after_seconds.is_some(),
            false,
        )),
        FaultKind::CorruptByte { .. } | FaultKind::WholeBodyForRange | FaultKind::WrongRange => {
            None
        }
    }
}

/// Whether a request that meets a fault is repeated.
pub(crate) fn is_retried(kind: FaultKind) -> bool {
    error_of(kind).is_some_and(|error| error.class() == Class::Retry)
}

/// When the registry says to come back, in milliseconds.
pub(crate) fn told_ms(kind: FaultKind) -> Option<u64> {
    match kind {
        FaultKind::Status {
            retry_after_seconds,
            ..
        } => retry_after_seconds.map(|seconds| u64::from(seconds) * 1_000),
        _ => None,
    }
}

/// How many bytes of a body come before the first of them are told, at most.
const FIRST_BYTES_TOLD: u64 = 1 << 20;
