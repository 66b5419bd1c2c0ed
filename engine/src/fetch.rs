//! Fetching: which blob is read next, on whose permit, with how much credit.
//!
//! Every byte is charged to the window (or spool) before it is asked for (see [`crate::room`]), and keeps its charge until
//! its lane releases it. What becomes of a fetch that ends badly stands in [`crate::refetch`].

use crate::blob::{Blob, ChunkState, Mode, Settling};
use crate::engine::Engine;
use crate::id::{BlobId, ByteRange, ImageId, OpId, SourceId, SpanId};
use crate::op::{Fetch, OpKind};
use crate::output::{Action, FetchMode};
use crate::snapshot::HoldReason;
use crate::time::Instant;
use crate::timers::Deadline;

/// The next thing to do for a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask again for a chunk whose backoff is over.
    Repeat(u32),
    /// Ask for the next chunk, or open the whole read with its first slice.
    Begin(u32),
    /// Give the open whole read its next slice.
    Grant(OpId, u32),
}

impl Engine {
    pub(crate) fn admit_fetches(&mut self) {
        self.recut();
        while let Some((blob, step)) = self.next_step() {
            match step {
                Step::Repeat(chunk) => self.fetch(blob, chunk),
                Step::Begin(chunk) => {
                    self.charge(blob, chunk);
                    self.charge_turn(blob, chunk);
                    self.fetch(blob, chunk);
                }
                Step::Grant(op, chunk) => {
                    self.note_wait_over(blob);
                    self.charge(blob, chunk);
                    self.grant(blob, op, chunk);
                    continue;
                }
            }
            self.grant_laneless(blob);
            if mutant!(WorkLeftUndone) {
                return;
            }
        }
    }

    /// Charges the image whose turn it is for a chunk that is asked for the first time; asking again costs it nothing.
    fn charge_turn(&mut self, blob: BlobId, chunk: u32) {
        if let Some(turn) = self.turn {
            self.bytes
                .charge(turn, self.blobs[&blob].missing(chunk).len());
        }
    }

    /// Grants an open whole read without a lane all of its credit at once, so that it never holds a connection while it
    /// waits for a lane; [`Self::room`] has seen to it that it fits.
    pub(crate) fn grant_laneless(&mut self, id: BlobId) {
        while let Some(blob) = self.blobs.get(&id) {
            let Mode::Whole(Some(op)) = blob.mode else {
                return;
            };
            if blob.laned || !blob.has_next() {
                return;
            }
            let chunk = blob.next;
            self.charge(id, chunk);
            self.grant(id, op, chunk);
        }
    }

    /// What may be done for a blob now, or what holds it.
    pub(crate) fn step(&self, blob: &Blob) -> Result<Step, HoldReason> {
        if blob.ending || blob.consumed || blob.dropping.is_some() {
            return Err(HoldReason::Nothing);
        }
        let open_whole = match blob.mode {
            Mode::Settling(_) => return Err(HoldReason::Settling),
            Mode::Whole(Some(op)) if self.ops[&op].cancelling => return Err(HoldReason::Settling),
            Mode::Whole(Some(op)) => Some(op),
            Mode::Whole(None) | Mode::Ranged => None,
        };
        if let (None, Some(&chunk)) = (open_whole, blob.due.first()) {
            if blob.mode != Mode::Ranged && !blob.laned && !self.whole_fits(blob) {
                return Err(HoldReason::Lane);
            }
            self.permits_free(blob, chunk)?;
            return Ok(Step::Repeat(chunk));
        }
        if matches!(blob.mode, Mode::Whole(None)) && blob.next > blob.frontier {
            // The whole read failed and waits out its backoff.
            return Err(HoldReason::Backoff);
        }
        if !blob.has_next() {
            return Err(HoldReason::Nothing);
        }
        self.room(blob)?;
        match open_whole {
            Some(op) => Ok(Step::Grant(op, blob.next)),
            None => {
                self.permits_free(blob, blob.next)?;
                if mutant!(ChunkGap) && blob.next > 0 && blob.next + 1 < blob.chunk_count() {
                    return Ok(Step::Begin(blob.next + 1));
                }
                Ok(Step::Begin(blob.next))
            }
        }
    }

