//! Hedges: when the rest of a range is asked for a second time, and where.
//!
//! A range is hedged when somebody waits for it and it is much slower than ranges of its host usually are
//! ([`crate::pace`]). A hedge takes a permit and a connection like any fetch, but no credit: what it brings is charged
//! already. What may come twice is bounded ([`crate::allowance`]); who brings what is counted in [`crate::race`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::blob::{Blob, ChunkState, Mode};
use crate::engine::Engine;
use crate::id::{BlobId, HostId, OpId, SourceId, SpanId};
use crate::op::OpKind;
use crate::output::{Action, Destination, FetchMode};
use crate::time::Instant;
use crate::timers::Deadline;

/// Fetches that may come to be hedged. Each is hedged once at most.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// When each becomes slow, if that is known and to come.
    at: BTreeMap<OpId, Option<Instant>>,
    /// Those that are.
    slow: BTreeSet<OpId>,
}

/// What a hedge is for, and where it would ask.
struct Hedge {
    blob: BlobId,
    chunk: u32,
    source: SourceId,
}

impl Engine {
    /// Begins to watch a ranged fetch from a host.
    pub(crate) fn watch_pace(&mut self, id: OpId) {
        if self.config.hedging.bytes_permille > 0 {
            self.watched.at.insert(id, None);
            self.look_at_pace(id);
        }
    }

    /// A fetch is closed, or hedged.
    pub(crate) fn unwatch_pace(&mut self, id: OpId) {
        if let Some(Some(at)) = self.watched.at.remove(&id) {
            self.timers.stop(at, Deadline::Hedge(id));
        }
        self.watched.slow.remove(&id);
    }

    /// The time has come at which a fetch is slow, unless it has got further since.
    pub(crate) fn on_hedge_due(&mut self, id: OpId) {
        if let Some(at) = self.watched.at.get_mut(&id) {
            *at = None;
            self.look_at_pace(id);
        }
    }

    /// So much was seen of a host that its slow fetches can be told.
    pub(crate) fn on_pace_known(&mut self, host: HostId) {
        let is_at = |id: &OpId| matches!(self.ops.get(id).map(|op| &op.kind), Some(OpKind::Fetch(fetch)) if fetch.host == Some(host));
        let unjudged = self.watched.at.iter().filter(|(_, at)| at.is_none());
        let ids: Vec<OpId> = unjudged.map(|(id, _)| *id).filter(is_at).collect();
        for id in ids {
            self.look_at_pace(id);
        }
    }

    /// Notes that a fetch is slow, or when it will be.
    fn look_at_pace(&mut self, id: OpId) {
        self.watched.slow.remove(&id);
        match self.slow_at(id) {
            Some(at) if at > self.now => {
                self.watched.at.insert(id, Some(at));
                self.timers.start(at, Deadline::Hedge(id));
            }
            Some(_) => {
                self.watched.slow.insert(id);
            }
            None => {}
        }
    }

    /// From when on a fetch is slow, if it gets no further until then; nothing while its host's pace is not known.
    ///
    /// One that has sent something is slow when it has taken a multiple of what its range usually takes, and would still
    /// take a multiple of what the rest would take anew.
    fn slow_at(&self, id: OpId) -> Option<Instant> {
        let OpKind::Fetch(fetch) = &self.ops.get(&id)?.kind else {
            return None;
        };
        let rules = &self.config.hedging;
        let pace = &self.hosts.get(&fetch.host?)?.pace;
        let missing = self.blobs.get(&fetch.blob)?.missing(fetch.chunk).len();
        if missing == 0 {
            return None;
        }
        let usual = match fetch.spoke {
            true => pace.range_nanos(fetch.granted)?,
            false => pace.first_byte_nanos()?,
        };
        let least = rules.slow_ms_min.saturating_mul(NANOS_PER_MILLI);
        let patience = usual.saturating_mul(rules.slow_times.into()).max(least);
        let anew = u128::from(pace.range_nanos(missing)?.saturating_mul(GAIN_TIMES_MIN));
        let worth = anew * u128::from(fetch.kept) / u128::from(missing);
        let worth = u64::try_from(worth).unwrap_or(u64::MAX);
        Some(fetch.asked_at + patience.max(worth).max(1))
    }

    /// Hedges slow ranges that lanes wait for, before anything that is less urgent may take the permits.
    pub(crate) fn admit_urgent_hedges(&mut self) {
        if self.may_hedge() && !self.has_urgent_steps() {
            self.hedge_where(Self::is_starving);
        }
    }

    /// Hedges slow ranges with the permits that nobody else can use.
    pub(crate) fn admit_hedges(&mut self) {
        if self.may_hedge() {
            self.hedge_where(|engine, blob, chunk| {
                engine.is_starving(blob, chunk) || engine.is_last(blob)
            });
        }
    }

