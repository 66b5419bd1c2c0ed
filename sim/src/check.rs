//! The oracle: which ends a scenario allows, told from the scenario alone, and whether a run kept its promises.

use parapull_engine::{Destination, FetchError, LaneError, LayerError, LinkError, Outcome};
use parapull_scenario::registry::{FaultKind, FaultTimes};
use parapull_scenario::{LocalFaultKind, PullSpec, Scenario};

use crate::bound;
use crate::mishaps;
use crate::plan::Plan;
use crate::record::{PullRecord, Record};
use crate::registry;
use crate::report::Run;
use crate::world::Violation;

/// Checks a run that came to its end.
///
/// # Errors
/// Names the first promise that was broken.
pub fn check(run: &Run) -> Result<(), Violation> {
    let (scenario, plan) = (&run.scenario, &run.finished.plan);
    let record = &run.finished.record;
    let mut all_ready = true;
    for (pull, seen) in record.pulls.iter().enumerate() {
        let allowed = Allowed::of(scenario, plan, pull);
        let Some((_, outcome, _)) = seen.finished else {
            return Err(Violation::Liveness(format!("pull {pull} never ended")));
        };
        all_ready &= outcome == Outcome::Ready;
        allowed.check(pull, outcome)?;
        check_layers(pull, scenario.pulls[pull].linked, seen, outcome)?;
    }
    if record.crashes == 0 {
        check_counted(record)?;
        check_hedged(plan, record)?;
        if all_ready {
            check_bytes(record)?;
        }
    }
    if record.threads_peak > record.allowed.threads {
        return Err(Violation::Correctness(format!(
            "{} threads, but only {} are allowed",
            record.threads_peak, record.allowed.threads
        )));
    }
    check_time(scenario, plan, record)
}

/// How a pull may end.
#[derive(Debug)]
struct Allowed {
    cancelled: bool,
    /// Failures that some fault can cause.
    errors: Vec<LayerError>,
    /// No way leads to success.
    doomed: bool,
}

impl Allowed {
    fn of(scenario: &Scenario, plan: &Plan, pull: usize) -> Self {
        let spec = &scenario.pulls[pull];
        let mut allowed = Self {
            cancelled: spec.cancel.is_some()
                || scenario.shutdown_ms.is_some()
                || mishaps::outlasts_grace(scenario, pull),
            errors: Vec::new(),
            doomed: false,
        };
        allowed.add_spool(scenario, plan, pull);
        allowed.add_fetches(scenario, plan, pull);
        allowed.add_local(scenario);
        allowed
    }

    fn add_spool(&mut self, scenario: &Scenario, plan: &Plan, pull: usize) {
        if plan.config.scheduling.destination != Destination::Spool {
            return;
        }
        let spec = &scenario.pulls[pull];
        let largest = (0..)
            .zip(&plan.pulls[pull])
            .filter(|(index, _)| *index >= spec.linked)
            .map(|(_, layer)| plan.layer(*layer).compressed_bytes)
            .max();
        let spools = std::iter::once(&plan.config.limits).chain(&plan.limit_changes);
        let least = spools.map(|limits| limits.raw().spool_bytes_max).min();
        if largest > least {
            self.errors.push(LayerError::SpoolTooSmall);
            let is_here = |pull: &PullSpec| {
                pull.linked > 0 || !pull.staged.is_empty() || !pull.elsewhere.is_empty()
            };
            let staged = scenario.pulls.iter().any(is_here);
            self.doomed = plan.limit_changes.is_empty() && !staged;
        }
    }

    fn add_fetches(&mut self, scenario: &Scenario, plan: &Plan, pull: usize) {
        let registry = &scenario.registry;
        // Answers and places in line that the registry withholds use up attempts too.
        let withholds =
            registry.requests_per_second_max.is_some() || registry.connections_max.is_some();
        if registry.requests_per_second_max.is_some() {
            self.fetch(FetchError::RateLimited);
        }
        if registry.connections_max.is_some() {
            self.fetch(FetchError::Stalled);
        }
        if registry.requests_per_second_max.is_some()
            || registry.connections_max.is_some()
            || !scenario.faults.faults.is_empty()
            || scenario.mishaps != parapull_scenario::Mishaps::default()
        {
            self.errors.push(LayerError::NoProgress);
        }
        let mirrored = plan.pulls[pull]
            .iter()
            .all(|layer| plan.layer(*layer).sources > 1);
        let attempts_max = plan.config.timing.attempts_max;
        let mishaps = mishaps::Failures::of(scenario);
        if mirrored {
            // The faults are those of one source; mishaps happen to the connections of all.
            self.add_mishaps(mishaps, 0, attempts_max, withholds);
            return;
        }
        let faults = &scenario.faults.faults;
        let retried: u32 = faults
            .iter()
            .filter(|fault| is_retried(fault.kind))
            .map(|fault| hits(fault.times))
            .fold(mishaps.total(), u32::saturating_add);
        self.add_mishaps(mishaps, retried, attempts_max, withholds);
        for fault in faults {
            let long = matches!(fault.kind, FaultKind::Status { retry_after_seconds: Some(seconds), .. }
                if u64::from(seconds) * 1_000 > plan.config.timing.retry_after_ms_max);
            let fatal = !is_retried(fault.kind) || long;
            if let Some(error) = error_of(fault.kind)
                && (fatal || withholds || retried >= attempts_max)
            {
                self.fetch(error);
            }
        }
    }

    /// Mishaps use up attempts together with faults.
    fn add_mishaps(
        &mut self,
        mishaps: mishaps::Failures,
        retried: u32,
        attempts_max: u32,
        withholds: bool,
    ) {
        let used_up = withholds || retried.max(mishaps.total()) >= attempts_max;
        if used_up && mishaps.unconnected > 0 {
            self.fetch(FetchError::Connection);
        }
        if used_up && mishaps.stalled > 0 {
            self.fetch(FetchError::Stalled);
        }
    }

