//! The order in which one image's blobs are read on.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::id::BlobId;

/// What decides between the blobs of an image; the smallest is served first.
pub(crate) type Rank = (u8, u64, bool, Reverse<u64>, u32, BlobId);

/// A blob's place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) rank: Rank,
    /// Its whole read is open: it needs credit and no permit.
    pub(crate) is_open: bool,
}

/// Blobs of an image that have a next step, most urgent first.
///
/// Two rows instead of trees: an image has some dozens of layers, and a blob mostly moves by a few places.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    all: Vec<Rank>,
    /// Those that need no permit.
    open: Vec<Rank>,
}

impl Ranks {
    /// Puts a blob in its place, out of the one it had.
    pub(crate) fn put(&mut self, from: Option<Place>, to: Option<Place>) {
        let rank = |place: Option<Place>| place.map(|place| place.rank);
        let of_open = |place: Option<Place>| rank(place.filter(|place| place.is_open));
        shift(&mut self.all, rank(from), rank(to));
        shift(&mut self.open, of_open(from), of_open(to));
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Rank] {
        &self.all
    }

    /// Those that need no permit.
    pub(crate) fn open(&self) -> &[Rank] {
        &self.open
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Moves one entry of a sorted row, and what lies between its places.
fn shift(row: &mut Vec<Rank>, from: Option<Rank>, to: Option<Rank>) {
    let from = from.and_then(|rank| row.binary_search(&rank).ok());
    let before = |to: Rank| move |rank: &Rank| *rank < to;
    match (from, to) {
        (None, None) => {}
        (Some(from), None) => {
            row.remove(from);
        }
        (None, Some(to)) => row.insert(row.partition_point(before(to)), to),
        (Some(from), Some(to)) => {
            let at = row.partition_point(before(to));
            if at > from {
                row.copy_within(from + 1..at, from);
                row[at - 1] = to;
            } else {
                row.copy_within(at..from, at + 1);
                row[at] = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stays_in_order(steps in proptest::collection::vec((0u32..12, proptest::option::of((0u8..3, 0u64..40, proptest::bool::ANY))), 0..200)) {
            let (mut ranks, mut places) = (Ranks::default(), BTreeMap::new());
            for (id, to) in steps {
                let to = to.map(|(tier, remaining, is_open)| Place {
                    rank: (tier, 0, false, Reverse(remaining), 0, BlobId(id)),
                    is_open,
                });
                ranks.put(places.get(&id).copied(), to);
                match to {
                    Some(to) => places.insert(id, to),
                    None => places.remove(&id),
                };
                let mut all: Vec<_> = places.values().map(|place| place.rank).collect();
                let open = places.values().filter(|place| place.is_open);
                let mut open: Vec<_> = open.map(|place| place.rank).collect();
                all.sort_unstable();
                open.sort_unstable();
                prop_assert_eq!(ranks.all(), all);
                prop_assert_eq!(ranks.open(), open);
            }
        }
    }
}
