//! Lanes: slices of a layer, inflated, hashed and written, one after another.

use parapull_engine::{BlobId, Destination, Input, LaneError, LayerId, OpId, Place, Waiting};
use parapull_scenario::{Encoding, Host, LocalFaultKind, PlannedLayer};

use super::fetches::REPORT_NANOS;
use super::trees::per_second;
use super::{Violation, World};
use crate::draw::{self, Purpose};
use crate::events::Coming;

/// A lane at work.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) layer: LayerId,
    blob: BlobId,
    over: Option<Place>,
    threads: u32,
    threads_told: u32,
    released: u64,
    stage: Stage,
    /// When the stage began.
    since: u64,
    /// Nanoseconds since the last report in which it waited for bytes, and for the disk.
    waited: (u64, u64),
    reported: (u64, u64),
    /// A report is scheduled.
    due: bool,
    /// Fails once it has released so much.
    fails: Option<(u64, LaneError)>,
    /// Stands still once it has released so much; with nanoseconds.
    pauses: Option<(u64, u64)>,
}

/// What a lane is doing, with the compressed bytes of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Input,
    Computing(u64),
    Writing(u64),
    Paused,
}

impl Lane {
    pub(super) fn waits_for_bytes(&self) -> bool {
        self.stage == Stage::Input
    }

    pub(super) const fn threads_told(&self) -> u32 {
        self.threads_told
    }

    pub(super) fn waits_for_disk(&self) -> bool {
        matches!(self.stage, Stage::Writing(_))
    }

    fn enter(&mut self, stage: Stage, now: u64) {
        let nanos = now - self.since;
        match self.stage {
            Stage::Input => self.waited.0 += nanos,
            Stage::Writing(_) => self.waited.1 += nanos,
            Stage::Computing(_) | Stage::Paused => {}
        }
        (self.stage, self.since) = (stage, now);
    }

    /// What held it for half of the time since its last report, and begins to count anew.
    fn held_by(&mut self, now: u64) -> Waiting {
        self.enter(self.stage, now);
        let (for_bytes, for_disk) = std::mem::take(&mut self.waited);
        let half = (now - self.reported.1).div_ceil(2);
        match () {
            () if for_bytes >= half && for_bytes > 0 => Waiting::Input,
            () if for_disk >= half && for_disk > 0 => Waiting::Disk,
            () => Waiting::Cpu,
        }
    }
}

