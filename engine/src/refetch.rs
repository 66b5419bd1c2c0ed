//! Fetches that end badly: backoff and resume, ranges refused, wrong bytes, other sources.

use alloc::vec::Vec;

use crate::blob::{Blob, ChunkState, Mode, Settling};
use crate::engine::Engine;
use crate::error::{FetchError, LayerError};
use crate::id::{BlobId, ByteRange, OpId};
use crate::op::{Fetch, OpKind};
use crate::output::{Action, Event};
use crate::retry::{self, Verdict};
use crate::rng::{self, Purpose};
use crate::sources;
use crate::timers::Deadline;

impl Engine {
    pub(crate) fn on_fetch_failed(
        &mut self,
        id: OpId,
        error: FetchError,
        received: u64,
        retry_after_ms: Option<u64>,
    ) {
        if !self.ops.contains_key(&id) {
            self.close(id);
            return;
        }
        self.keep(id, received);
        let cancelling = self.ops.get(&id).is_some_and(|op| op.cancelling);
        let Some(fetch) = self.close_fetch(id) else {
            return;
        };
        let error = if fetch.stalled {
            FetchError::Stalled
        } else {
            error
        };
        if fetch.crowded {
            self.ask_again(&fetch, id);
        } else if cancelling && !fetch.stalled {
            self.abandon(&fetch, id);
        } else {
            self.note_failure(&fetch, error, retry_after_ms);
            self.judge(&fetch, id, error, retry_after_ms);
        }
        self.settle(fetch.blob);
    }

    /// A cancelled fetch ended: a stalled one is asked for again, any other gives its credit back.
    pub(crate) fn on_fetch_cancelled(&mut self, id: OpId, received: u64) {
        self.keep(id, received);
        let Some(fetch) = self.close_fetch(id) else {
            return;
        };
        if fetch.crowded {
            self.ask_again(&fetch, id);
        } else if fetch.stalled {
            self.note_failure(&fetch, FetchError::Stalled, None);
            self.judge(&fetch, id, FetchError::Stalled, None);
        } else {
            self.abandon(&fetch, id);
        }
        self.settle(fetch.blob);
    }

    /// Decides whether the chunk of a failed fetch is asked for again, and where.
    fn judge(&mut self, fetch: &Fetch, op: OpId, error: FetchError, retry_after_ms: Option<u64>) {
        let Some(chunk) = self.hold_first(fetch, op) else {
            return;
        };
        let Some(blob) = self.blobs.get_mut(&fetch.blob) else {
            return;
        };
        if blob.ending || matches!(blob.mode, Mode::Settling(_)) {
            self.give_back(fetch.blob, chunk);
            return;
        }
        if fetch.host.is_none() {
            return self.lose_local(fetch.blob, chunk);
        }
        let attempt = blob.count_failure(chunk, fetch.source);
        let blob = &self.blobs[&fetch.blob];
        let start = blob.missing(chunk).start;
        let elsewhere = error == FetchError::RateLimited && self.has_other_source(blob);
        let key = [u64::from(fetch.blob.0), start, u64::from(attempt)];
        let draw = rng::keyed(self.config.seed, Purpose::RangeBackoff, key);
        match retry::verdict(&self.config.timing, error, attempt, retry_after_ms, draw) {
            Verdict::After { .. } if self.has_retried_enough(fetch) => {
                let layer = blob.layer;
                self.give_back(fetch.blob, chunk);
                return self.fail_layer(layer, LayerError::Fetch(error));
            }
            Verdict::After { .. } if elsewhere => self.back_off(fetch.blob, chunk, 0, false),
            Verdict::After { ms, told } => self.back_off(fetch.blob, chunk, ms, told),
            Verdict::Degrade => {
                self.give_back(fetch.blob, chunk);
                self.note_refusal(fetch.host);
                self.settle_whole(fetch.blob, None);
                return;
            }
            Verdict::GiveUp => return self.next_source(fetch, chunk, error),
        }
        if let Some(image) = self.images.get_mut(&fetch.image.0) {
            image.stats.retries += 1;
        }
        self.tell(Event::Retrying {
            blob: fetch.blob,
            start,
            attempt: attempt + 1,
        });
    }

