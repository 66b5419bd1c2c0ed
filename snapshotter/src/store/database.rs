//! Metadata in a redb file: one table of records, one of children, one of counters, one of facts.
//!
//! Every commit is two-phase: redb's one-phase commits had losses after double crashes that two-phase ones never had.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, TransactionError, WriteTransaction,
};

use super::error::{Result, StoreError};
use super::meta::{MetaRead, MetaStore, MetaWrite, Record, SCHEMA};
use super::steps::passed;

/// Metadata in a redb database.
#[derive(Debug)]
pub(super) struct DatabaseMeta {
    /// None only between a failed attempt to open it again and the next.
    database: RwLock<Option<Database>>,
    /// Where to open the database again after an IO error; none for a given backend.
    path: Option<PathBuf>,
}

impl DatabaseMeta {
    /// Opens or creates the database file at `path`; fails if another process has it open.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::with_database(open_file(path)?, Some(path.to_path_buf()))
    }

    /// Keeps the database in `backend`.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the seam at which tests lose and tear writes")
    )]
    pub(super) fn with_backend(backend: impl StorageBackend) -> Result<Self> {
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(StoreError::metadata("open"))?;
        Self::with_database(database, None)
    }

    fn with_database(database: Database, path: Option<PathBuf>) -> Result<Self> {
        initialise(&database)?;
        Ok(Self {
            database: RwLock::new(Some(database)),
            path,
        })
    }

    /// Runs `begin`; after an earlier IO error (a full disk, say) redb refuses all work until the file is opened again, so this does.
    fn begin<T>(&self, begin: impl Fn(&Database) -> Result<T, TransactionError>) -> Result<T> {
        let first = self
            .database
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(&begin);
        match (first, &self.path) {
            (Some(Ok(begun)), _) => Ok(begun),
            (None | Some(Err(TransactionError::Storage(StorageError::PreviousIo))), Some(path)) => {
                self.begin_again(path, begin)
            }
            (Some(Err(error)), _) => Err(StoreError::metadata("begin a transaction on")(error)),
            (None, None) => Err(StoreError::metadata("begin a transaction on")(
                "the database is closed",
            )),
        }
    }

    fn begin_again<T>(
        &self,
        path: &Path,
        begin: impl Fn(&Database) -> Result<T, TransactionError>,
    ) -> Result<T> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have done it while this waited.
        if let Some(Ok(begun)) = database.as_ref().map(&begin) {
            return Ok(begun);
        }
        tracing::warn!(path = %path.display(), "opening the snapshot metadata again after an earlier IO error");
        // Dropped first: the file is locked as long as the old one lives.
        drop(database.take());
        let opened = database.insert(open_file(path)?);
        begin(opened).map_err(StoreError::metadata("begin a transaction on"))
    }
}

impl MetaStore for DatabaseMeta {
    fn read(&self) -> Result<Box<dyn MetaRead>> {
        Ok(Box::new(Reading(self.begin(Database::begin_read)?)))
    }

    fn write(&self) -> Result<Box<dyn MetaWrite + '_>> {
        let mut transaction = self.begin(Database::begin_write)?;
        transaction.set_two_phase_commit(true);
        Ok(Box::new(Writing(transaction)))
    }
}

struct Reading(ReadTransaction);

impl MetaRead for Reading {
    fn record(&self, name: &str) -> Result<Option<Record>> {
        find(
            &self
                .0
                .open_table(RECORDS)
                .map_err(StoreError::metadata("read"))?,
            name,
        )
    }

    fn visit(&self, visitor: &mut dyn FnMut(String, Record) -> Result<()>) -> Result<()> {
        visit_all(
            &self
                .0
                .open_table(RECORDS)
                .map_err(StoreError::metadata("read"))?,
            visitor,
        )
    }

    fn children(&self, parent_id: u64) -> Result<Vec<String>> {
        children_of(
            &self
                .0
                .open_table(CHILDREN)
                .map_err(StoreError::metadata("read"))?,
            parent_id,
        )
    }

    fn boot(&self) -> Result<Option<String>> {
        boot_in(
            &self
                .0
                .open_table(FACTS)
                .map_err(StoreError::metadata("read"))?,
        )
    }
}

struct Writing(WriteTransaction);

impl MetaRead for Writing {
    fn record(&self, name: &str) -> Result<Option<Record>> {
        find(
            &self
                .0
                .open_table(RECORDS)
                .map_err(StoreError::metadata("read"))?,
            name,
        )
    }

    fn visit(&self, visitor: &mut dyn FnMut(String, Record) -> Result<()>) -> Result<()> {
        visit_all(
            &self
                .0
                .open_table(RECORDS)
                .map_err(StoreError::metadata("read"))?,
            visitor,
        )
    }

    fn children(&self, parent_id: u64) -> Result<Vec<String>> {
        children_of(
            &self
                .0
                .open_table(CHILDREN)
                .map_err(StoreError::metadata("read"))?,
            parent_id,
        )
    }

    fn boot(&self) -> Result<Option<String>> {
        boot_in(
            &self
                .0
                .open_table(FACTS)
                .map_err(StoreError::metadata("read"))?,
        )
    }
}

