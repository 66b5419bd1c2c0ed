//! A table that remembers which entries were changed since the queue of fetches last looked at them.

use alloc::vec::Vec;
use core::ops::Index;

use crate::sorted::SortedMap;

/// A table that remembers what was touched.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    entries: SortedMap<K, V>,
    touched: Vec<K>,
}

impl<K: Copy + Ord, V> Table<K, V> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: SortedMap::new(),
            touched: Vec::new(),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        if self.touched.last() != Some(key) {
            self.touched.push(*key);
        }
        Some(entry)
    }

    /// The entry, for a change that means nothing to the queue.
    pub(crate) fn get_unranked_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The entry, made if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.touched.push(key);
        self.entries.get_or_insert_with(key, make)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.touched.push(key);
        self.entries.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.touched.push(*key);
        self.entries.remove(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    pub(crate) fn touch(&mut self, key: K) {
        self.touched.push(key);
    }

    /// Something changed that concerns all of them.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.entries.keys());
    }

    pub(crate) const fn is_untouched(&self) -> bool {
        self.touched.is_empty()
    }

    /// Moves what was touched behind what `keys` holds.
    pub(crate) fn take_touched(&mut self, keys: &mut Vec<K>) {
        keys.append(&mut self.touched);
    }
}

impl<K: Copy + Ord, V> Index<&K> for Table<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.entries[key]
    }
}
