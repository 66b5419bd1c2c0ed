//! Races: two fetches of one range. Each offset counts for whichever op told of it first; the rest is counted as brought
//! twice. When the range is complete the loser is cancelled; when one of them fails the other carries the range.
//!
//! Which ranges are raced for is decided in [`crate::hedge`].

use alloc::vec::Vec;

use crate::allowance::Allowance;
use crate::blob::ChunkState;
use crate::engine::Engine;
use crate::id::{BlobId, OpId};
use crate::op::OpKind;

/// A chunk that two fetches bring, until both are closed.
#[derive(Debug)]
pub(crate) struct Race {
    blob: BlobId,
    chunk: u32,
    /// The fetch that was slow, while it is open.
    original: Option<OpId>,
    /// The fetch of the rest, while it is open.
    hedge: Option<OpId>,
    /// How much of the chunk, from its start on, was told of by either.
    told: u64,
    /// Bytes of the allowance it holds: what can come twice at most.
    held: u64,
    /// Bytes that came twice.
    twice: u64,
}

/// All races.
#[derive(Debug)]
pub(crate) struct Races {
    all: Vec<Race>,
    pub(crate) allowance: Allowance,
}

impl Races {
    pub(crate) const fn new(allowance: Allowance) -> Self {
        Self {
            all: Vec::new(),
            allowance,
        }
    }

    /// Hedges that are open.
    pub(crate) fn open(&self) -> u64 {
        self.all.iter().filter(|race| race.hedge.is_some()).count() as u64
    }

    /// Begins one: both ops are open, `told` bytes of the chunk are here, and the hedge is to bring `bytes` more.
    pub(crate) fn begin(
        &mut self,
        (blob, chunk): (BlobId, u32),
        (original, hedge): (OpId, OpId),
        told: u64,
        bytes: u64,
    ) {
        self.allowance.set_aside(bytes);
        self.all.push(Race {
            blob,
            chunk,
            original: Some(original),
            hedge: Some(hedge),
            told,
            held: bytes,
            twice: 0,
        });
    }

    fn find(&self, op: OpId) -> Option<usize> {
        self.all.iter().position(|race| race.has(op))
    }

    /// Whether an op is one of two that bring this chunk.
    pub(crate) fn covers(&self, op: OpId, blob: BlobId, chunk: u32) -> bool {
        let of_chunk = |race: &Race| race.blob == blob && race.chunk == chunk;
        self.all.iter().any(|race| race.has(op) && of_chunk(race))
    }

    /// That no more came twice than the allowance covers.
    pub(crate) fn check(&self, hedges_max: u64) {
        assert!(
            self.open() <= hedges_max,
            "invariant 2 (ranges): {} hedges, {hedges_max} at most",
            self.open()
        );
        for race in &self.all {
            assert!(
                race.twice <= race.held,
                "invariant 2 (ranges): {race:?} brought more twice than its hedge was to bring"
            );
        }
        let held = self.all.iter().map(|race| race.held - race.twice).sum();
        self.allowance.check(held);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Race {
    fn has(&self, op: OpId) -> bool {
        self.original == Some(op) || self.hedge == Some(op)
    }

    /// The one that is open beside this one.
    fn other(&self, op: OpId) -> Option<OpId> {
        if self.original == Some(op) {
            self.hedge
        } else {
            self.original
        }
    }

    /// Whether nothing can come twice any more.
    fn is_over(&self) -> bool {
        self.hedge.is_none() && (self.original.is_none() || self.held == 0)
    }
}

impl Engine {
    /// How many of the `new` bytes that a fetch just told of were told of by its rival before.
    pub(crate) fn count_twice(&mut self, id: OpId, new: u64) -> u64 {
        let Some(index) = self.races.find(id) else {
            return 0;
        };
        let Some(OpKind::Fetch(fetch)) = self.ops.get(&id).map(|op| &op.kind) else {
            return 0;
        };
        let race = &mut self.races.all[index];
        let reached = fetch.base + fetch.kept;
        let twice = new.saturating_sub(reached.saturating_sub(race.told));
        race.told = race.told.max(reached);
        race.twice += twice;
        self.races.allowance.spend(twice);
        twice
    }

    /// Cancels the loser of a race whose range is complete.
    pub(crate) fn decide_race(&mut self, winner: OpId) {
        let Some(index) = self.races.find(winner) else {
            return;
        };
        let race = &self.races.all[index];
        let Some(blob) = self.blobs.get(&race.blob) else {
            return;
        };
        let complete = blob.chunk(race.chunk).state == ChunkState::Present;
        if let Some(loser) = race.other(winner).filter(|_| complete) {
            self.cancel(loser);
        }
    }

    /// A fetch leaves its race, because it is closed or brings something else from here on; it had kept so many bytes.
    /// Whether the other one carries the range instead of it.
    pub(crate) fn leave_race(&mut self, id: OpId, kept: u64) -> bool {
        let Some(index) = self.races.find(id) else {
            return false;
        };
        let race = &mut self.races.all[index];
        let (other, blob, chunk) = (race.other(id), race.blob, race.chunk);
        if race.hedge == Some(id) {
            race.hedge = None;
            // It has brought what it will: no more than that can come twice.
            let spared = race.held - race.held.min(kept);
            race.held -= spared;
            self.races.allowance.put(spared);
        } else {
            race.original = None;
        }
        if race.is_over() {
            let race = self.races.all.swap_remove(index);
            self.races.allowance.put(race.held - race.twice);
        }
        let Some(blob) = self.blobs.get_mut(&blob) else {
            return false;
        };
        let chunk = blob.chunk_mut(chunk);
        match other {
            Some(other) if chunk.state == ChunkState::InFlight(id) && !mutant!(HedgeForgotten) => {
                chunk.state = ChunkState::InFlight(other);
                true
            }
            _ => false,
        }
    }

    /// Ends a hedge that was answered with the whole blob, while another fetch brings its range or has brought it;
    /// whether it was one.
    pub(crate) fn drop_refused_hedge(&mut self, id: OpId) -> bool {
        let Some(OpKind::Fetch(fetch)) = self.ops.get(&id).map(|op| &op.kind) else {
            return false;
        };
        let blob = self.blobs.get(&fetch.blob);
        if blob.is_none_or(|blob| blob.chunk(fetch.chunk).state == ChunkState::InFlight(id)) {
            return false;
        }
        self.leave_race(id, 0);
        self.cancel(id);
        true
    }
}
