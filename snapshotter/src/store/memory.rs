//! Metadata in memory, for tests: the same semantics without a disk, and commits that can be made to fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{Result, StoreError};
use super::meta::{MetaRead, MetaStore, MetaWrite, Record, StagedLayer};

/// Metadata that lives as long as the last clone of this handle.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryMeta {
    state: Arc<Mutex<State>>,
    writer: Arc<Mutex<()>>,
    /// What the next commit does, one of the constants below.
    pub(super) next_commit: Arc<AtomicU32>,
}

/// The next commit works.
const WORK: u32 = 0;
/// The next commit fails, as with a full disk.
pub(super) const FAIL: u32 = 1;
/// The next commit panics before it has done anything: the process dies there.
pub(super) const CRASH_BEFORE: u32 = 2;
/// The next commit panics after it is durable.
pub(super) const CRASH_AFTER: u32 = 3;

#[derive(Debug, Clone, Default)]
struct State {
    records: BTreeMap<String, Record>,
    last_id: u64,
    staged: BTreeMap<String, StagedLayer>,
}

impl MetaStore for MemoryMeta {
    fn read(&self) -> Result<Box<dyn MetaRead>> {
        Ok(Box::new(lock(&self.state).clone()))
    }

    fn write(&self) -> Result<Box<dyn MetaWrite + '_>> {
        let guard = lock(&self.writer);
        Ok(Box::new(Writing {
            state: lock(&self.state).clone(),
            store: self,
            _guard: guard,
        }))
    }
}

impl MetaRead for State {
    fn record(&self, name: &str) -> Result<Option<Record>> {
        Ok(self.records.get(name).cloned())
    }

    fn visit(&self, visitor: &mut dyn FnMut(String, Record) -> Result<()>) -> Result<()> {
        self.records
            .iter()
            .try_for_each(|(name, record)| visitor(name.clone(), record.clone()))
    }

    fn children(&self, parent_id: u64) -> Result<Vec<String>> {
        let children = self
            .records
            .iter()
            .filter(|(_, record)| record.parent_id == parent_id);
        Ok(children.map(|(name, _)| name.clone()).collect())
    }

    fn staged(&self) -> Result<Vec<StagedLayer>> {
        Ok(self.staged.values().cloned().collect())
    }
}

struct Writing<'a> {
    state: State,
    store: &'a MemoryMeta,
    _guard: MutexGuard<'a, ()>,
}

impl MetaRead for Writing<'_> {
    fn record(&self, name: &str) -> Result<Option<Record>> {
        self.state.record(name)
    }

    fn visit(&self, visitor: &mut dyn FnMut(String, Record) -> Result<()>) -> Result<()> {
        self.state.visit(visitor)
    }

    fn children(&self, parent_id: u64) -> Result<Vec<String>> {
        self.state.children(parent_id)
    }

    fn staged(&self) -> Result<Vec<StagedLayer>> {
        self.state.staged()
    }
}

impl MetaWrite for Writing<'_> {
    fn next_id(&mut self) -> Result<u64> {
        self.state.last_id += 1;
        Ok(self.state.last_id)
    }

    fn put(&mut self, name: &str, record: &Record) -> Result<()> {
        self.state.records.insert(name.to_owned(), record.clone());
        Ok(())
    }

    fn delete(&mut self, name: &str, _record: &Record) -> Result<()> {
        self.state.records.remove(name);
        Ok(())
    }

    fn put_staged(&mut self, layer: &StagedLayer) -> Result<()> {
        self.state.staged.insert(layer.key(), layer.clone());
        Ok(())
    }

    fn delete_staged(&mut self, key: &str) -> Result<()> {
        self.state.staged.remove(key);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let next = self.store.next_commit.swap(WORK, Ordering::SeqCst);
        if next == FAIL {
            return Err(StoreError::metadata("commit")("no space left on device"));
        }
        assert_ne!(next, CRASH_BEFORE, "crash before the commit");
        *lock(&self.store.state) = self.state;
        assert_ne!(next, CRASH_AFTER, "crash after the commit");
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