    fn may_hedge(&self) -> bool {
        !self.watched.slow.is_empty()
            && self.budgets.fetches.free() > 0
            && !self.is_shutting_down()
            && self.races.open() < self.config.hedging.hedges_max.into()
    }

    fn hedge_where(&mut self, is_waited_for: impl Fn(&Self, &Blob, u32) -> bool) {
        let slow: Vec<OpId> = self.watched.slow.iter().copied().collect();
        for id in slow {
            if !self.may_hedge() {
                return;
            }
            if self.slow_at(id).is_none_or(|at| at > self.now) {
                self.look_at_pace(id);
            } else if let Some(hedge) = self.hedge_of(id, &is_waited_for) {
                self.hedge(id, &hedge);
            }
        }
    }

    /// The hedge a slow fetch may have now.
    fn hedge_of(
        &self,
        id: OpId,
        is_waited_for: &impl Fn(&Self, &Blob, u32) -> bool,
    ) -> Option<Hedge> {
        let op = self.ops.get(&id)?;
        let OpKind::Fetch(fetch) = &op.kind else {
            return None;
        };
        let blob = self.blobs.get(&fetch.blob)?;
        let is_ours = blob.chunk(fetch.chunk).state == ChunkState::InFlight(id);
        let goes_on = blob.mode == Mode::Ranged && !blob.ending && !blob.consumed;
        if op.cancelling || !is_ours || !goes_on || !is_waited_for(self, blob, fetch.chunk) {
            return None;
        }
        self.races
            .allowance
            .covers(blob.missing(fetch.chunk).len())
            .then_some(())?;
        let source = self.hedge_source(blob, fetch.source)?;
        Some(Hedge {
            blob: fetch.blob,
            chunk: fetch.chunk,
            source,
        })
    }

    /// The next source that may be asked now, if there is one; else the same over another connection.
    fn hedge_source(&self, blob: &Blob, slow: SourceId) -> Option<SourceId> {
        let may_ask = |source: &SourceId| {
            self.hosts.get(&blob.host(*source)).is_none_or(|host| {
                host.may_ask(self.now).is_ok()
                    && !host.is_avoided(self.now)
                    && !host.refuses_ranges(self.now)
            })
        };
        let others = blob.sources().filter(|source| *source != slow);
        let same = blob.sources().filter(|source| *source == slow);
        others.chain(same).find(may_ask)
    }

    /// Whether a lane has let go of everything before a chunk, so that it reads it as it comes.
    fn is_starving(&self, blob: &Blob, chunk: u32) -> bool {
        blob.laned && chunk == blob.frontier && blob.released >= blob.range(chunk).start
    }

    /// Whether what is under way of a blob is the last of it, and of every pull that wants it. A blob that is stored is
    /// unpacked when it is complete, so it waits for its own last ranges.
    fn is_last(&self, blob: &Blob) -> bool {
        let asked = !blob.has_next() && blob.due.is_empty();
        let mut images = self.layers[&blob.layer].wanted.iter();
        asked
            && (blob.destination == Destination::Spool
                || images.all(|place| !self.queue.is_for(place.image)))
    }

    /// Asks for the rest of a range a second time.
    fn hedge(&mut self, original: OpId, hedge: &Hedge) {
        let Hedge {
            blob: id,
            chunk,
            source,
        } = *hedge;
        // What its lane has read it has brought, told or not: the race begins behind it.
        let received = self.blobs[&id].chunk(chunk).received;
        if let Some(OpKind::Fetch(fetch)) = self.ops.get(&original).map(|op| &op.kind) {
            self.keep(original, received - fetch.base);
        }
        let missing = self.blobs[&id].missing(chunk);
        self.turn = None;
        let Some(op) = self.open_fetch(id, chunk, source) else {
            return;
        };
        self.unwatch_pace(original);
        let bytes = missing.len();
        self.races
            .begin((id, chunk), (original, op), received, bytes);
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.open.push(op);
        let (attempt, to) = (blob.failed_attempts(chunk, source) + 1, blob.destination);
        if let Some(OpKind::Fetch(fetch)) = self.ops.get(&op).map(|op| &op.kind)
            && let Some(image) = self.images.get_mut(&fetch.image.0)
        {
            image.stats.hedges += 1;
        }
        self.act(Action::FetchRange {
            op,
            blob: id,
            span: SpanId(0),
            range: missing,
            mode: FetchMode::Ranged,
            source,
            attempt,
            credit: bytes,
            to,
            hedge: true,
        });
    }
}

/// The rest of a range is worth asking for again when that would take at most this part of what it would still take.
const GAIN_TIMES_MIN: u64 = 2;
const NANOS_PER_MILLI: u64 = 1_000_000;