impl World<'_> {
    /// Whether a lane has bytes to read.
    pub(super) fn has_bytes(&self, lane: &Lane) -> bool {
        !lane.waits_for_bytes() && lane.released < self.plan.blob(lane.blob).compressed_bytes
    }

    pub(super) fn start_lane(
        &mut self,
        op: OpId,
        layer: LayerId,
        over: Option<Place>,
    ) -> Result<(), Violation> {
        let blob = self.plan.blob_of(layer);
        self.check_lane_may_start(layer, blob, over)?;
        let index = self.plan.index_of(layer);
        let size = self.plan.layer(layer).compressed_bytes;
        let fault = self.local_fault(index, |kind| {
            matches!(
                kind,
                LocalFaultKind::LaneDisk { .. } | LocalFaultKind::LaneBadImage { .. }
            )
        });
        let at = |permille: u32| size * u64::from(permille.min(1_000)) / 1_000;
        let fails = match fault {
            Some(LocalFaultKind::LaneDisk { at_permille }) => {
                Some((at(at_permille), LaneError::Disk))
            }
            Some(LocalFaultKind::LaneBadImage { at_permille }) => {
                Some((at(at_permille), LaneError::BadImage))
            }
            _ => None,
        };
        let lane = Lane {
            layer,
            blob,
            over,
            threads: 1,
            threads_told: 1,
            released: 0,
            stage: Stage::Input,
            since: self.now,
            waited: (0, 0),
            reported: (0, self.now),
            due: false,
            fails,
            pauses: self.pause_lane(size),
        };
        self.lanes.insert(op, lane);
        self.record.lane_begins(self.now, layer, self.lanes.len())?;
        self.proceed_lane(op);
        Ok(())
    }

    fn check_lane_may_start(
        &self,
        layer: LayerId,
        blob: BlobId,
        over: Option<Place>,
    ) -> Result<(), Violation> {
        let staged = self
            .trees
            .get(&layer)
            .is_some_and(|trees| trees.is_staged(over));
        let lost = self.held.get(&blob).is_some_and(|held| held.released > 0);
        let shared = self.lanes.values().any(|lane| lane.blob == blob);
        let orphan = over.is_some_and(|place| self.linked(place.image) < place.index);
        for (wrong, why) in [
            (staged, "it is staged already"),
            (lost, "some of its bytes are gone"),
            (shared, "another lane reads its blob"),
            (orphan, "its parent is not linked"),
        ] {
            if wrong {
                return Err(Violation::Correctness(format!(
                    "a lane of {layer:?} starts, but {why}"
                )));
            }
        }
        Ok(())
    }

    /// Bytes of a blob came: its lane may go on.
    pub(super) fn feed_lane(&mut self, blob: BlobId) {
        let fed = self
            .lanes
            .iter()
            .find(|(_, lane)| lane.blob == blob && lane.waits_for_bytes())
            .map(|(op, _)| *op);
        if let Some(op) = fed {
            self.proceed_lane(op);
        }
    }

    /// Starts the next slice, waits for bytes, or ends.
    fn proceed_lane(&mut self, op: OpId) {
        self.honour_resize(op);
        let Some(lane) = self.lanes.get_mut(&op) else {
            return;
        };
        let held = self.held.get(&lane.blob);
        let frontier = held.map_or(0, super::held::Held::frontier);
        let corrupt = held.and_then(|held| held.corrupt);
        let planned = *self.plan.blob(lane.blob);
        if let Some((at, error)) = lane.fails.filter(|(at, _)| lane.released >= *at) {
            debug_assert!(at <= planned.compressed_bytes);
            return self.fail_lane(op, error);
        }
        if let Some((_, nanos)) = lane.pauses.take_if(|(at, _)| lane.released >= *at) {
            lane.enter(Stage::Paused, self.now);
            self.events
                .push(self.now + nanos, Coming::LaneResumes { op });
            return;
        }
        let done = lane.released == planned.compressed_bytes;
        if let Some(offset) = corrupt {
            let parts = [u64::from(lane.blob.0), offset, 0];
            let draw = draw::keyed(self.scenario.seed, Purpose::CorruptShows, parts);
            let shows = draw.is_multiple_of(2);
            if done || shows && lane.released > offset {
                return self.fail_lane(op, LaneError::Corrupt);
            }
        }
        if done {
            return self.finish_lane(op);
        }
        let fails_at = lane.fails.map_or(u64::MAX, |(at, _)| at);
        let stops_at = lane.pauses.map_or(fails_at, |(at, _)| at.min(fails_at));
        let slice = (frontier.min(stops_at) - lane.released).min(SLICE_BYTES);
        if slice == 0 {
            lane.enter(Stage::Input, self.now);
            self.report_lane(op);
            return;
        }
        lane.enter(Stage::Computing(slice), self.now);
        let cost = Cost::of(&self.scenario.host, &planned, lane.released, slice);
        let (work, nanos) = (cost.work_on(lane.threads), cost.nanos(lane.threads));
        let cap = u128::from(work) * 1_000_000_000 / u128::from(nanos.max(1));
        let cap = u64::try_from(cap).unwrap_or(u64::MAX).max(1);
        self.cores.start(self.now, op, work, cap);
    }

    pub(super) fn on_lane_resumes(&mut self, op: OpId) {
        if self
            .lanes
            .get(&op)
            .is_some_and(|lane| lane.stage == Stage::Paused)
        {
            self.proceed_lane(op);
        }
    }

    /// The cores have done a slice; it is written.
    pub(super) fn on_computed(&mut self, op: OpId) {
        self.cores.stop(self.now, op);
        let Some(lane) = self.lanes.get_mut(&op) else {
            return;
        };
        let Stage::Computing(slice) = lane.stage else {
            return;
        };
        lane.enter(Stage::Writing(slice), self.now);
        let planned = self.plan.blob(lane.blob);
        let bytes = grown(planned.uncompressed_bytes, planned, lane.released, slice);
        let taken = self.disk.write(self.now, bytes);
        self.events.push(taken, Coming::Written { op });
    }

    pub(super) fn on_written(&mut self, op: OpId) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&op) else {
            return Ok(());
        };
        let Stage::Writing(slice) = lane.stage else {
            return Ok(());
        };
        lane.released += slice;
        let held = self.held.entry(lane.blob).or_default();
        if held.destination == Some(Destination::Window) {
            held.released = lane.released;
            self.window_bytes -= slice;
        }
        lane.enter(Stage::Computing(0), self.now);
        self.proceed_lane(op);
        let piece_bytes = self.plan.config.limits.piece_bytes_max();
        if let Some(lane) = self.lanes.get(&op) {
            let (reported, at) = lane.reported;
            if lane.released - reported >= piece_bytes / 2 || self.now - at >= REPORT_NANOS {
                self.advance_lane(op);
            }
        }
        Ok(())
    }

    /// A lane that waits for bytes tells so within 20 ms of its last report.
    fn report_lane(&mut self, op: OpId) {
        let Some(lane) = self.lanes.get_mut(&op) else {
            return;
        };
        if lane.released == lane.reported.0 || lane.due {
            return;
        }
        lane.due = true;
        let at = (lane.reported.1 + REPORT_NANOS).max(self.now);
        self.events.push(at, Coming::LaneReport { op });
    }

    pub(super) fn on_lane_report(&mut self, op: OpId) {
        if let Some(lane) = self.lanes.get_mut(&op) {
            lane.due = false;
            self.advance_lane(op);
        }
    }

    fn advance_lane(&mut self, op: OpId) {
        let Some(lane) = self.lanes.get_mut(&op) else {
            return;
        };
        if lane.released == lane.reported.0 {
            return;
        }
        let waiting = lane.held_by(self.now);
        lane.reported = (lane.released, self.now);
        let planned = self.plan.blob(lane.blob);
        let input = Input::LaneAdvanced {
            op,
            released: lane.released,
            produced: grown(planned.uncompressed_bytes, planned, 0, lane.released),
            entries: grown(planned.entries, planned, 0, lane.released),
            waiting,
        };
        self.inbox.push_back(input);
    }

    pub(super) fn resize_lane(&mut self, op: OpId, threads: u32) {
        if let Some(lane) = self.lanes.get_mut(&op) {
            lane.threads_told = threads;
            if lane.waits_for_bytes() {
                self.honour_resize(op);
            }
        }
    }

    /// A change of threads takes force between two slices.
    fn honour_resize(&mut self, op: OpId) {
        let Some(lane) = self.lanes.get_mut(&op) else {
            return;
        };
        if lane.threads != lane.threads_told {
            lane.threads = lane.threads_told;
            let threads = lane.threads;
            self.inbox.push_back(Input::LaneResized { op, threads });
        }
        let threads: u64 = self
            .lanes
            .values()
            .map(|lane| u64::from(lane.threads))
            .sum();
        self.record.threads(threads);
    }

    fn finish_lane(&mut self, op: OpId) {
        let Some(lane) = self.lanes.remove(&op) else {
            return;
        };
        let planned = *self.plan.blob(lane.blob);
        let trees = self.trees.entry(lane.layer).or_default();
        trees.stage(lane.over);
        let held = self.held.entry(lane.blob).or_default();
        if held.destination == Some(Destination::Window) {
            held.drop_from(0);
        }
        self.note_all_read(lane.blob);
        self.record
            .lane_ends(self.now, lane.layer, planned.compressed_bytes, true);
        self.inbox.push_back(Input::LaneFinished {
            op,
            produced: planned.uncompressed_bytes,
            entries: planned.entries,
        });
    }

    fn fail_lane(&mut self, op: OpId, error: LaneError) {
        self.end_lane(op);
        self.inbox.push_back(Input::LaneFailed { op, error });
    }

    pub(super) fn cancel_lane(&mut self, op: OpId) {
        self.end_lane(op);
        self.inbox.push_back(Input::OpCancelled { op, received: 0 });
    }

    fn end_lane(&mut self, op: OpId) {
        self.cores.stop(self.now, op);
        if let Some(lane) = self.lanes.remove(&op) {
            self.record
                .lane_ends(self.now, lane.layer, lane.released, false);
        }
    }
}

