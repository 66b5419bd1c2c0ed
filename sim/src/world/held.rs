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
    /// Adds `[start, end)`; `false` when some of it was there.
    pub(super) fn add(&mut self, start: u64, end: u64) -> bool {
        let before = self.ranges.range(..=start).next_back();
        let after = self.ranges.range(start..).next();
        if before.is_some_and(|(_, &stop)| stop > start)
            || after.is_some_and(|(&begin, _)| begin < end)
        {
            return false;
        }
        let start = match before {
            Some((&begin, &stop)) if stop == start => begin,
            _ => start,
        };
        let end = self.ranges.remove(&end).unwrap_or(end);
        self.ranges.insert(start, end);
        true
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
    fn joins_what_touches_and_notices_what_comes_twice() {
        let mut held = Held {
            destination: Some(Destination::Window),
            ..Held::default()
        };
        assert!(held.add(10, 20));
        assert_eq!(held.frontier(), 0);
        assert!(held.add(0, 10));
        assert_eq!(held.frontier(), 20);
        assert!(!held.add(19, 21));
        assert!(held.add(30, 40));
        assert_eq!(held.bytes(), 30);
        held.released = 5;
        assert_eq!(held.bytes(), 25);
        assert_eq!(held.drop_from(20), 10);
        assert_eq!(held.drop_from(0), 15);
    }
}