impl MetaWrite for Writing {
    fn next_id(&mut self) -> Result<u64> {
        let mut counters = self
            .0
            .open_table(COUNTERS)
            .map_err(StoreError::metadata("write"))?;
        let last = value_of(&counters, LAST_ID)?;
        let next = last + 1;
        counters
            .insert(LAST_ID, next)
            .map_err(StoreError::metadata("write"))?;
        Ok(next)
    }

    fn put(&mut self, name: &str, record: &Record) -> Result<()> {
        let bytes = record.encode()?;
        let mut records = self
            .0
            .open_table(RECORDS)
            .map_err(StoreError::metadata("write"))?;
        records
            .insert(name, bytes.as_slice())
            .map_err(StoreError::metadata("write"))?;
        let mut children = self
            .0
            .open_table(CHILDREN)
            .map_err(StoreError::metadata("write"))?;
        children
            .insert((record.parent_id, record.id), name)
            .map_err(StoreError::metadata("write"))?;
        Ok(())
    }

    fn delete(&mut self, name: &str, record: &Record) -> Result<()> {
        let mut records = self
            .0
            .open_table(RECORDS)
            .map_err(StoreError::metadata("write"))?;
        records
            .remove(name)
            .map_err(StoreError::metadata("write"))?;
        let mut children = self
            .0
            .open_table(CHILDREN)
            .map_err(StoreError::metadata("write"))?;
        children
            .remove((record.parent_id, record.id))
            .map_err(StoreError::metadata("write"))?;
        Ok(())
    }

    fn put_boot(&mut self, boot: &str) -> Result<()> {
        let mut facts = self
            .0
            .open_table(FACTS)
            .map_err(StoreError::metadata("write"))?;
        facts
            .insert(BOOT, boot)
            .map_err(StoreError::metadata("write"))?;
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        passed("before a commit");
        self.0.commit().map_err(StoreError::metadata("commit"))?;
        passed("commit");
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<Database> {
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|source| StoreError::Io {
            action: "open the snapshot metadata in",
            path: path.to_path_buf(),
            source: std::io::Error::other(source),
        })
}

/// Creates what is missing and refuses what a newer version wrote.
fn initialise(database: &Database) -> Result<()> {
    let mut transaction = database
        .begin_write()
        .map_err(StoreError::metadata("begin a transaction on"))?;
    transaction.set_two_phase_commit(true);
    {
        transaction
            .open_table(RECORDS)
            .map_err(StoreError::metadata("create"))?;
        transaction
            .open_table(CHILDREN)
            .map_err(StoreError::metadata("create"))?;
        transaction
            .open_table(FACTS)
            .map_err(StoreError::metadata("create"))?;
        let mut counters = transaction
            .open_table(COUNTERS)
            .map_err(StoreError::metadata("create"))?;
        match value_of(&counters, SCHEMA_KEY)? {
            0 => {
                counters
                    .insert(SCHEMA_KEY, SCHEMA)
                    .map_err(StoreError::metadata("create"))?;
            }
            SCHEMA => {}
            found => {
                return Err(StoreError::NewerSchema {
                    found,
                    known: SCHEMA,
                });
            }
        }
    }
    transaction.commit().map_err(StoreError::metadata("create"))
}

fn value_of(counters: &impl ReadableTable<&'static str, u64>, key: &str) -> Result<u64> {
    let found = counters.get(key).map_err(StoreError::metadata("read"))?;
    Ok(found.map_or(0, |value| value.value()))
}

fn find(
    records: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Record>> {
    let found = records.get(name).map_err(StoreError::metadata("read"))?;
    found
        .map(|bytes| Record::decode(name, bytes.value()))
        .transpose()
}

fn visit_all(
    records: &impl ReadableTable<&'static str, &'static [u8]>,
    visitor: &mut dyn FnMut(String, Record) -> Result<()>,
) -> Result<()> {
    for entry in records.iter().map_err(StoreError::metadata("read"))? {
        let (name, bytes) = entry.map_err(StoreError::metadata("read"))?;
        visitor(
            name.value().to_owned(),
            Record::decode(name.value(), bytes.value())?,
        )?;
    }
    Ok(())
}

fn children_of(
    children: &impl ReadableTable<(u64, u64), &'static str>,
    parent_id: u64,
) -> Result<Vec<String>> {
    let range = children
        .range((parent_id, 0)..=(parent_id, u64::MAX))
        .map_err(StoreError::metadata("read"))?;
    range
        .map(|entry| {
            Ok(entry
                .map_err(StoreError::metadata("read"))?
                .1
                .value()
                .to_owned())
        })
        .collect()
}

fn boot_in(facts: &impl ReadableTable<&'static str, &'static str>) -> Result<Option<String>> {
    let found = facts.get(BOOT).map_err(StoreError::metadata("read"))?;
    Ok(found.map(|boot| boot.value().to_owned()))
}

/// Name to record.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
/// (Parent's id, own id) to name.
const CHILDREN: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("children");
/// What is known of the store as a whole.
const FACTS: TableDefinition<'_, &str, &str> = TableDefinition::new("facts");
const BOOT: &str = "boot";
/// Schema version and id sequence.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const SCHEMA_KEY: &str = "schema";
const LAST_ID: &str = "last_id";
/// A thousand snapshots with CRI labels take about 5 MiB; redb's default of 1 GiB would be charged to a daemon that needs none of it.
const CACHE_BYTES: usize = 16 << 20;
