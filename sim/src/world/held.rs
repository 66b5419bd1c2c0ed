//! Bytes of one blob that are here: in the window, or in its spool file.

use std::collections::BTreeMap;

use parapull_engine::Destination;

/// What of a blob is present.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Disjoint ranges that do not touch, by start.
    ranges: BTreeMap<u64, u64>,
    /// Bytes a lane has let go of; for a window they are gone.
    pub(super) released: u64,
    pub(super) destination: Option<Destination>,
    /// The first wrong byte among them.
    pub(super) corrupt: Option<u64>,
}

impl Held {
    /// Adds what is missing of `[start, end)`; returns what was.
    pub(super) fn add(&mut self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let missing = self.missing(start, end);
        for (start, end) in &missing {
            self.add_missing(*start, *end);
        }
        missing
    }

    /// What is missing of `[start, end)`, as ranges.
    pub(super) fn missing(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut at = match self.ranges.range(..=start).next_back() {
            Some((_, &stop)) => stop.max(start),
            None => start,
        };
        let mut missing = Vec::new();
        for (&begin, &stop) in self.ranges.range(start..end) {
            if begin > at {
                missing.push((at, begin));
            }
            at = at.max(stop);
        }
        if at < end {
            missing.push((at, end));
        }
        missing
    }

    fn add_missing(&mut self, start: u64, end: u64) {
        let before = self.ranges.range(..=start).next_back();
        let start = match before {
            Some((&begin, &stop)) if stop == start => begin,
            _ => start,
        };
        let end = self.ranges.remove(&end).unwrap_or(end);
        self.ranges.insert(start, end);
    }

    /// The first byte that is missing.
    pub(super) fn frontier(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// Bytes that take up room.
    pub(super) fn bytes(&self) -> u64 {
        let present: u64 = self.ranges.iter().map(|(start, end)| end - start).sum();
        match self.destination {
            Some(Destination::Window) => present - self.released,
            Some(Destination::Spool) | None => present,
        }
    }

    /// Drops everything from `from` on; returns how many bytes took up room.
    pub(super) fn drop_from(&mut self, from: u64) -> u64 {
        let before = self.bytes();
        if from == 0 {
            self.ranges.clear();
            self.released = 0;
            self.corrupt = None;
            return before;
        }
        self.ranges.retain(|start, _| *start < from);
        if let Some(mut last) = self.ranges.last_entry() {
            let end = last.get_mut();
            *end = (*end).min(from);
        }
        if self.corrupt.is_some_and(|offset| offset >= from) {
            self.corrupt = None;
        }
        before - self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_what_touches_and_tells_what_was_missing() {
        let mut held = Held {
            destination: Some(Destination::Window),
            ..Held::default()
        };
        assert_eq!(held.add(10, 20), [(10, 20)]);
        assert_eq!(held.frontier(), 0);
        assert_eq!(held.add(0, 10), [(0, 10)]);
        assert_eq!(held.frontier(), 20);
        assert_eq!(held.add(30, 40), [(30, 40)]);
        assert_eq!(held.missing(5, 45), [(20, 30), (40, 45)]);
        assert_eq!(held.add(15, 20), []);
        assert_eq!(held.bytes(), 30);
        held.released = 5;
        assert_eq!(held.bytes(), 25);
        assert_eq!(held.drop_from(20), 10);
        assert_eq!(held.drop_from(0), 15);
    }
}
