//! Fetches: one request, its answer, its body on the link, its end.

mod ends;
mod races;
mod stalls;

use parapull_engine::{
    Action, BlobId, ByteRange, Destination, FetchError, FetchMode, Input, OpId, SourceId,
};

use parapull_scenario::{Canary, ConnectionFaultKind, LocalFaultKind};

use super::trees::per_second;
use super::{Violation, World};
use crate::coverage::Point;
use crate::events::Coming;
use crate::registry::{Answer, Body, Cut, Request, SICK};

/// A fetch in flight.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) blob: BlobId,
    /// What it is to keep.
    pub(super) range: ByteRange,
    /// The next byte it will keep.
    pub(super) position: u64,
    mode: FetchMode,
    pub(super) source: SourceId,
    pub(super) to: Destination,
    /// Bytes it may keep in all, and has kept.
    credit: u64,
    kept: u64,
    /// Body bytes before `position` that are read away.
    skip: u64,
    /// Body bytes that came.
    received: u64,
    body: Body,
    stage: Stage,
    /// The answer was the whole blob; it waits to be told from where on it may keep it.
    unaimed: bool,
    reported: (u64, u64),
    /// What is wrong with its connection.
    connection: Option<ConnectionFaultKind>,
    /// Until when nothing comes, while it is stalled.
    stalled_until: u64,
    /// Since when it waits for credit, while it does.
    held_since: u64,
    /// It brings the rest of a range that another fetch brings.
    pub(super) hedge: bool,
    /// Another fetch brings some of what it brings, or did.
    raced: bool,
    /// A lane has read all there is: what it still brings is there already.
    late: bool,
}

/// Where a fetch stands; with the bytes of the portion under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a connection.
    Queued,
    /// Waits for the first byte.
    Asked,
    Skipping(u64),
    Receiving(u64),
    /// Its disk takes the portion only later.
    Storing(u64),
    /// Has no credit.
    Held,
    Stalled,
}

impl Fetch {
    pub(super) fn waits_for_disk(&self) -> bool {
        matches!(self.stage, Stage::Storing(_))
    }

    pub(super) fn waits_for_answer(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Queued)
    }

    /// Since when it waits for credit; one that was never told where to read on from waits for something else.
    pub(super) fn held_since(&self) -> Option<u64> {
        (self.stage == Stage::Held && !self.unaimed).then_some(self.held_since)
    }

    const fn is_unconnected(&self) -> bool {
        matches!(
            self.connection,
            Some(ConnectionFaultKind::Refused | ConnectionFaultKind::NameUnknown)
        )
    }

    fn portion_max(&self) -> u64 {
        (self.range.len() / 8).clamp(PORTION_BYTES_MIN, PORTION_BYTES_MAX)
    }
}

