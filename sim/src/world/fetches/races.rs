//! Two fetches of one range: who may bring what another one brings, and how races end.

use parapull_engine::{BlobId, ByteRange, Input};

use super::Fetch;
use crate::coverage::Point;
use crate::world::{Violation, World};

impl World<'_> {
    /// Holds a fetch that begins against those that are open: only one hedge may ask for what another one brings.
    ///
    /// Returns whether it is in a race; the other one may have ended in the meantime.
    pub(super) fn meet_rivals(
        &mut self,
        blob: BlobId,
        range: ByteRange,
        hedge: bool,
    ) -> Result<bool, Violation> {
        let rivals: Vec<&mut Fetch> = self
            .fetches
            .values_mut()
            .filter(|fetch| fetch.blob == blob && fetch.overlaps(range))
            .collect();
        if rivals.len() > usize::from(hedge) {
            return Err(Violation::Correctness(format!(
                "invariant 2 (ranges): {range:?} of {blob:?} is asked for while {} fetches bring some of it",
                rivals.len()
            )));
        }
        for rival in rivals {
            rival.raced = true;
        }
        if hedge {
            self.begin_hedge()?;
        }
        Ok(hedge)
    }

    fn begin_hedge(&mut self) -> Result<(), Violation> {
        self.sometimes(Point::Hedged);
        self.record.hedges += 1;
        let open = self.fetches.values().filter(|fetch| fetch.hedge).count();
        let hedges_max = self.plan.config.hedging.hedges_max as usize;
        let refused = self
            .fetches
            .values()
            .filter(|fetch| fetch.hedge && fetch.unaimed)
            .count();
        if open - refused >= hedges_max {
            return Err(Violation::Correctness(format!(
                "{} hedges, but only {hedges_max} are allowed",
                open - refused + 1
            )));
        }
        Ok(())
    }

    /// Bytes that a spool has not yet are written; until when.
    pub(super) fn store(&mut self, blob: BlobId, start: u64, end: u64) -> u64 {
        let held = self.held.entry(blob).or_default();
        let missing = held.missing(start, end);
        let bytes = missing.iter().map(|(start, end)| end - start).sum();
        self.disk.write(self.now, bytes)
    }

    /// A lane has read all of a blob: what fetches still bring of it is there already.
    pub(in crate::world) fn note_all_read(&mut self, blob: BlobId) {
        for fetch in self.fetches.values_mut().filter(|fetch| fetch.blob == blob) {
            fetch.late = true;
        }
    }

    /// Notes how a race ends.
    pub(super) fn cover_race(&mut self, ended: &Fetch, end: &Input) {
        if !ended.raced {
            return;
        }
        let rest = ByteRange::new(ended.range.start, ended.range.end);
        let mut open = self.fetches.values();
        let is_open = open.any(|fetch| fetch.blob == ended.blob && fetch.overlaps(rest));
        let point = match (end, ended.hedge, is_open) {
            (Input::RangeFetched { .. }, true, true) => Point::HedgeWins,
            (Input::RangeFetched { .. }, false, true) => Point::HedgeLoses,
            (Input::RangeFailed { .. }, true, true) => Point::HedgeFails,
            (Input::RangeFailed { .. }, true, false) => Point::HedgeFailsLast,
            (Input::RangeFailed { .. }, false, true) => Point::HedgeCarries,
            (Input::OpCancelled { .. }, true, _) => Point::HedgeCancelled,
            (Input::OpCancelled { .. }, false, _) => Point::HedgedCancelled,
            _ => return,
        };
        self.sometimes(point);
    }
}

impl Fetch {
    /// Whether it is still to bring some of a range. One that waits to be told where to go on brings nothing.
    fn overlaps(&self, range: ByteRange) -> bool {
        !self.unaimed && self.position < range.end && range.start < self.range.end
    }
}
