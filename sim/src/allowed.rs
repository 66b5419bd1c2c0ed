//! Which ends a scenario allows each of its pulls: an end is allowed only if the scenario holds what explains it, for a
//! blob or a place of that very pull.

use parapull_engine::{BlobId, Destination, FetchError, LaneError, LayerError, LinkError, Outcome};
use parapull_scenario::registry::{Fault, FaultKind, FaultTimes};
use parapull_scenario::{Awaiting, LocalFault, LocalFaultKind, PullSpec, Scenario};

use crate::mishaps;
use crate::plan::Plan;
use crate::trouble::{
    Trouble, concerns, error_of, hits, is_retried, may_crowd, told_ms, withholds,
};

/// How a pull may end.
#[derive(Debug)]
pub(crate) struct Allowed {
    cancelled: bool,
    /// Failures that some fault can cause.
    errors: Vec<LayerError>,
    /// No way leads to success.
    doomed: bool,
}

impl Allowed {
    pub(crate) fn of(scenario: &Scenario, plan: &Plan, pull: usize) -> Self {
        let spec = &scenario.pulls[pull];
        let may_be_alone = !scenario.mishaps.absences.is_empty()
            || scenario.mishaps.delivery.is_some()
            || spec.awaiting != Awaiting::Together;
        let mut allowed = Self {
            cancelled: spec.cancel.is_some()
                || scenario.shutdown_ms.is_some()
                || may_be_alone && mishaps::outlasts_grace(scenario, pull),
            errors: Vec::new(),
            doomed: false,
        };
        allowed.add_spool(scenario, plan, pull);
        allowed.add_silence(scenario, plan, pull);
        for blob in blobs(scenario, plan, pull) {
            allowed.add_fetches(scenario, plan, blob);
            allowed.add_corrupt(scenario, plan, blob);
            allowed.doomed |= is_doomed(scenario, plan, blob);
        }
        allowed.add_local(scenario, plan, pull);
        allowed
    }