    /// Keeps the charge of the first unfinished chunk of a closed fetch; a whole read gives the later ones back.
    fn hold_first(&mut self, fetch: &Fetch, op: OpId) -> Option<u32> {
        let blob = self.blobs.get(&fetch.blob)?;
        let mine = |index: &u32| blob.chunk(*index).state == ChunkState::InFlight(op);
        let first = (fetch.chunk..blob.next).find(mine)?;
        let later: Vec<_> = match blob.mode {
            Mode::Whole(_) => (first + 1..blob.next).filter(mine).collect(),
            Mode::Ranged | Mode::Settling(_) => Vec::new(),
        };
        let shrunk = !later.is_empty();
        for index in later {
            self.give_back(fetch.blob, index);
        }
        if shrunk {
            self.blobs.get_mut(&fetch.blob)?.next = first + 1;
            // What is to be asked again may be larger than limits are by now.
            self.recut_due = true;
        }
        Some(first)
    }

    /// Returns the charge of what is missing of a chunk; what is present stays charged.
    fn give_back(&mut self, id: BlobId, chunk: u32) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let missing = blob.missing(chunk).len();
        blob.chunk_mut(chunk).state = ChunkState::Idle;
        blob.due.remove(&chunk);
        self.uncharge(id, missing);
    }

    /// The chunks of a fetch that was cancelled on purpose give back what they did not get.
    fn abandon(&mut self, fetch: &Fetch, op: OpId) {
        let Some(blob) = self.blobs.get(&fetch.blob) else {
            return;
        };
        let mine: Vec<_> = (fetch.chunk..blob.next)
            .filter(|index| blob.chunk(*index).state == ChunkState::InFlight(op))
            .collect();
        for index in mine {
            if mutant!(CreditLeak) {
                continue;
            }
            self.give_back(fetch.blob, index);
        }
    }

    fn back_off(&mut self, id: BlobId, chunk: u32, ms: u64, told: bool) {
        let until = self.now.after_millis(ms);
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        if ms == 0 {
            blob.backed_off_at = Some(self.now);
            blob.chunk_mut(chunk).state = ChunkState::Due;
            blob.due.insert(chunk);
            return;
        }
        blob.chunk_mut(chunk).state = ChunkState::Backoff { until, told };
        self.timers.start(
            until,
            Deadline::Retry {
                blob: id,
                chunk,
                told,
            },
        );
    }

    pub(crate) fn on_backoff_over(&mut self, id: BlobId, chunk: u32, told: bool) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        if !told {
            blob.backed_off_at = Some(self.now);
        }
        blob.chunk_mut(chunk).state = ChunkState::Due;
        if mutant!(ReceivedForgotten) {
            blob.chunk_mut(chunk).received = 0;
        }
        blob.due.insert(chunk);
    }

    /// Attempts are used up, or useless: the next source is tried from the byte reached, or the layer fails.
    ///
    /// Other fetches of the blob may still fail at the source it has left; that says nothing about the new one.
    fn next_source(&mut self, fetch: &Fetch, chunk: u32, error: FetchError) {
        let id = fetch.blob;
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.lost.insert(fetch.source);
        if !mutant!(MirrorsForgotten) && blob.lost.len() < blob.hosts.len() {
            blob.chunk_mut(chunk).state = ChunkState::Due;
            blob.due.insert(chunk);
            return;
        }
        let layer = blob.layer;
        self.give_back(id, chunk);
        self.fail_layer(layer, LayerError::Fetch(error));
    }

    /// A fetch that was one connection too many is asked for again as soon as its host, or another one, may be asked.
    fn ask_again(&mut self, fetch: &Fetch, op: OpId) {
        let Some(chunk) = self.hold_first(fetch, op) else {
            return;
        };
        let Some(blob) = self.blobs.get_mut(&fetch.blob) else {
            return;
        };
        if blob.ending || matches!(blob.mode, Mode::Settling(_)) {
            return self.give_back(fetch.blob, chunk);
        }
        if let Some(image) = self.images.get_mut(&fetch.image.0) {
            image.stats.retries += 1;
        }
        self.back_off(fetch.blob, chunk, 0, false);
    }

    /// The local store does not have what it was said to have: the rest comes from the hosts.
    fn lose_local(&mut self, id: BlobId, chunk: u32) {
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.local.clear();
        }
        self.back_off(id, chunk, 0, false);
    }

    /// Whether the pull that pays for a fetch has repeated as many requests as one may.
    fn has_retried_enough(&self, fetch: &Fetch) -> bool {
        let image = self.images.get(&fetch.image.0);
        image.is_some_and(|image| image.stats.retries >= self.config.timing.retries_max.into())
    }

    /// Whether some source may be asked that has not asked to be left alone.
    fn has_other_source(&self, blob: &Blob) -> bool {
        blob.sources().any(|source| {
            let host = self.hosts.get(&blob.host(source));
            host.is_none_or(|host| !host.is_held(self.now))
        })
    }

    /// The registry sends the whole blob instead of a range: one stream from here on, if it can be kept open.
    pub(crate) fn on_refused(&mut self, id: OpId) {
        let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            self.stale += 1;
            return;
        };
        let blob_id = fetch.blob;
        // Its credit came back with the refusal.
        fetch.granted = fetch.kept;
        if let Some((at, _)) = fetch.stall.take() {
            self.timers.stop(at, Deadline::Stall(id));
        }
        let (chunk, host, kept) = (fetch.chunk, fetch.host, fetch.kept);
        self.unwatch_pace(id);
        if self.drop_refused_hedge(id) {
            return;
        }
        if !self.leave_race(id, kept) {
            self.give_back(blob_id, chunk);
        }
        let Some(blob) = self.blobs.get(&blob_id) else {
            return;
        };
        if blob.ending || blob.mode != Mode::Ranged {
            self.cancel(id);
            return;
        }
        let keep = (!self.ops[&id].cancelling).then_some(id);
        self.note_refusal(host);
        self.settle_whole(blob_id, keep);
        self.settle(blob_id);
    }

    /// Turns a ranged blob into one read whole, after its other fetches are closed.
    fn settle_whole(&mut self, id: BlobId, keep: Option<OpId>) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        if blob.mode != Mode::Ranged {
            return;
        }
        blob.mode = Mode::Settling(Settling::Refused(keep));
        self.stop_chunks(id, keep);
        self.tell(Event::Degraded { blob: id });
    }

    /// Its lane found the bytes wrong: they are thrown away and it is read whole once more, from the next source.
    pub(crate) fn begin_life(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.life += 1;
        blob.first_source = sources::after_wrong_bytes(blob);
        blob.local.clear();
        blob.mode = Mode::Settling(Settling::Corrupt);
        let wasted = blob.released;
        self.stop_chunks(id, None);
        self.tell(Event::NewLife { blob: id });
        self.waste(id, wasted);
        self.settle(id);
    }

    /// Counts bytes that have to be fetched again.
    fn waste(&mut self, id: BlobId, bytes: u64) {
        let Some(blob) = self.blobs.get(&id) else {
            return;
        };
        let payer = self.layers[&blob.layer]
            .wanted
            .first()
            .map(|place| place.image);
        if let Some(image) = payer.and_then(|image| self.images.get_mut(&image)) {
            image.stats.bytes_retried += bytes;
        }
    }

    /// Cancels a blob's fetches but one, and forgets its waiting chunks.
    pub(crate) fn stop_chunks(&mut self, id: BlobId, keep: Option<OpId>) {
        let Some(blob) = self.blobs.get(&id) else {
            return;
        };
        let open: Vec<_> = blob
            .open
            .iter()
            .copied()
            .filter(|op| Some(*op) != keep)
            .collect();
        let waiting: Vec<_> = (blob.frontier..blob.next)
            .filter(|index| {
                matches!(
                    blob.chunk(*index).state,
                    ChunkState::Backoff { .. } | ChunkState::Due
                )
            })
            .collect();
        for chunk in waiting {
            if let ChunkState::Backoff { until, told } = self.blobs[&id].chunk(chunk).state {
                self.timers.stop(
                    until,
                    Deadline::Retry {
                        blob: id,
                        chunk,
                        told,
                    },
                );
            }
            self.give_back(id, chunk);
        }
        for op in open {
            self.cancel(op);
        }
    }

    /// Goes on with a blob whose plan changes or that ends, as soon as its fetches are closed.
    pub(crate) fn settle(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get(&id) else {
            return;
        };
        if blob.ending || blob.consumed {
            self.end_blob(id);
            return;
        }
        let Mode::Settling(settling) = blob.mode else {
            return;
        };
        let keep = match settling {
            Settling::Refused(keep) => keep,
            Settling::Corrupt => None,
        };
        let others_open = blob.open.iter().any(|op| Some(*op) != keep);
        if others_open || blob.dropping.is_some() {
            return;
        }
        let (from, bytes) = match settling {
            Settling::Corrupt => (0, blob.unread_bytes()),
            Settling::Refused(_) if blob.is_complete() => (blob.size, 0),
            Settling::Refused(_) => (blob.range(blob.frontier).end, blob.scattered_bytes()),
        };
        if bytes == 0 && settling != Settling::Corrupt {
            self.settled(id, settling);
            return;
        }
        let range = ByteRange::new(from, blob.size);
        let op = self.open(OpKind::DropBytes {
            blob: id,
            from,
            bytes,
        });
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.dropping = Some(op);
        }
        self.act(Action::DropBytes {
            op,
            blob: id,
            range,
        });
    }

    pub(crate) fn on_bytes_dropped(&mut self, id: OpId) {
        let Some(op) = self.close(id) else { return };
        let OpKind::DropBytes {
            blob: blob_id,
            from,
            bytes,
        } = op.kind
        else {
            return;
        };
        let Some(blob) = self.blobs.get_mut(&blob_id) else {
            return;
        };
        blob.dropping = None;
        let everything = from == 0;
        if blob.ending || blob.consumed {
            if everything {
                self.forget_blob(blob_id);
            } else {
                // Look-ahead was dropped when the end came; the rest is still there.
                self.end_blob(blob_id);
            }
            return;
        }
        let Mode::Settling(settling) = blob.mode else {
            return;
        };
        match settling {
            Settling::Refused(_) => {
                self.uncharge(blob_id, bytes);
                self.waste(blob_id, bytes);
            }
            Settling::Corrupt if everything => {
                self.waste(blob_id, bytes);
                self.uncharge_all(blob_id);
            }
            // Look-ahead was dropped when the bytes turned out wrong; the rest goes too.
            Settling::Corrupt => return self.settle(blob_id),
        }
        self.settled(blob_id, settling);
    }

    /// The old plan is gone; reads on whole.
    fn settled(&mut self, id: BlobId, settling: Settling) {
        let plan = self.plan(true);
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        match settling {
            Settling::Corrupt => blob.replan(plan),
            Settling::Refused(keep) => {
                blob.forget_scattered();
                self.recut_due = true;
                blob.mode = Mode::Whole(keep);
                if let Some(op) = keep {
                    self.aim(id, op);
                }
            }
        }
    }

    /// Points a kept fetch at the frontier, from where it goes on as the whole read; one that would wait for a lane
    /// while it holds its connection is closed instead.
    fn aim(&mut self, id: BlobId, op: OpId) {
        let blob = &self.blobs[&id];
        if blob.is_complete() {
            // A hedge brought the rest before it could be cancelled.
            return self.cancel(op);
        }
        let (frontier, base) = (blob.frontier, blob.chunk(blob.frontier).received);
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&op).map(|op| &mut op.kind) {
            fetch.chunk = frontier;
            fetch.base = base;
            fetch.before = fetch.kept;
        }
        if !blob.laned && !self.whole_fits(blob) {
            if let Some(blob) = self.blobs.get_mut(&id) {
                blob.mode = Mode::Whole(None);
            }
            self.cancel(op);
        }
        self.grant_laneless(id);
    }
}
