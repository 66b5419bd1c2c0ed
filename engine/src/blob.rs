//! One blob: which of its bytes are here, on their way, or still to be asked for.
//!
//! The bytes issued form a contiguous prefix of the span. Chunks before `frontier` are present, chunks before `next` are
//! issued; a chunk keeps what it was charged across its retries.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ascending::Ascending;
use crate::budget::Permit;
use crate::id::{ByteRange, HostId, OpId, SourceId};
use crate::layer::TreeId;
use crate::output::Destination;
use crate::plan;
use crate::time::Instant;

/// A compressed digest being fetched for its layer.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) layer: TreeId,
    pub(crate) size: u64,
    pub(crate) destination: Destination,
    /// Where it can be read from, in order; never empty.
    pub(crate) hosts: Vec<HostId>,
    /// What of it lies in a local store.
    pub(crate) local: Vec<ByteRange>,
    /// The source that is asked first in this life.
    pub(crate) first_source: SourceId,
    /// The source that was asked last.
    pub(crate) source: SourceId,
    /// When a chunk last came out of a backoff of our own.
    pub(crate) backed_off_at: Option<Instant>,
    /// Failed requests for a chunk at a source.
    pub(crate) failures: BTreeMap<(u32, SourceId), u32>,
    /// Sources that cannot serve it.
    pub(crate) lost: BTreeSet<SourceId>,
    /// Counts how often its bytes were thrown away for a wrong digest; the first life is 0.
    pub(crate) life: u32,
    pub(crate) mode: Mode,
    pub(crate) chunks: Vec<Chunk>,
    /// What its chunks were to have when it was last cut, in bytes.
    pub(crate) cut_bytes: u64,
    /// First chunk that is not wholly present.
    pub(crate) frontier: u32,
    /// First chunk never issued in this life.
    pub(crate) next: u32,
    /// Issued chunks whose backoff is over.
    pub(crate) due: BTreeSet<u32>,
    /// Fetches that are not closed.
    pub(crate) open: Ascending<OpId>,
    /// Compressed bytes its lane has let go of.
    pub(crate) released: u64,
    /// What its lane takes for 1 KiB of compressed bytes: inflating, hashing, writing.
    pub(crate) lane_nanos_per_kib: u64,
    /// Bytes of window or spool it is charged for.
    pub(crate) charge: Permit,
    /// When it became complete, counted over all blobs.
    pub(crate) completed: Option<u64>,
    /// A lane has read all of it; it only waits for its fetches to close.
    pub(crate) consumed: bool,
    /// No image wants it; it only waits for its ops to close.
    pub(crate) ending: bool,
    /// Its bytes are being dropped.
    pub(crate) dropping: Option<OpId>,
    /// A lane has taken it in this life, so its bytes are sure to be read or dropped.
    pub(crate) laned: bool,
}

/// How a blob is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In chunks, each its own request.
    Ranged,
    /// Its plan changes: fetches close and bytes go before it is read on.
    Settling(Settling),
    /// As one stream; the op is the open one.
    Whole(Option<OpId>),
}

/// Why a blob's plan changes, and what survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settling {
    /// Its ranges were refused: what lies beyond the frontier goes. The op, if kept, reads on as the whole read.
    Refused(Option<OpId>),
    /// Its bytes were wrong: all of them go, and it is read whole once more.
    Corrupt,
}

/// A piece of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its first byte; it ends where the next one starts.
    start: u64,
    pub(crate) state: ChunkState,
    /// Bytes present, from its start on.
    pub(crate) received: u64,
    /// Requests for it that were one connection too many.
    pub(crate) crowdings: u32,
}

/// Where a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// Not asked for and not charged.
    Idle,
    /// An op brings it (or, in a whole read, will).
    InFlight(OpId),
    /// Charged, waiting for its backoff; with whether the registry named the time.
    Backoff { until: Instant, told: bool },
    /// Charged, waiting for a permit.
    Due,
    /// All there.
    Present,
}

impl Blob {
    pub(crate) fn new(
        layer: TreeId,
        size: u64,
        hosts: Vec<HostId>,
        destination: Destination,
        plan: Plan,
    ) -> Self {
        let mut blob = Self {
            layer,
            size,
            destination,
            hosts: if hosts.is_empty() {
                alloc::vec![HostId(0)]
            } else {
                hosts
            },
            local: Vec::new(),
            first_source: SourceId(0),
            source: SourceId(0),
            backed_off_at: None,
            failures: BTreeMap::new(),
            lost: BTreeSet::new(),
            life: 0,
            mode: if plan.whole {
                Mode::Whole(None)
            } else {
                Mode::Ranged
            },
            chunks: Vec::new(),
            cut_bytes: plan.piece_bytes_max,
            frontier: 0,
            next: 0,
            due: BTreeSet::new(),
            open: Ascending::default(),
            released: 0,
            lane_nanos_per_kib: crate::lanes::NANOS_PER_KIB_ASSUMED,
            charge: Permit::none(),
            completed: None,
            consumed: false,
            ending: false,
            dropping: None,
            laned: false,
        };
        blob.forget_chunks(plan.piece_bytes_max);
        blob
    }