    /// Whether a pull may end so.
    pub(crate) fn includes(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Ready => !self.doomed,
            Outcome::Cancelled => self.cancelled,
            Outcome::Failed { error, .. } => self.errors.contains(&error),
        }
    }

    fn add_spool(&mut self, scenario: &Scenario, plan: &Plan, pull: usize) {
        if plan.config.scheduling.destination != Destination::Spool {
            return;
        }
        let sizes = blobs(scenario, plan, pull);
        let largest = sizes.map(|blob| plan.blob(blob).compressed_bytes).max();
        let spools = std::iter::once(&plan.config.limits).chain(&plan.limit_changes);
        let least = spools.map(|limits| limits.raw().spool_bytes_max).min();
        if largest > least {
            self.errors.push(LayerError::SpoolTooSmall);
            self.doomed |= plan.limit_changes.is_empty() && !anything_is_here(scenario);
        }
    }

    /// Nothing may come for too long only where so much can go wrong.
    fn add_silence(&mut self, scenario: &Scenario, plan: &Plan, pull: usize) {
        // What is shared is asked for on behalf of any pull.
        let of_pull: Vec<BlobId> = blobs(scenario, plan, pull).collect();
        let fits = |fault: &Fault| of_pull.iter().any(|blob| concerns(fault, plan, *blob));
        let trouble = Trouble::of(scenario, plan, fits);
        if trouble.silence_ms() >= plan.config.timing.progress_ms {
            self.errors.push(LayerError::NoProgress);
        }
    }

    fn add_fetches(&mut self, scenario: &Scenario, plan: &Plan, blob: BlobId) {
        let sick = SourceTrouble::of_sick(scenario, plan, blob);
        let mirror = SourceTrouble::of_mirror(scenario, plan);
        let sources = plan.blob(blob).sources;
        // Every source must be lost; which of them is the last one is open.
        if sources == 1 {
            self.fetch(&sick.final_errors);
        } else if !sick.final_errors.is_empty() && !mirror.final_errors.is_empty() {
            self.fetch(&sick.final_errors);
            self.fetch(&mirror.final_errors);
        }
        // Whoever pays for a fetch may have repeated as many requests as a pull may.
        let everything = Trouble::of(scenario, plan, |_| true);
        let crowded = crowdings(scenario, plan);
        let repeats = everything.failures.saturating_add(crowded);
        if repeats >= u64::from(plan.config.timing.retries_max) {
            self.fetch(&sick.retried_errors);
            self.fetch(&mirror.retried_errors);
        }
    }

    /// Wrong bytes twice: in the first life of a blob and in its second.
    fn add_corrupt(&mut self, scenario: &Scenario, plan: &Plan, blob: BlobId) {
        let faults = scenario.faults.faults.iter();
        let corrupt = faults
            .filter(|fault| matches!(fault.kind, FaultKind::CorruptByte { .. }))
            .filter(|fault| concerns(fault, plan, blob))
            .map(|fault| hits(fault.times))
            .fold(0, u32::saturating_add);
        let index = plan.index_of_blob(blob);
        let locally =
            |fault: &LocalFault| fault.kind == LocalFaultKind::LocalCorrupt && is_at(fault, index);
        let local = scenario.local_faults.iter().any(locally);
        // A second life is read from the next source, if nothing has sent anyone there before.
        let mirrored = plan.blob(blob).sources > 1;
        let clean_mirror = mirrored && !local && only_corrupts(scenario, plan, blob);
        if !clean_mirror && (corrupt >= 2 || local && corrupt >= 1) {
            self.errors.push(LayerError::Lane(LaneError::Corrupt));
        }
    }

    fn add_local(&mut self, scenario: &Scenario, plan: &Plan, pull: usize) {
        let linked = scenario.pulls[pull].linked;
        for fault in &scenario.local_faults {
            let mut places = (0..).zip(&plan.pulls[pull]);
            let mut fits = |index: &dyn Fn(u32, parapull_engine::LayerId) -> u32| {
                places.any(|(at, layer)| at >= linked && is_at(fault, index(at, *layer)))
            };
            let error = match fault.kind {
                LocalFaultKind::LaneDisk { .. } if fits(&|_, layer| plan.index_of(layer)) => {
                    LayerError::Lane(LaneError::Disk)
                }
                LocalFaultKind::LaneBadImage { .. } if fits(&|_, layer| plan.index_of(layer)) => {
                    LayerError::Lane(LaneError::BadImage)
                }
                LocalFaultKind::LinkDisk if fits(&|at, _| at) => LayerError::Link(LinkError::Disk),
                _ => continue,
            };
            self.errors.push(error);
        }
    }

    fn fetch(&mut self, errors: &[FetchError]) {
        let errors = errors.iter().map(|error| LayerError::Fetch(*error));
        self.errors.extend(errors);
    }
}

/// How one source can fail a blob.
#[derive(Debug, Default)]
struct SourceTrouble {
    /// Errors with which it may be given up.
    final_errors: Vec<FetchError>,
    /// Errors after which it is asked again.
    retried_errors: Vec<FetchError>,
}

impl SourceTrouble {
    /// The source whose limits and faults the scenario describes.
    fn of_sick(scenario: &Scenario, plan: &Plan, blob: BlobId) -> Self {
        let timing = plan.config.timing;
        let faults = scenario.faults.faults.iter();
        let met: Vec<&Fault> = faults.filter(|fault| concerns(fault, plan, blob)).collect();
        let mut trouble = Self::of_mishaps(scenario);
        if scenario.registry.requests_per_second_max.is_some() {
            trouble.retried_errors.push(FetchError::RateLimited);
        }
        if scenario.registry.connections_max.is_some() {
            trouble.retried_errors.push(FetchError::Stalled);
        }
        let again = met.iter().filter(|fault| is_retried(fault.kind));
        let errors = again.clone().filter_map(|fault| error_of(fault.kind));
        trouble.retried_errors.extend(errors);
        let failures = again
            .map(|fault| hits(fault.times))
            .fold(mishaps::Failures::of(scenario).total(), u32::saturating_add);
        if withholds(scenario) || failures >= timing.attempts_max {
            trouble.final_errors.clone_from(&trouble.retried_errors);
        }
        for fault in met {
            let too_long = told_ms(fault.kind).is_some_and(|ms| ms > timing.retry_after_ms_max);
            if let Some(error) = error_of(fault.kind)
                && (!is_retried(fault.kind) || too_long)
            {
                trouble.final_errors.push(error);
            }
        }
        trouble
    }