/// What a slice costs, in core nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    decode: u64,
    /// In pieces, each without what stands before it; nothing where the encoding does not allow it.
    decode_pieces: Option<u64>,
    hash_compressed: u64,
    hash_uncompressed: u64,
    write: u64,
}

impl Cost {
    /// Of the `slice` compressed bytes after the first `released`.
    pub(crate) fn of(host: &Host, layer: &PlannedLayer, released: u64, slice: u64) -> Self {
        let bytes = grown(layer.uncompressed_bytes, layer, released, slice);
        let entries = grown(layer.entries, layer, released, slice);
        let decode = match layer.encoding {
            Encoding::Gzip => per_second(bytes, host.inflate_bytes_per_second),
            Encoding::Zstd => per_second(bytes, host.zstd_bytes_per_second),
            Encoding::Plain => 0,
        };
        let percent = u64::from(host.inflate_pieces_percent);
        let is_gzip = layer.encoding == Encoding::Gzip;
        Self {
            decode,
            decode_pieces: is_gzip.then(|| decode.saturating_mul(100) / percent),
            hash_compressed: per_second(slice, host.sha256_bytes_per_second),
            hash_uncompressed: per_second(bytes, host.sha256_bytes_per_second),
            write: per_second(bytes, host.copy_bytes_per_second) + entries * host.file_create_ns,
        }
    }