    /// What holds a blob back, for people to see.
    pub(crate) fn fetch_hold(&self, blob: &Blob) -> HoldReason {
        let hold = self.step(blob).err().unwrap_or(HoldReason::Nothing);
        let waits = |chunk: u32| match blob.chunk(chunk).state {
            ChunkState::Backoff { told: true, .. } => Some(HoldReason::RetryAfter),
            ChunkState::Backoff { told: false, .. } => Some(HoldReason::Backoff),
            _ => None,
        };
        match hold {
            HoldReason::Nothing => (blob.frontier..blob.next).find_map(waits).unwrap_or(hold),
            _ => hold,
        }
    }

    pub(crate) fn permits_free(&self, blob: &Blob, chunk: u32) -> Result<(), HoldReason> {
        if self.budgets.fetches.free() == 0 {
            return Err(HoldReason::Fetches);
        }
        self.payer(blob).ok_or(HoldReason::FetchesPerImage)?;
        self.source_for(blob, chunk).map(|_| ())
    }

    /// The image that pays for a fetch: the one whose turn it is, if it has a permit.
    fn payer(&self, blob: &Blob) -> Option<ImageId> {
        self.layers[&blob.layer]
            .wanted
            .iter()
            .map(|place| place.image)
            .filter(|image| self.turn.is_none_or(|turn| turn == *image))
            .find(|image| self.images[image].fetches.free() > 0)
    }

    /// Asks for a charged chunk, or opens a whole read that begins with it.
    fn fetch(&mut self, id: BlobId, chunk: u32) {
        self.note_wait_over(id);
        let Some(blob) = self.blobs.get(&id) else {
            return;
        };
        let source = self.source_for(blob, chunk).unwrap_or(blob.source);
        let (missing, ranged) = (blob.missing(chunk), blob.mode == Mode::Ranged);
        let Some(op) = self.open_fetch(id, chunk, source) else {
            return;
        };
        if ranged && source != SourceId::LOCAL {
            self.watch_pace(op);
        }
        self.issue(id, chunk, op, missing, source);
    }

    /// Opens a fetch of what is missing of a chunk, on the permits of an image that wants it.
    pub(crate) fn open_fetch(&mut self, id: BlobId, chunk: u32, source: SourceId) -> Option<OpId> {
        let stall_at = self.now.after_millis(self.config.timing.stall_ms);
        let payer = self.payer(self.blobs.get(&id)?)?;
        let total = self.budgets.fetches.try_take(1)?;
        let permit = self.images.get_mut(&payer);
        let Some(permit) = permit.and_then(|image| image.fetches.try_take(1)) else {
            self.budgets.fetches.put(total);
            return None;
        };
        let blob = &self.blobs[&id];
        let host = (source != SourceId::LOCAL).then(|| blob.host(source));
        let (missing, crowdings) = (blob.missing(chunk), blob.chunk(chunk).crowdings);
        if let Some(host) = host {
            let now = self.now;
            self.host_mut(host).asked(now);
            if let Some(image) = self.images.get_mut(&payer) {
                image.stats.requests += 1;
            }
        }
        let blob = &self.blobs[&id];
        let kind = OpKind::Fetch(Fetch {
            blob: id,
            source,
            host,
            asked_at: self.now,
            spoke: false,
            first: None,
            silence_at: None,
            crowdings,
            crowded: false,
            chunk,
            base: blob.chunk(chunk).received,
            before: 0,
            kept: 0,
            discarded: 0,
            granted: missing.len(),
            total,
            image: (payer, permit),
            stall: Some((stall_at, 0)),
            stalled: false,
        });
        let op = self.open(kind);
        self.timers.start(stall_at, Deadline::Stall(op));
        if host.is_some() {
            let at = self.now.after_millis(self.config.hosts.silence_ms.max(1));
            self.watch_silence(op, at);
        }
        Some(op)
    }

