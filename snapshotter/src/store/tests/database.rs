//! The database under power failures: whatever write is the last to reach the disk, it opens again with what was committed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::super::catalog;
use super::super::database::DatabaseMeta;
use super::super::meta::MetaStore;
use super::super::snapshot::{Kind, Labels};
use super::{commit_empty, mounted_tmpfs, open, temporary_directory};

/// A disk in memory that loses power after a number of operations: the writes since the last sync are then kept or lost as `keep` says.
#[derive(Debug, Clone)]
struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
    operations_left: Option<u32>,
    operations: u32,
}

impl Disk {
    fn with(bytes: Vec<u8>, operations_left: Option<u32>) -> Self {
        let state = State {
            synced: bytes.clone(),
            current: bytes,
            operations_left,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What is on the disk after the power failure, every second unsynced write from `first` on being lost.
    fn after_failure(&self, first: usize) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let mut bytes = state.synced.clone();
        bytes.resize(state.current.len().max(bytes.len()), 0);
        for (offset, data) in state.pending.iter().skip(first).step_by(2) {
            let start = usize::try_from(*offset).unwrap();
            if start + data.len() <= bytes.len() {
                bytes[start..start + data.len()].copy_from_slice(data);
            }
        }
        bytes
    }

    fn operation(&self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.operations += 1;
        if let Some(left) = &mut state.operations_left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("no power"))?;
        }
        change(&mut state);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let source = state.current.get(start..start + out.len());
        out.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operation(|state| state.current.resize(usize::try_from(length).unwrap(), 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operation(|state| {
            state.synced = state.current.clone();
            state.pending.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operation(|state| {
            let start = usize::try_from(offset).unwrap();
            state.current[start..start + data.len()].copy_from_slice(data);
            state.pending.push((offset, data.to_vec()));
        })
    }
}

/// Creates snapshots one transaction each until the power fails; answers the keys whose commit was confirmed.
fn create_until_failure(disk: &Disk) -> BTreeSet<String> {
    let mut confirmed = BTreeSet::new();
    let Ok(meta) = DatabaseMeta::with_backend(disk.clone()) else {
        return confirmed;
    };
    for number in 0..4 {
        let key = format!("key-{number}");
        let created = meta.write().and_then(|mut transaction| {
            catalog::create(transaction.as_mut(), Kind::Active, &key, "", Labels::new())?;
            transaction.commit()
        });
        if created.is_ok() {
            confirmed.insert(key);
        }
    }
    confirmed
}

fn keys(meta: &DatabaseMeta) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let view = meta.read().unwrap();
    view.visit(&mut |name, _| {
        keys.insert(name);
        Ok(())
    })
    .unwrap();
    keys
}

#[test]
fn no_power_failure_loses_what_was_confirmed() {
    // A formatted database first, so that the failures hit commits and not the formatting.
    let formatted = Disk::with(Vec::new(), None);
    drop(DatabaseMeta::with_backend(formatted.clone()).unwrap());
    let bytes = formatted.after_failure(0);

    let whole = Disk::with(bytes.clone(), None);
    assert_eq!(create_until_failure(&whole).len(), 4);
    let operations = whole.state.lock().unwrap().operations;
    assert!(
        operations > 20,
        "{operations} operations are too few to be a test"
    );

    for operation in 0..operations {
        for first in 0..3 {
            let disk = Disk::with(bytes.clone(), Some(operation));
            let confirmed = create_until_failure(&disk);
            let context = format!(
                "power failed at operation {operation} of {operations}, writes from {first} kept"
            );
            let after = Disk::with(disk.after_failure(first), None);
            let meta = DatabaseMeta::with_backend(after)
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = keys(&meta);
            assert!(
                confirmed.is_subset(&found),
                "{context}: {confirmed:?} of {found:?}"
            );
            assert!(
                found.len() <= confirmed.len() + 1,
                "{context}: {confirmed:?} of {found:?}"
            );
        }
    }
}

#[test]
fn a_full_disk_ends_operations_but_not_the_store() {
    let root = temporary_directory();
    let test = "a_full_disk_ends_operations_but_not_the_store";
    let Some(mounted) = mounted_tmpfs(test, root.path(), 16 << 20) else {
        return;
    };
    let store = open(&root);
    commit_empty(&store, "base", "");
    let filler = root.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}

    let mut prepared = 0;
    while store
        .prepare(&format!("key-{prepared}"), "base", Labels::new())
        .is_ok()
    {
        prepared += 1;
        assert!(prepared < 10_000, "the disk is never full");
    }
    store.prepare("again", "base", Labels::new()).unwrap_err();
    assert_eq!(store.stat("base").unwrap().name, "base", "reading goes on");

    fs::remove_file(&filler).unwrap();
    drop(file);
    store.prepare("after", "base", Labels::new()).unwrap();
    store.remove("after").unwrap();
    drop(store);
    let store = open(&root);
    assert_eq!(store.recovery().dropped, []);
    assert_eq!(store.stat("base").unwrap().name, "base");
    drop(store);
    drop(mounted);
}