    fn add_local(&mut self, scenario: &Scenario) {
        let corrupt: u32 = scenario
            .faults
            .faults
            .iter()
            .filter(|fault| matches!(fault.kind, FaultKind::CorruptByte { .. }))
            .map(|fault| hits(fault.times))
            .fold(0, u32::saturating_add);
        let local = scenario
            .local_faults
            .iter()
            .any(|fault| fault.kind == LocalFaultKind::LocalCorrupt);
        if corrupt >= 2 || local && corrupt >= 1 {
            self.errors.push(LayerError::Lane(LaneError::Corrupt));
        }
        for fault in &scenario.local_faults {
            match fault.kind {
                LocalFaultKind::LaneDisk { .. } => {
                    self.errors.push(LayerError::Lane(LaneError::Disk));
                }
                LocalFaultKind::LaneBadImage { .. } => {
                    self.errors.push(LayerError::Lane(LaneError::BadImage));
                }
                LocalFaultKind::LinkDisk => {
                    self.errors.push(LayerError::Link(LinkError::Disk));
                }
                LocalFaultKind::LinkNeedsParents
                | LocalFaultKind::LinkSourceGone
                | LocalFaultKind::LocalGone
                | LocalFaultKind::LocalCorrupt => {}
            }
        }
    }

    fn fetch(&mut self, error: FetchError) {
        self.errors.push(LayerError::Fetch(error));
    }

    fn check(&self, pull: usize, outcome: Outcome) -> Result<(), Violation> {
        let fine = match outcome {
            Outcome::Ready => !self.doomed,
            Outcome::Cancelled => self.cancelled,
            Outcome::Failed { error, .. } => self.errors.contains(&error),
        };
        if fine {
            return Ok(());
        }
        Err(Violation::Correctness(format!(
            "pull {pull} ended as {outcome:?}, but the scenario allows {self:?}"
        )))
    }
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

/// The error a request ends with that meets a fault, if it ends with one.
fn error_of(kind: FaultKind) -> Option<FetchError> {
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

fn is_retried(kind: FaultKind) -> bool {
    error_of(kind).is_some_and(|error| error.class() == parapull_engine::Class::Retry)
}

/// Every layer was answered for, in order, and as the pull ended.
fn check_layers(
    pull: usize,
    linked: u32,
    seen: &PullRecord,
    outcome: Outcome,
) -> Result<(), Violation> {
    let mut before = 0;
    for (index, ready) in seen.ready.iter().enumerate().skip(linked as usize) {
        let failed = seen.failed[index].is_some();
        let fine = match (ready, outcome) {
            (Some(at), _) => {
                let in_order = *at >= before;
                before = *at;
                in_order && !failed
            }
            (None, Outcome::Ready) => false,
            (None, Outcome::Failed { .. } | Outcome::Cancelled) => {
                before = u64::MAX;
                failed
            }
        };
        if !fine {
            return Err(Violation::Correctness(format!(
                "layer {index} of pull {pull}, which ended as {outcome:?}, is ready at {ready:?} and failed: {failed}"
            )));
        }
    }
    Ok(())
}

/// Every byte that was kept was counted, for some pull.
fn check_counted(record: &Record) -> Result<(), Violation> {
    let stats = record.pulls.iter().filter_map(|pull| pull.finished);
    let counted: u64 = stats
        .map(|(_, _, stats)| stats.bytes_fetched + stats.bytes_local)
        .sum();
    let kept = record.kept_bytes;
    if counted != kept {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {kept} bytes were kept, {counted} were counted"
        )));
    }
    Ok(())
}

/// Every byte that came twice was counted, and there are no more of them than allowed.
fn check_hedged(plan: &Plan, record: &Record) -> Result<(), Violation> {
    let rules = plan.config.hedging;
    let stats = record.pulls.iter().filter_map(|pull| pull.finished);
    let (bytes, hedges) = stats.fold((0, 0), |(bytes, hedges), (_, _, stats)| {
        (bytes + stats.bytes_hedged, hedges + stats.hedges)
    });
    let seen = (record.hedged_bytes, record.hedges);
    if (bytes, hedges) != seen {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {seen:?} bytes came twice by hedges, {:?} were counted",
            (bytes, hedges)
        )));
    }
    let allowed = rules.burst_bytes + record.kept_bytes * u64::from(rules.bytes_permille) / 1_000;
    if bytes > allowed {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {bytes} bytes came twice, {allowed} are allowed"
        )));
    }
    Ok(())
}

/// Where every pull is ready, each byte that was kept was unpacked or counted as fetched again.
fn check_bytes(record: &Record) -> Result<(), Violation> {
    let stats = record.pulls.iter().filter_map(|pull| pull.finished);
    let retried: u64 = stats.map(|(_, _, stats)| stats.bytes_retried).sum();
    let (kept, unpacked) = (record.kept_bytes, record.unpacked_bytes);
    if kept != unpacked + retried {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {kept} bytes were kept, {unpacked} unpacked, {retried} counted as fetched again"
        )));
    }
    Ok(())
}

/// No end comes later than everything done one after the other, with every fault at its worst, would take.
fn check_time(scenario: &Scenario, plan: &Plan, record: &Record) -> Result<(), Violation> {
    let deadline = bound::deadline_nanos(scenario, plan);
    for (pull, seen) in record.pulls.iter().enumerate() {
        if let Some((at, ..)) = seen.finished
            && at > deadline
        {
            return Err(Violation::Liveness(format!(
                "pull {pull} ended at {at} ns, later than everything one by one ({deadline} ns)"
            )));
        }
    }
    Ok(())
}
