//! A set that grows at its end: ids that count up, deadlines that all lie equally far ahead.
//!
//! It is a ring buffer in order. What is taken out of its middle stays as a gap until it reaches an end, or until there
//! are more gaps than entries; so adding costs the same however much it holds, and taking out costs a search by halving.

use alloc::collections::VecDeque;

/// An ordered set of what comes in ascending order.
#[derive(Debug)]
pub(crate) struct Ascending<T> {
    /// In order; the first and the last one are no gaps.
    slots: VecDeque<Slot<T>>,
    gaps: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    item: T,
    is_gap: bool,
}

impl<T> Default for Ascending<T> {
    fn default() -> Self {
        Self {
            slots: VecDeque::new(),
            gaps: 0,
        }
    }
}

impl<T: Copy + Ord> Ascending<T> {
    /// Adds what is greater than all it holds; anything else is not added, and the answer is false.
    pub(crate) fn push(&mut self, item: T) -> bool {
        if self.slots.back().is_some_and(|last| last.item >= item) {
            return false;
        }
        self.slots.push_back(Slot {
            item,
            is_gap: false,
        });
        true
    }

    /// Takes something out; whether it was there.
    pub(crate) fn remove(&mut self, item: &T) -> bool {
        let Some(at) = self.find(item) else {
            return false;
        };
        self.slots[at].is_gap = true;
        self.gaps += 1;
        self.trim();
        if self.gaps * 2 > self.slots.len() {
            self.slots.retain(|slot| !slot.is_gap);
            self.gaps = 0;
        }
        true
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.slots.front().map(|slot| &slot.item)
    }

    pub(crate) fn contains(&self, item: &T) -> bool {
        self.find(item).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.gaps
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let held = self.slots.iter().filter(|slot| !slot.is_gap);
        held.map(|slot| &slot.item)
    }

    fn find(&self, item: &T) -> Option<usize> {
        // What came first mostly goes first.
        if self.first() == Some(item) {
            return Some(0);
        }
        let found = self.slots.binary_search_by(|slot| slot.item.cmp(item));
        found.ok().filter(|at| !self.slots[*at].is_gap)
    }

    /// Drops the gaps at both ends.
    fn trim(&mut self) {
        while self.slots.pop_front_if(|slot| slot.is_gap).is_some() {
            self.gaps -= 1;
        }
        while self.slots.pop_back_if(|slot| slot.is_gap).is_some() {
            self.gaps -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn does_what_a_tree_does(steps in proptest::collection::vec((0u8..4, 0u32..40), 0..300)) {
            let (mut set, mut tree) = (Ascending::default(), BTreeSet::new());
            for (what, item) in steps {
                match what {
                    0 => {
                        let grows = tree.last().is_none_or(|last| *last < item);
                        prop_assert_eq!(set.push(item), grows && tree.insert(item));
                    }
                    1 => {
                        let next = tree.last().map_or(0, |last| last + 1);
                        prop_assert!(set.push(next) && tree.insert(next));
                    }
                    _ => prop_assert_eq!(set.remove(&item), tree.remove(&item)),
                }
                prop_assert_eq!(set.contains(&item), tree.contains(&item));
                prop_assert_eq!((set.len(), set.first()), (tree.len(), tree.first()));
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), tree.iter().collect::<Vec<_>>());
                prop_assert!(set.slots.len() <= 2 * set.len() + 1);
            }
        }
    }
}
