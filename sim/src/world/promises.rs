//! Promises about actions, kept by watching what was said and done before: nothing here asks the engine.

use std::collections::{BTreeMap, BTreeSet};

use parapull_engine::{Action, BlobId, Destination, Input, Instant, OpId, SourceId};

use super::{NANOS_PER_SECOND, Violation, World};

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
}

impl Promises {
    pub(super) fn hear(&mut self, input: &Input) {
        if let Input::BytesDropped { op } = input
            && let Some(blob) = self.drops.remove(op)
        {
            self.stored.remove(&blob);
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

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl World<'_> {
    pub(super) fn check_promises(&mut self, action: &Action) -> Result<(), Violation> {
        match *action {
            Action::CancelOp { op } => self.check_cancel(op),
            Action::FetchRange {
                blob,
                range,
                source,
                attempt,
                to,
                ..
            } => {
                if range.start > 0 && self.promises.starved.remove(&blob) {
                    return Err(Violation::Correctness(format!(
                        "a fetch that waited for credit was taken for stalled: of {blob:?}"
                    )));
                }
                let spot = (blob, source, range.start);
                // A first attempt begins anew: at another source, or for a new life of the blob.
                if let Some(until) = self.promises.not_before.remove(&spot)
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