impl World<'_> {
    pub(super) fn start_fetch(&mut self, action: &Action) -> Result<(), Violation> {
        let Action::FetchRange {
            op,
            blob,
            range,
            mode,
            source,
            credit,
            to,
            attempt,
            hedge,
            ..
        } = *action
        else {
            return Ok(());
        };
        let planned = *self.plan.blob(blob);
        let is_known = source == SourceId::LOCAL || source.0 < planned.sources;
        if range.end > planned.compressed_bytes || range.is_empty() || !is_known {
            return Err(Violation::Correctness(format!(
                "asks for {range:?} of {blob:?} from {source:?}, which there is not"
            )));
        }
        let attempts_max = self.plan.config.timing.attempts_max;
        if mode == FetchMode::Ranged && attempt > attempts_max {
            return Err(Violation::Correctness(format!(
                "invariant 12 (retries): attempt {attempt} of {attempts_max}"
            )));
        }
        let raced = self.meet_rivals(blob, range, hedge)?;
        let fetch = Fetch {
            blob,
            range,
            position: range.start,
            mode,
            source,
            to,
            credit,
            kept: 0,
            skip: match mode {
                FetchMode::Ranged => 0,
                FetchMode::Whole => range.start,
            },
            received: 0,
            body: Body::default(),
            stage: Stage::Queued,
            unaimed: false,
            reported: (0, self.now),
            connection: None,
            stalled_until: 0,
            held_since: 0,
            hedge,
            raced,
            late: false,
        };
        self.held.entry(blob).or_default().destination = Some(to);
        self.fetches.insert(op, fetch);
        self.record
            .fetch_begins(self.now, blob, self.fetches.len())?;
        if source == SourceId::LOCAL {
            self.read_locally(op, blob);
        } else if source != SICK || self.registry.connect(op) {
            self.ask(op);
        } else {
            self.sometimes(Point::ConnectionQueued);
        }
        Ok(())
    }

    /// Reads from the local store: no request, no connection, no link.
    fn read_locally(&mut self, op: OpId, blob: BlobId) {
        let index = self.plan.index_of_blob(blob);
        let fault = self.local_fault(index, |kind| {
            matches!(
                kind,
                LocalFaultKind::LocalGone | LocalFaultKind::LocalCorrupt
            )
        });
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return;
        };
        match fault {
            Some(LocalFaultKind::LocalGone) => fetch.body.cut = Some((0, Cut::Lost)),
            Some(_) => fetch.body.corrupt = Some(fetch.range.start),
            None => {}
        }
        self.proceed(op);
    }

    fn ask(&mut self, op: OpId) {
        let Some(request) = self.request_of(op) else {
            return;
        };
        let connection = self.registry.meet_connecting();
        if let Some(fetch) = self.fetches.get_mut(&op) {
            fetch.stage = Stage::Asked;
            fetch.connection = connection;
        }
        let met = match connection {
            Some(ConnectionFaultKind::Refused) => Some(Point::Refused),
            Some(ConnectionFaultKind::NameUnknown) => Some(Point::NameUnknown),
            Some(ConnectionFaultKind::SlowClose { .. }) => Some(Point::SlowClose),
            None => None,
        };
        if let Some(point) = met {
            self.sometimes(point);
        }
        let nanos = match connection {
            Some(ConnectionFaultKind::Refused) => self.registry.round_trip_nanos(),
            Some(ConnectionFaultKind::NameUnknown) => 0,
            Some(ConnectionFaultKind::SlowClose { .. }) | None => {
                self.registry.first_byte_nanos(&request)
            }
        };
        self.events.push(self.now + nanos, Coming::FirstByte { op });
    }

    fn request_of(&self, op: OpId) -> Option<Request> {
        let fetch = self.fetches.get(&op)?;
        let size = self.plan.blob(fetch.blob).compressed_bytes;
        Some(Request {
            blob: fetch.blob,
            body: match fetch.mode {
                FetchMode::Ranged => fetch.range,
                FetchMode::Whole => ByteRange::new(0, size),
            },
            mode: fetch.mode,
            source: fetch.source,
        })
    }

    pub(super) fn on_first_byte(&mut self, op: OpId) -> Result<(), Violation> {
        let Some(request) = self.request_of(op) else {
            return Ok(());
        };
        if self.fetches.get(&op).is_some_and(Fetch::is_unconnected) {
            self.fail_fetch(op, FetchError::Connection, None);
            return Ok(());
        }
        let answer = self.registry.answer(self.now, &request, &self.plan);
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return Ok(());
        };
        match answer {
            Answer::Body(body) => {
                fetch.body = body;
                self.proceed(op);
            }
            Answer::Refused => {
                let point = fetch.hedge.then_some(Point::HedgeRefused);
                (fetch.credit, fetch.unaimed) = (0, true);
                (fetch.stage, fetch.held_since) = (Stage::Held, self.now);
                self.inbox.push_back(Input::RangesRefused { op });
                point.into_iter().for_each(|point| self.sometimes(point));
            }
            Answer::Failed {
                error,
                retry_after_ms,
            } => self.fail_fetch(op, error, retry_after_ms),
        }
        Ok(())
    }

    /// Lets a body come on: to the next portion, cut, lack of credit or its end.
    fn proceed(&mut self, op: OpId) {
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return;
        };
        if fetch.position == fetch.range.end {
            self.end_fetch(op, Input::RangeFetched { op });
            return;
        }
        if let Some(until) = self.clogged_until(op) {
            return self.stall(op, Some(until));
        }
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return;
        };
        let until_cut = match fetch.body.cut {
            Some((at, cut)) if at <= fetch.received => return self.cut(op, cut),
            Some((at, _)) => at - fetch.received,
            None => u64::MAX,
        };
        let credit = fetch.credit - fetch.kept;
        let portion = if fetch.skip > 0 {
            let portion = fetch.skip.min(until_cut);
            fetch.stage = Stage::Skipping(portion);
            portion
        } else if credit == 0 {
            (fetch.stage, fetch.held_since) = (Stage::Held, self.now);
            self.link.stop(self.now, op);
            self.report_fetch(op, true);
            return;
        } else {
            let portion = fetch
                .portion_max()
                .min(credit)
                .min(until_cut)
                .min(fetch.range.end - fetch.position);
            fetch.stage = Stage::Receiving(portion);
            portion
        };
        if fetch.source == SourceId::LOCAL {
            let rate = self.scenario.host.disk_bytes_per_second;
            let at = self.now + per_second(portion, rate).max(1);
            self.events.push(at, Coming::LocalRead { op });
            return;
        }
        let cap = fetch.body.cap.unwrap_or(u64::MAX);
        let cap = cap.min(self.registry.connection_cap());
        self.link.start(self.now, op, portion, cap);
    }

    fn cut(&mut self, op: OpId, cut: Cut) {
        match cut {
            Cut::Lost => self.fail_fetch(op, FetchError::Connection, None),
            Cut::Stall { nanos } => {
                if let Some(fetch) = self.fetches.get_mut(&op) {
                    fetch.body.cut = None;
                }
                self.stall(op, nanos.map(|nanos| self.now + nanos));
            }
        }
    }

    /// A portion of a body has come over the link.
    pub(super) fn on_received(&mut self, op: OpId) -> Result<(), Violation> {
        let Some(fetch) = self.fetches.get_mut(&op) else {
            self.link.stop(self.now, op);
            return Ok(());
        };
        match fetch.stage {
            Stage::Skipping(portion) => {
                fetch.skip -= portion;
                fetch.received += portion;
                self.proceed(op);
                Ok(())
            }
            Stage::Receiving(portion) if fetch.to == Destination::Spool => {
                let (blob, start) = (fetch.blob, fetch.position);
                let taken = self.store(blob, start, start + portion);
                let Some(fetch) = self.fetches.get_mut(&op) else {
                    return Ok(());
                };
                if taken > self.now {
                    fetch.stage = Stage::Storing(portion);
                    self.link.stop(self.now, op);
                    self.events.push(taken, Coming::Stored { op });
                    return Ok(());
                }
                self.keep(op, portion)?;
                self.proceed(op);
                Ok(())
            }
            Stage::Receiving(portion) => {
                self.keep(op, portion)?;
                self.proceed(op);
                Ok(())
            }
            Stage::Queued | Stage::Asked | Stage::Storing(_) | Stage::Held | Stage::Stalled => {
                self.link.stop(self.now, op);
                Ok(())
            }
        }
    }

    pub(super) fn on_stored(&mut self, op: OpId) -> Result<(), Violation> {
        let stage = self.fetches.get(&op).map(|fetch| fetch.stage);
        if let Some(Stage::Storing(portion)) = stage {
            self.keep(op, portion)?;
            self.proceed(op);
        }
        Ok(())
    }

    /// Bytes are here: the engine is told now and then, the blob's lane at once.
    fn keep(&mut self, op: OpId, bytes: u64) -> Result<(), Violation> {
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return Ok(());
        };
        let (blob, start) = (fetch.blob, fetch.position);
        let end = start + bytes;
        fetch.position = end;
        fetch.kept += bytes;
        fetch.received += bytes;
        let (to, corrupt, raced, late) = (fetch.to, fetch.body.corrupt, fetch.raced, fetch.late);
        let held = self.held.entry(blob).or_default();
        let missing = if late {
            Vec::new()
        } else {
            held.add(start, end)
        };
        let new: u64 = missing.iter().map(|(start, end)| end - start).sum();
        if new < bytes && !raced {
            return Err(Violation::Correctness(format!(
                "{start}..{end} of {blob:?} came twice"
            )));
        }
        let is_new = |offset: &u64| {
            missing
                .iter()
                .any(|(start, end)| (start..end).contains(&offset))
        };
        if let Some(offset) = corrupt.filter(is_new) {
            held.corrupt = Some(held.corrupt.map_or(offset, |known| known.min(offset)));
        }
        if to == Destination::Window {
            self.window_bytes += new;
        }
        if self.lies(Canary::CountedTwice) {
            self.record.kept_bytes += bytes;
        }
        self.record.hedged_bytes += bytes - new;
        self.record
            .fetched(self.now, blob, new, self.window_bytes)?;
        self.report_fetch(op, false);
        self.feed_lane(blob);
        Ok(())
    }

    /// Tells progress after half a piece or 20 ms, so that reports stay few.
    fn report_fetch(&mut self, op: OpId, at_once: bool) {
        let piece_bytes = self.plan.config.limits.piece_bytes_max();
        let Some(fetch) = self.fetches.get_mut(&op) else {
            return;
        };
        let (reported, at) = fetch.reported;
        let news = fetch.kept - reported;
        let due = at_once || news >= piece_bytes / 2 || self.now - at >= REPORT_NANOS;
        if news > 0 && due && fetch.position < fetch.range.end {
            fetch.reported = (fetch.kept, self.now);
            let bytes = fetch.kept;
            self.inbox.push_back(Input::RangeProgressed {
                op,
                bytes,
                discarded: 0,
            });
        }
    }

    pub(super) fn grant(&mut self, op: OpId, bytes: u64) -> Result<(), Violation> {
        let Some(fetch) = self.fetches.get_mut(&op) else {
            // It has ended; the engine will know after this drain.
            return Ok(());
        };
        if fetch.mode == FetchMode::Ranged && !fetch.unaimed {
            return Err(Violation::Correctness(format!(
                "{op:?} is ranged and was granted more than its range"
            )));
        }
        fetch.credit += bytes;
        if fetch.unaimed {
            let frontier = self.held.entry(fetch.blob).or_default().frontier();
            let size = self.plan.blob(fetch.blob).compressed_bytes;
            fetch.unaimed = false;
            fetch.mode = FetchMode::Whole;
            (fetch.position, fetch.skip) = (frontier, frontier);
            fetch.range = ByteRange::new(frontier, size);
        }
        if fetch.credit > fetch.range.len() {
            return Err(Violation::Correctness(format!(
                "{op:?} has more credit than there are bytes"
            )));
        }
        if fetch.stage == Stage::Held {
            self.proceed(op);
        }
        Ok(())
    }

    pub(super) fn drop_held(&mut self, blob: BlobId, from: u64) {
        let Some(held) = self.held.get_mut(&blob) else {
            return;
        };
        let dropped = held.drop_from(from);
        if held.destination == Some(Destination::Window) {
            self.window_bytes -= dropped;
        }
        self.record.dropped_bytes += dropped;
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;
const PORTION_BYTES_MIN: u64 = 64 << 10;
const PORTION_BYTES_MAX: u64 = 1 << 20;
/// Progress is told at least this often while there is any.
pub(super) const REPORT_NANOS: u64 = 20_000_000;