    /// A mirror: it is healthy, but its connections are those of the node.
    fn of_mirror(scenario: &Scenario, plan: &Plan) -> Self {
        let mut trouble = Self::of_mishaps(scenario);
        let failures = mishaps::Failures::of(scenario).total();
        if failures >= plan.config.timing.attempts_max {
            trouble.final_errors.clone_from(&trouble.retried_errors);
        }
        trouble
    }

    fn of_mishaps(scenario: &Scenario) -> Self {
        let mishaps = mishaps::Failures::of(scenario);
        let kinds = [
            (mishaps.unconnected, FetchError::Connection),
            (mishaps.stalled, FetchError::Stalled),
        ];
        let retried = kinds.iter().filter(|(count, _)| *count > 0);
        Self {
            final_errors: Vec::new(),
            retried_errors: retried.map(|(_, error)| *error).collect(),
        }
    }
}

/// Requests that may be closed and asked again because they were slower than others: of each piece, as often as it takes
/// until patience has doubled beyond the slowest first byte.
fn crowdings(scenario: &Scenario, plan: &Plan) -> u64 {
    if !may_crowd(scenario, plan) {
        return 0;
    }
    plan.portions_least().saturating_mul(CROWDINGS_MAX)
}

/// The blobs a pull needs, those of layers that are linked before it begins left out.
fn blobs(scenario: &Scenario, plan: &Plan, pull: usize) -> impl Iterator<Item = BlobId> {
    let linked = scenario.pulls[pull].linked as usize;
    let layers = plan.pulls[pull].iter().skip(linked);
    layers.map(|layer| plan.blob_of(*layer))
}

fn is_at(fault: &LocalFault, index: u32) -> bool {
    fault.layer.is_none_or(|layer| layer == index)
}

fn anything_is_here(scenario: &Scenario) -> bool {
    let is_here = |pull: &PullSpec| {
        pull.linked > 0
            || !pull.staged.is_empty()
            || !pull.elsewhere.is_empty()
            || !pull.local.is_empty()
    };
    scenario.pulls.iter().any(is_here)
}

/// Whether nothing but wrong bytes can befall a blob's requests.
fn only_corrupts(scenario: &Scenario, plan: &Plan, blob: BlobId) -> bool {
    let faults = scenario.faults.faults.iter();
    !withholds(scenario)
        && mishaps::Failures::of(scenario).total() == 0
        && faults
            .filter(|fault| concerns(fault, plan, blob))
            .all(|fault| matches!(fault.kind, FaultKind::CorruptByte { .. }))
}

/// Whether a blob that has to be fetched can never be had: its only source answers every request with what is no body,
/// or with wrong bytes.
fn is_doomed(scenario: &Scenario, plan: &Plan, blob: BlobId) -> bool {
    if plan.blob(blob).sources > 1 || anything_is_here(scenario) {
        return false;
    }
    let mut met = scenario
        .faults
        .faults
        .iter()
        .filter(|fault| concerns(fault, plan, blob));
    // The first fault that fits is the one that happens.
    met.next().is_some_and(|fault| {
        fault.times == FaultTimes::Always && fault.offset.is_none() && gives_nothing(fault.kind)
    })
}

const fn gives_nothing(kind: FaultKind) -> bool {
    match kind {
        FaultKind::Status { .. } | FaultKind::WrongContentLength { .. } => true,
        FaultKind::ResetAfter { bytes } | FaultKind::TruncatedAfter { bytes } => bytes == 0,
        FaultKind::StallAfter { bytes, stall_ms } => bytes == 0 && stall_ms.is_none(),
        FaultKind::CorruptByte { .. }
        | FaultKind::Trickle { .. }
        | FaultKind::WholeBodyForRange
        | FaultKind::WrongRange => false,
    }
}

/// A first byte takes at most sixteen times the least patience, which doubles.
const CROWDINGS_MAX: u64 = 6;
