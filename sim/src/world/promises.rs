//! Promises about actions, kept by watching what was said and done before: nothing here asks the engine.

use std::collections::{BTreeMap, BTreeSet};

use parapull_engine::{
    Action, BlobId, ChainId, Destination, FetchError, HostRules, ImageId, Input, Instant,
    LinkError, OpId, Place, SourceId, Tree,
};

use super::{NANOS_PER_SECOND, Violation, World};
use crate::plan::Plan;

/// A place in a blob at a source.
pub(super) type Spot = (BlobId, SourceId, u64);

/// What was said and done.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Where a request failed last: from when on it may be repeated.
    not_before: BTreeMap<Spot, Instant>,
    cancelled: BTreeSet<OpId>,
    /// Blobs one of whose fetches was cancelled while it waited for credit, and which were not dropped since.
    starved: BTreeSet<BlobId>,
    /// Ops whose end was told twice.
    repeated: BTreeSet<OpId>,
    /// Blobs that were opened for the spool and not dropped since.
    stored: BTreeSet<BlobId>,
    /// Drops under way.
    drops: BTreeMap<OpId, BlobId>,
    /// Open fetches by the source they are asked from.
    asked: BTreeMap<OpId, SourceId>,
    /// Hosts that asked to be left alone, until when.
    held: BTreeMap<SourceId, Instant>,
    /// What befell the requests to each host.
    hosts: BTreeMap<SourceId, Asked>,
    /// Links under way, and the chains that are known to be linked.
    links: BTreeMap<OpId, Place>,
    linked: BTreeSet<ChainId>,
    /// Images the engine was told of that are not finished.
    live: BTreeSet<ImageId>,
    /// Lanes that were started and whose end was not told.
    lanes: BTreeSet<OpId>,
    /// When the daemon was told to stop.
    stopped: Option<Instant>,
    /// Blobs whose lanes have read all of them, which is still to be told.
    read: BTreeMap<OpId, BlobId>,
}

/// What befell the requests to one host.
#[derive(Debug, Default)]
struct Asked {
    /// Failures in a row that speak against it, and until when it is avoided for them.
    failures: u32,
    cools_until: Option<Instant>,
    /// Any of them ended early.
    ever_failed: bool,
}

impl Promises {
    /// A request to a host came to a good end, or not; `against` it when the end speaks against the host.
    fn host(&mut self, now: Instant, rules: &HostRules, op: OpId, end: Result<(), bool>) {
        let Some(source) = self.asked.get(&op) else {
            return;
        };
        let host = self.hosts.entry(*source).or_default();
        match end {
            Ok(()) => (host.failures, host.cools_until) = (0, None),
            Err(against) => {
                host.ever_failed = true;
                host.failures += u32::from(against && !self.cancelled.contains(&op));
                if host.failures >= rules.failures_max {
                    let until = now.after_millis(rules.cool_down_ms);
                    host.cools_until = host.cools_until.or(Some(until));
                }
            }
        }
    }

    /// Whether a source should not be asked because it fails, while another one never did.
    fn is_to_be_avoided(&self, now: Instant, source: SourceId, sources: u16) -> bool {
        let host = self.hosts.get(&source);
        let cools = host.is_some_and(|host| host.cools_until.is_some_and(|until| until > now));
        let is_well = |other: &SourceId| {
            let failed = self.hosts.get(other).is_some_and(|host| host.ever_failed);
            !failed && self.held.get(other).is_none_or(|until| *until <= now)
        };
        cools
            && (0..sources)
                .map(SourceId)
                .filter(|other| *other != source)
                .any(|other| is_well(&other))
    }

