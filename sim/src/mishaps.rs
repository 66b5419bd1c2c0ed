//! What mishaps can do at most, told from the scenario alone: for the oracle and its deadline.

use parapull_scenario::{Awaiting, ConnectionFaultKind, Scenario};

use crate::trouble::hits;

/// How often mishaps can make one range fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failures {
    /// For want of a connection.
    pub(crate) unconnected: u32,
    /// For want of progress.
    pub(crate) stalled: u32,
}

impl Failures {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let mishaps = &scenario.mishaps;
        let stall_ms = scenario.timing.unwrap_or_default().stall_ms.max(1);
        let unconnected = mishaps
            .connections
            .iter()
            .filter(|fault| !matches!(fault.kind, ConnectionFaultKind::SlowClose { .. }))
            .map(|fault| hits(fault.times));
        let clogged = mishaps
            .clogs
            .iter()
            .map(|clog| u32::try_from(clog.for_ms / stall_ms + 1).unwrap_or(u32::MAX));
        // A clock that jumps finds every fetch without progress, once.
        let slept = mishaps.sleeps.iter().map(|_| 1);
        Self {
            unconnected: unconnected.fold(0, u32::saturating_add),
            stalled: clogged.chain(slept).fold(0, u32::saturating_add),
        }
    }

    pub(crate) const fn total(self) -> u32 {
        self.unconnected.saturating_add(self.stalled)
    }
}

/// How long mishaps hold everything up at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    /// Fetches may fail for them.
    pub(crate) breaks_fetches: bool,
    /// How late a fact is told.
    pub(crate) late_nanos: u64,
    /// All others together.
    pub(crate) nanos: u64,
}

impl Delays {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let mishaps = &scenario.mishaps;
        let clogged = mishaps.clogs.iter().map(|clog| clog.at_ms + clog.for_ms);
        let paused = mishaps
            .pauses
            .iter()
            .map(|pause| u64::from(pause.for_ms) * u64::from(pause.times));
        let away = mishaps
            .absences
            .iter()
            .map(|absence| absence.at_ms + absence.for_ms);
        let closing = mishaps.connections.iter().map(|fault| match fault.kind {
            ConnectionFaultKind::SlowClose { ms } => u64::from(ms),
            ConnectionFaultKind::Refused | ConnectionFaultKind::NameUnknown => 0,
        });
        let ms: u64 = clogged.chain(paused).chain(away).chain(closing).sum();
        Self {
            breaks_fetches: !mishaps.connections.is_empty()
                || !mishaps.clogs.is_empty()
                || !mishaps.sleeps.is_empty(),
            late_nanos: mishaps
                .delivery
                .map_or(0, |delivery| u64::from(delivery.late_us_max) * 1_000),
            nanos: ms.saturating_mul(NANOS_PER_MILLI),
        }
    }
}

/// Whether a pull's callers can be away for so long that its grace period ends; sleep counts.
pub(crate) fn outlasts_grace(scenario: &Scenario, pull: usize) -> bool {
    let mishaps = &scenario.mishaps;
    let grace_ms = scenario.timing.unwrap_or_default().cancel_grace_ms;
    let away = mishaps
        .absences
        .iter()
        .filter(|absence| absence.pull == pull);
    let away_ms: u64 = away.map(|absence| absence.for_ms).sum();
    let slept_ms: u64 = mishaps.sleeps.iter().map(|sleep| sleep.for_ms).sum();
    // Also between two calls from the bottom up nobody waits, for a moment.
    let between_ms = match scenario.pulls[pull].awaiting {
        Awaiting::BottomUp { pause_us } => u64::from(pause_us).div_ceil(1_000),
        Awaiting::Together => 0,
    };
    away_ms + slept_ms + between_ms >= grace_ms
}

const NANOS_PER_MILLI: u64 = 1_000_000;
