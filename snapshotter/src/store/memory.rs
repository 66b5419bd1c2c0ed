//! Metadata in memory, for tests: the same semantics without a disk, and commits that can be made to fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{Result, StoreError};
use super::meta::{MetaRead, MetaStore, MetaWrite, Record};
use super::steps::passed;

/// Metadata that lives as long as the last clone of this handle.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryMeta {
    state: Arc<Mutex<State>>,
    writer: Arc<Mutex<()>>,
    /// Whether the next commit fails, as with a full disk.
    pub(super) fail_next_commit: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Default)]
struct State {
    records: BTreeMap<String, Record>,
    last_id: u64,
    boot: Option<String>,
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

    fn boot(&self) -> Result<Option<String>> {
        Ok(self.boot.clone())
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

    fn boot(&self) -> Result<Option<String>> {
        self.state.boot()
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

    fn put_boot(&mut self, boot: &str) -> Result<()> {
        self.state.boot = Some(boot.to_owned());
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        passed("before a commit");
        if self.store.fail_next_commit.swap(false, Ordering::SeqCst) {
            return Err(StoreError::metadata("commit")("no space left on device"));
        }
        *lock(&self.store.state) = self.state;
        passed("commit");
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