    /// Starts over with other pieces: a new life, or a whole read instead of ranges.
    pub(crate) fn replan(&mut self, plan: Plan) {
        self.mode = if plan.whole {
            Mode::Whole(None)
        } else {
            Mode::Ranged
        };
        self.forget_chunks(plan.piece_bytes_max);
    }

    fn forget_chunks(&mut self, piece_bytes_max: u64) {
        self.chunks.clear();
        self.cut_bytes = piece_bytes_max;
        self.cut(0, plan::chunk_bytes(self.size, piece_bytes_max));
        self.frontier = 0;
        self.next = 0;
        self.released = 0;
        self.due.clear();
        self.failures.clear();
        self.completed = None;
        self.consumed = false;
        self.laned = false;
    }

    /// Cuts what lies behind `start` into chunks of so many bytes; there are none from there on.
    fn cut(&mut self, start: u64, chunk_bytes: u64) {
        let mut at = start;
        while at < self.size {
            self.chunks.push(Chunk {
                start: at,
                state: ChunkState::Idle,
                received: 0,
                crowdings: 0,
            });
            at += chunk_bytes;
        }
    }

    /// Bytes of the largest chunk that was never issued; 0 if there is none.
    pub(crate) fn next_piece_bytes(&self) -> u64 {
        let unissued = self.next..self.chunk_count().min(self.next.saturating_add(2));
        let bytes = unissued.map(|index| self.missing(index).len());
        bytes.max().unwrap_or(0)
    }

    /// Bytes that were never asked for and will be, if nothing happens to the blob.
    pub(crate) fn unasked_bytes(&self) -> u64 {
        if self.ending || self.consumed || !self.has_next() {
            return 0;
        }
        self.size - self.missing(self.next).start
    }

    /// Whether its chunks were to have a size so different from `wanted` that cutting them anew is worth it.
    pub(crate) const fn is_cut_otherwise(&self, wanted: u64) -> bool {
        let (is, wanted) = (self.cut_bytes / 2, wanted / 2);
        wanted > is + is / 4 || is > wanted + wanted / 4
    }

    /// Cuts what was never issued into pieces of about `wanted` and of at most `bytes_max` bytes.
    pub(crate) fn recut(&mut self, wanted: u64, bytes_max: u64) {
        if !self.has_next() {
            return;
        }
        self.cut_bytes = wanted;
        let missing = self.missing(self.next);
        let next = self.next as usize;
        let start = self.chunk(self.next).start;
        self.chunks.truncate(next);
        if missing.start > start {
            // What is here of the chunk becomes one of its own.
            self.chunks.push(Chunk {
                start,
                state: ChunkState::Present,
                received: missing.start - start,
                crowdings: 0,
            });
            self.next += 1;
        }
        let rest = self.size - missing.start;
        self.cut(missing.start, plan::even_bytes(rest, wanted, bytes_max));
        self.advance_frontier();
    }

    pub(crate) fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn chunk(&self, index: u32) -> &Chunk {
        &self.chunks[index as usize]
    }

    pub(crate) fn chunk_mut(&mut self, index: u32) -> &mut Chunk {
        &mut self.chunks[index as usize]
    }

    /// The bytes of a chunk.
    pub(crate) fn range(&self, index: u32) -> ByteRange {
        let end = self.chunks.get(index as usize + 1);
        ByteRange::new(
            self.chunk(index).start,
            end.map_or(self.size, |next| next.start),
        )
    }

    /// What is still missing of a chunk.
    pub(crate) fn missing(&self, index: u32) -> ByteRange {
        let range = self.range(index);
        ByteRange::new(range.start + self.chunk(index).received, range.end)
    }

    /// The contiguous prefix present, in bytes.
    pub(crate) fn frontier_bytes(&self) -> u64 {
        if self.frontier == self.chunk_count() {
            return self.size;
        }
        self.missing(self.frontier).start
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.completed.is_some()
    }

    /// Whether every byte is here.
    pub(crate) fn is_present(&self) -> bool {
        self.frontier == self.chunk_count()
    }

    /// Whether a chunk remains that was never issued.
    pub(crate) fn has_next(&self) -> bool {
        self.next < self.chunk_count()
    }

    /// Compressed bytes its layer still has to get through a lane.
    pub(crate) const fn remaining(&self) -> u64 {
        self.size - self.released
    }

    /// What its layer still takes: the compressed bytes that are to get through its lane, by the pace of that lane, or of
    /// lanes in general while it has none. Fetching goes on meanwhile and costs every blob the same.
    pub(crate) fn remaining_nanos(&self) -> u64 {
        let nanos = u128::from(self.remaining()) * u128::from(self.lane_nanos_per_kib);
        u64::try_from(nanos / 1_024).unwrap_or(u64::MAX)
    }