    fn hear(&mut self, now: Instant, plan: &Plan, input: &Input) {
        let (timing, rules) = (&plan.config.timing, &plan.config.hosts);
        match input {
            Input::RangeFetched { op } => self.host(now, rules, *op, Ok(())),
            Input::OpCancelled { op, .. } => self.host(now, rules, *op, Err(false)),
            Input::RangeFailed { op, error, .. } => {
                let against = matches!(error, FetchError::Server | FetchError::Stalled);
                self.host(now, rules, *op, Err(against));
            }
            _ => {}
        }
        match input {
            Input::BytesDropped { op } => {
                if let Some(blob) = self.drops.remove(op) {
                    self.stored.remove(&blob);
                }
            }
            Input::RangeFetched { op } | Input::OpCancelled { op, .. } => {
                self.asked.remove(op);
            }
            Input::RangeFailed {
                op,
                error,
                retry_after_ms,
                ..
            } => {
                // What is said to a fetch that is being cancelled is not listened to.
                let asked = self
                    .asked
                    .remove(op)
                    .filter(|_| !self.cancelled.contains(op));
                let told = retry_after_ms.filter(|ms| *ms <= timing.retry_after_ms_max);
                if let (Some(source), Some(ms), FetchError::RateLimited) = (asked, told, error) {
                    let until = now.after_millis(ms);
                    let held = self.held.entry(source).or_insert(until);
                    *held = until.max(*held);
                }
            }
            Input::Linked { op } => {
                if let Some(place) = self.links.remove(op) {
                    self.linked.insert(plan.chain_of(place));
                }
            }
            Input::LinkFailed { op, error } => {
                if let Some(place) = self.links.remove(op)
                    && *error == LinkError::SourceGone
                {
                    self.linked.remove(&plan.chain_of(place));
                }
            }
            Input::PullRequested(pull) => {
                self.live.insert(pull.image);
            }
            Input::ShutdownRequested => self.stopped = self.stopped.or(Some(now)),
            _ => {}
        }
    }

    /// A request failed, and the registry may have said when to come back.
    pub(super) fn failed(&mut self, spot: Spot, at: Instant, told_ms: Option<u64>) {
        let until = at.after_millis(told_ms.unwrap_or(0));
        self.not_before.insert(spot, until);
    }

    /// Whether the end of an op may be told twice: once.
    pub(super) fn repeat(&mut self, op: OpId) -> bool {
        self.repeated.insert(op)
    }

    /// A lane has read all of a blob, which will be told.
    pub(super) fn read(&mut self, lane: OpId, blob: BlobId) {
        self.read.insert(lane, blob);
    }