    fn issue(&mut self, id: BlobId, chunk: u32, op: OpId, missing: ByteRange, source: SourceId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.source = source;
        blob.due.remove(&chunk);
        blob.open.push(op);
        let entry = blob.chunk_mut(chunk);
        entry.state = ChunkState::InFlight(op);
        let attempt = blob.failed_attempts(chunk, source) + 1;
        let (mode, range) = match blob.mode {
            Mode::Whole(_) => {
                blob.mode = Mode::Whole(Some(op));
                (FetchMode::Whole, ByteRange::new(missing.start, blob.size))
            }
            Mode::Ranged | Mode::Settling(_) => (FetchMode::Ranged, missing),
        };
        let action = Action::FetchRange {
            op,
            blob: id,
            span: SpanId(0),
            range,
            mode,
            source,
            attempt,
            credit: missing.len(),
            to: blob.destination,
            hedge: false,
        };
        self.act(action);
    }

    fn grant(&mut self, id: BlobId, op: OpId, chunk: u32) {
        self.charge_turn(id, chunk);
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let bytes = blob.missing(chunk).len();
        let entry = blob.chunk_mut(chunk);
        entry.state = ChunkState::InFlight(op);
        let stall_at = self.now.after_millis(self.config.timing.stall_ms);
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&op).map(|op| &mut op.kind) {
            fetch.granted += bytes;
            if fetch.stall.is_none() {
                fetch.stall = Some((stall_at, fetch.kept + fetch.discarded));
                self.timers.start(stall_at, Deadline::Stall(op));
            }
        }
        self.act(Action::GrantCredit { op, bytes });
    }

    pub(crate) fn on_progress(&mut self, op: OpId, bytes: u64, discarded: u64) {
        assert!(
            op < self.next_op(),
            "invariant 5 (ops): {op:?} was never issued"
        );
        self.keep(op, bytes);
        let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&op).map(|op| &mut op.kind) else {
            return;
        };
        let (new, blob) = (discarded > fetch.discarded, fetch.blob);
        fetch.discarded = fetch.discarded.max(discarded);
        if new {
            self.progressed(blob);
            self.note_bytes(op);
        }
    }

    /// Notes that a fetch has kept `bytes` in all: they fill its chunk, in a whole read the chunks that follow.
    pub(crate) fn keep(&mut self, id: OpId, bytes: u64) {
        let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            self.stale += 1;
            return;
        };
        assert!(
            bytes <= fetch.granted,
            "invariant 6 (window): {id:?} kept more than its credit"
        );
        let (new, payer) = (bytes.saturating_sub(fetch.kept), fetch.image.0);
        fetch.kept += new;
        // Stall time runs only while there is unused credit.
        let starved = fetch.kept == fetch.granted && !mutant!(StallWithoutCredit);
        let stall = if starved { fetch.stall.take() } else { None };
        let from_host = fetch.host.is_some();
        let (blob_id, mut chunk, mut base, mut before) =
            (fetch.blob, fetch.chunk, fetch.base, fetch.before);
        let kept = fetch.kept;
        if let Some((at, _)) = stall {
            self.timers.stop(at, Deadline::Stall(id));
        }
        if new > 0 {
            self.count(id, payer, new, from_host);
            self.progressed(blob_id);
            self.note_bytes(id);
        }
        let Some(blob) = self.blobs.get_unranked_mut(&blob_id) else {
            return;
        };
        loop {
            let capacity = blob.range(chunk).len() - base;
            let filled = (kept - before).min(capacity);
            if filled > 0 {
                blob.receive(chunk, base + filled);
            }
            if filled < capacity || before + filled == kept {
                break;
            }
            // Only a whole read gets here: the next bytes it keeps are the next chunk's.
            before += filled;
            chunk += 1;
            base = 0;
        }
        let is_present = blob.is_present();
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) {
            (fetch.chunk, fetch.base, fetch.before) = (chunk, base, before);
        }
        self.decide_race(id);
        if is_present {
            self.complete(blob_id);
        }
    }

    /// Counts the bytes that a fetch just told of for the image that pays for it.
    fn count(&mut self, id: OpId, payer: ImageId, new: u64, from_host: bool) {
        let twice = self.count_twice(id, new);
        let Some(image) = self.images.get_mut(&payer) else {
            return;
        };
        let once = if mutant!(HedgeCountedTwice) {
            new
        } else {
            new - twice
        };
        image.stats.bytes_hedged += twice;
        if from_host {
            image.stats.bytes_fetched += once;
            self.races.allowance.earn(once);
        } else {
            image.stats.bytes_local += once;
        }
    }

    pub(crate) fn complete_if_present(&mut self, id: BlobId) {
        if self.blobs.get(&id).is_some_and(Blob::is_present) {
            self.complete(id);
        }
    }

    pub(crate) fn on_fetched(&mut self, id: OpId) {
        let Some(OpKind::Fetch(fetch)) = self.ops.get(&id).map(|op| &op.kind) else {
            self.close(id);
            return;
        };
        let (blob, granted) = (fetch.blob, fetch.granted);
        self.keep(id, granted);
        let ranged = self
            .blobs
            .get(&blob)
            .is_some_and(|blob| blob.mode == Mode::Ranged);
        if let Some(fetch) = self.close_fetch(id) {
            self.note_success(&fetch, ranged);
        }
        self.settle(blob);
    }

    /// Closes a fetch and returns its permits.
    pub(crate) fn close_fetch(&mut self, id: OpId) -> Option<Fetch> {
        let OpKind::Fetch(mut fetch) = self.close(id)?.kind else {
            return None;
        };
        if let Some((at, _)) = fetch.stall.take() {
            self.timers.stop(at, Deadline::Stall(id));
        }
        if let Some(at) = fetch.silence_at.take() {
            self.timers.stop(at, Deadline::Silence(id));
        }
        self.unwatch_pace(id);
        self.leave_race(id, fetch.kept);
        if let Some(host) = fetch.host {
            self.host_mut(host).open -= 1;
        }
        self.budgets.fetches.put(core::mem::replace(
            &mut fetch.total,
            crate::budget::Permit::none(),
        ));
        let permit = core::mem::replace(&mut fetch.image.1, crate::budget::Permit::none());
        if let Some(image) = self.images.get_mut(&fetch.image.0)
            && !mutant!(PermitLeak)
        {
            image.fetches.put(permit);
        }
        if let Some(blob) = self.blobs.get_unranked_mut(&fetch.blob) {
            blob.open.remove(&id);
            if blob.open.is_empty() {
                self.holds.touched.push(blob.layer);
            }
            if blob.mode == Mode::Whole(Some(id)) {
                blob.mode = Mode::Whole(None);
                self.blobs.touch(fetch.blob);
            } else if blob.mode == Mode::Settling(Settling::Refused(Some(id))) {
                blob.mode = Mode::Settling(Settling::Refused(None));
            }
        }
        Some(fetch)
    }

    /// Looks whether a fetch has kept enough since the last look; stall time runs only while it has credit.
    pub(crate) fn on_stall_check(&mut self, id: OpId) {
        let next = self.now.after_millis(self.config.timing.stall_ms);
        let bytes_min = self.config.timing.stall_bytes_min;
        let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            return;
        };
        let Some((_, read_before)) = fetch.stall.take() else {
            return;
        };
        if fetch.kept == fetch.granted && !mutant!(StallWithoutCredit) {
            return;
        }
        if fetch.kept + fetch.discarded - read_before >= bytes_min {
            self.watch(id, next);
            return;
        }
        if let Some(at) = self.first_byte_due(id) {
            return self.watch(id, at);
        }
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) {
            fetch.stalled = true;
        }
        self.cancel(id);
    }

    fn watch(&mut self, id: OpId, at: Instant) {
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) {
            fetch.stall = Some((at, fetch.kept + fetch.discarded));
            self.timers.start(at, Deadline::Stall(id));
        }
    }
}