    /// On all threads together, decoded in order.
    pub(crate) const fn work(&self) -> u64 {
        self.decode + self.hash_compressed + self.hash_uncompressed + self.write
    }

    /// On all of so many threads together.
    pub(crate) fn work_on(&self, threads: u32) -> u64 {
        let decode = self.pieces(threads).map_or(self.decode, |(work, _)| work);
        self.work() - self.decode + decode
    }

    /// From begin to end with so many threads, when there are cores enough: decoding beside hashing and writing with
    /// two, hashing and writing apart with three. From four on all but two decode pieces of a gzip stream; then the hash
    /// of the uncompressed bytes is the floor. Others gain nothing by more than three.
    pub(crate) fn nanos(&self, threads: u32) -> u64 {
        let first = self.decode + self.hash_compressed;
        let rest = self.hash_uncompressed.max(self.write);
        match (threads, self.pieces(threads)) {
            (0 | 1, _) => self.work(),
            (2, _) => first.max(self.hash_uncompressed + self.write),
            (_, None) => first.max(rest),
            (_, Some((work, decoders))) => {
                let decoded = work.div_ceil(decoders);
                decoded.max(self.hash_compressed).max(rest)
            }
        }
    }

    /// The shortest time on any number of threads up to this one.
    pub(crate) fn nanos_min(&self, threads_max: u32) -> u64 {
        let times = (1..=threads_max.clamp(1, THREADS_OF_USE)).map(|threads| self.nanos(threads));
        times.min().unwrap_or(u64::MAX)
    }

    /// The work of decoding in pieces, and how many threads do it.
    fn pieces(&self, threads: u32) -> Option<(u64, u64)> {
        let decoders = threads.min(THREADS_OF_USE).saturating_sub(PIPELINE_THREADS);
        self.decode_pieces
            .filter(|_| decoders >= DECODERS_MIN)
            .map(|work| (work, decoders.into()))
    }
}

/// How much of `total` lies in the `slice` compressed bytes after the first `released`, spread evenly.
fn grown(total: u64, layer: &PlannedLayer, released: u64, slice: u64) -> u64 {
    let size = u128::from(layer.compressed_bytes.max(1));
    let until = |bytes: u64| {
        u64::try_from(u128::from(total) * u128::from(bytes) / size).unwrap_or(u64::MAX)
    };
    until(released + slice) - until(released)
}

const SLICE_BYTES: u64 = 1 << 20;
/// Threads of a lane that hash and write while others decode pieces.
const PIPELINE_THREADS: u32 = 2;
/// A lane with fewer threads to decode on decodes in order.
const DECODERS_MIN: u32 = 2;
/// A lane makes use of no more.
const THREADS_OF_USE: u32 = 16;