    /// Whether a lane has read all of a blob and the scheduler does not know it yet.
    pub(super) fn is_read(&self, blob: BlobId) -> bool {
        self.read.values().any(|read| *read == blob)
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl World<'_> {
    /// Notes what the engine is told, and that a lane does not outlive the grace of a shutdown.
    pub(super) fn hear(&mut self, input: &Input) -> Result<(), Violation> {
        let (now, timing) = (self.clock(), self.plan.config.timing);
        self.promises.hear(now, &self.plan, input);
        // An end that is told twice is the end of a lane only once.
        let mut ran = false;
        if let Input::LaneFinished { op, .. } = input {
            self.promises.read.remove(op);
            ran = self.promises.lanes.remove(op);
        }
        let over = self
            .promises
            .stopped
            .map(|at| at.after_millis(timing.shutdown_grace_ms));
        if let (Input::LaneFinished { op, .. }, Some(over)) = (input, over)
            && ran
            && now > over
            && !self.promises.cancelled.contains(op)
        {
            return Err(Violation::Correctness(format!(
                "shutdown: a lane ends at {now:?} and was not cancelled at {over:?}: {op:?}"
            )));
        }
        Ok(())
    }

    /// What is linked once is not linked again with the staged tree, as long as an image that has the chain is under way.
    /// A place that has a clone already may use it.
    fn check_link(&mut self, op: OpId, place: Place, tree: Tree) -> Result<(), Violation> {
        let chain = self.plan.chain_of(place);
        self.promises.links.insert(op, place);
        if tree == Tree::Original && self.promises.linked.contains(&chain) {
            return Err(Violation::Correctness(format!(
                "chain: {place:?} is linked with {tree:?}, but its chain is in place"
            )));
        }
        Ok(())
    }

    /// Whether a host wants to be left alone.
    pub(super) fn is_held(&self, source: SourceId) -> bool {
        let until = self.promises.held.get(&source);
        until.is_some_and(|until| *until > self.clock())
    }

    /// A chain that no image under way has is forgotten.
    pub(super) fn forget_chains(&mut self, image: ImageId) {
        self.promises.live.remove(&image);
        let live = self.promises.live.iter();
        let kept: BTreeSet<ChainId> = live
            .flat_map(|image| self.plan.chains[image.0 as usize].iter().copied())
            .collect();
        self.promises.linked.retain(|chain| kept.contains(chain));
    }

    fn check_dropped(&self, tree: Tree) -> Result<(), Violation> {
        let keeps = self.plan.config.timing.staging_ttl_ms > 0;
        if keeps && tree == Tree::Original && self.promises.stopped.is_some() {
            return Err(Violation::Correctness(
                "shutdown: a staged tree is dropped that the next start could use".to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn check_promises(&mut self, action: &Action) -> Result<(), Violation> {
        match *action {
            Action::CancelOp { op } => self.check_cancel(op),
            Action::LinkLayer {
                op, place, tree, ..
            } => self.check_link(op, place, tree),
            Action::DropStaged { tree, .. } => self.check_dropped(tree),
            Action::StartLane { op, .. } => {
                self.promises.lanes.insert(op);
                Ok(())
            }
            Action::FetchRange {
                op,
                blob,
                range,
                source,
                attempt,
                to,
                hedge,
                ..
            } => {
                self.promises.asked.insert(op, source);
                if self.is_held(source) {
                    return Err(Violation::Correctness(format!(
                        "invariant 12 (retries): {source:?} is asked at {:?}, but wants to be left alone",
                        self.clock()
                    )));
                }
                let sources = self.plan.blob(blob).sources;
                if source.0 < sources
                    && self
                        .promises
                        .is_to_be_avoided(self.clock(), source, sources)
                {
                    return Err(Violation::Correctness(format!(
                        "cool-down: {source:?} is asked although it keeps failing and another one never did"
                    )));
                }
                if range.start > 0 && self.promises.starved.remove(&blob) {
                    return Err(Violation::Correctness(format!(
                        "a fetch that waited for credit was taken for stalled: of {blob:?}"
                    )));
                }
                let spot = (blob, source, range.start);
                // A first attempt begins anew: at another source, or for a new life of the blob.
                // A hedge repeats a fetch that has not been told to have failed.
                if !hedge
                    && let Some(until) = self.promises.not_before.remove(&spot)
                    && attempt > 1
                    && until > self.clock()
                {
                    return Err(Violation::Correctness(format!(
                        "invariant 12 (retries): {blob:?} from {} was to be asked for at {until:?}, not at {:?}",
                        range.start,
                        self.clock()
                    )));
                }
                match to {
                    Destination::Spool => self.check_spool(blob),
                    Destination::Window => Ok(()),
                }
            }
            Action::DropBytes { op, blob, range } if range.start == 0 => {
                self.promises.starved.remove(&blob);
                self.promises.drops.insert(op, blob);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_cancel(&mut self, op: OpId) -> Result<(), Violation> {
        if !self.promises.cancelled.insert(op) {
            return Err(Violation::Correctness(format!(
                "an op is cancelled twice: {op:?}"
            )));
        }
        // What it kept may not have been told yet, if it began to wait this very moment.
        let fetch = self.fetches.get(&op);
        if let Some((fetch, since)) = fetch.and_then(|fetch| Some((fetch, fetch.held_since()?)))
            && self.now - since > NANOS_PER_SECOND
            && !self.stands_still()
        {
            self.promises.starved.insert(fetch.blob);
        }
        Ok(())
    }

    /// Whether every fetch waits for credit and every lane for bytes: then a whole read may be closed for what it holds.
    fn stands_still(&self) -> bool {
        let held = self
            .fetches
            .values()
            .all(|fetch| fetch.held_since().is_some());
        held && self.lanes.values().all(|lane| !self.has_bytes(lane))
    }

    /// No blob is stored beyond the spool, unless nothing else is under way.
    fn check_spool(&mut self, opened: BlobId) -> Result<(), Violation> {
        if !self.promises.stored.insert(opened) {
            return Ok(());
        }
        let stored = self.promises.stored.iter();
        let bytes: u64 = stored
            .map(|blob| self.plan.blob(*blob).compressed_bytes)
            .sum();
        let is_alone = self.fetches.is_empty() && self.lanes.is_empty() && self.works.is_empty();
        if bytes > self.record.allowed.spool_bytes && !is_alone {
            return Err(Violation::Correctness(format!(
                "invariant 6 (window): {bytes} bytes are stored, {} are allowed",
                self.record.allowed.spool_bytes
            )));
        }
        Ok(())
    }
}