    /// Notes that `received` bytes of a chunk are present; fewer than known change nothing. Returns the new ones.
    pub(crate) fn receive(&mut self, index: u32, received: u64) -> u64 {
        let length = self.range(index).len();
        assert!(
            received <= length,
            "invariant 3 (progress): more received than asked for"
        );
        let chunk = self.chunk_mut(index);
        let new = received.saturating_sub(chunk.received);
        chunk.received += new;
        if chunk.received == length {
            chunk.state = ChunkState::Present;
            self.advance_frontier();
        }
        new
    }

    /// Notes that a lane has read up to `released`: what it read was present, whether or not a fetch reported it yet.
    pub(crate) fn release(&mut self, released: u64) -> u64 {
        assert!(
            released <= self.size,
            "invariant 3 (progress): more released than there is"
        );
        let freed = released.saturating_sub(self.released);
        self.released += freed;
        while self.frontier < self.chunk_count() && self.missing(self.frontier).start < released {
            let range = self.range(self.frontier);
            let index = self.frontier;
            self.receive(index, released.min(range.end) - range.start);
        }
        freed
    }

    fn advance_frontier(&mut self) {
        while self.frontier < self.chunk_count()
            && self.chunk(self.frontier).state == ChunkState::Present
        {
            self.frontier += 1;
        }
    }

    /// Takes back what was issued beyond the frontier; its bytes are dropped. That ranges are refused says nothing about
    /// the whole read, whose attempts are counted anew.
    pub(crate) fn forget_scattered(&mut self) {
        let frontier = (self.frontier as usize).min(self.chunks.len());
        self.failures
            .retain(|(chunk, _), _| (*chunk as usize) < frontier);
        let from = (self.frontier as usize + 1).min(self.chunks.len());
        for chunk in &mut self.chunks[from..] {
            chunk.state = ChunkState::Idle;
            chunk.received = 0;
        }
        self.next = self.frontier;
    }

    /// Bytes present that no lane has let go of.
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.frontier_bytes() - self.released + self.scattered_bytes()
    }

    /// Bytes present beyond the frontier's chunk.
    pub(crate) fn scattered_bytes(&self) -> u64 {
        let from = (self.frontier as usize + 1).min(self.chunks.len());
        self.chunks[from..].iter().map(|chunk| chunk.received).sum()
    }
}

/// What a blob's plan depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) piece_bytes_max: u64,
    pub(crate) whole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LayerId;

    fn blob() -> Blob {
        let plan = Plan {
            piece_bytes_max: 10,
            whole: false,
        };
        Blob::new(
            TreeId::shared(LayerId(0)),
            25,
            Vec::new(),
            Destination::Window,
            plan,
        )
    }

    #[test]
    fn covers_every_byte_once() {
        let blob = blob();
        assert_eq!(blob.chunk_count(), 3);
        let ranges: Vec<_> = (0..3).map(|index| blob.range(index)).collect();
        assert_eq!(ranges[0].start, 0);
        assert_eq!(ranges[2].end, 25);
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
    }

    #[test]
    fn cuts_the_rest_anew_and_nothing_that_was_issued() {
        let mut blob = blob();
        blob.next = 1;
        blob.receive(1, 4);
        blob.recut(3, 3);
        let starts: Vec<_> = (0..blob.chunk_count())
            .map(|index| blob.range(index).start)
            .collect();
        assert_eq!(starts, [0, 9, 13, 16, 19, 22]);
        assert_eq!((blob.next, blob.frontier), (2, 0));
        assert_eq!(blob.receive(0, 9), 9);
        assert_eq!(blob.frontier_bytes(), 13);
        blob.recut(4, 8);
        let starts: Vec<_> = (0..blob.chunk_count())
            .map(|index| blob.range(index).start)
            .collect();
        assert_eq!(starts, [0, 9, 13, 17, 21]);
    }

    #[test]
    fn of_two_blobs_the_one_with_the_slower_lane_has_the_longer_way() {
        let (mut short, mut long) = (blob(), blob());
        long.release(15);
        assert!(short.remaining_nanos() > long.remaining_nanos());
        long.lane_nanos_per_kib = 3 * short.lane_nanos_per_kib;
        assert!(short.remaining_nanos() < long.remaining_nanos());
        short.release(25);
        assert_eq!(short.remaining_nanos(), 0);
    }

    #[test]
    fn moves_the_frontier_over_chunks_that_came_out_of_order() {
        let mut blob = blob();
        assert_eq!(blob.receive(1, 9), 9);
        assert_eq!(blob.frontier_bytes(), 0);
        assert_eq!(blob.scattered_bytes(), 9);
        assert_eq!(blob.receive(0, 4), 4);
        assert_eq!(blob.frontier_bytes(), 4);
        assert_eq!(blob.receive(0, 9), 5);
        assert_eq!(blob.frontier_bytes(), 18);
    }

    #[test]
    fn learns_from_its_lane_what_no_fetch_has_reported() {
        let mut blob = blob();
        assert_eq!(blob.release(12), 12);
        assert_eq!(blob.frontier_bytes(), 12);
        assert_eq!(blob.receive(0, 9), 0);
        assert_eq!(blob.release(10), 0);
    }
}
