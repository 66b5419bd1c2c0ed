//! Tests of the store as a whole, and of its rules over every metadata store.

mod crash;
mod durability;
mod overlay;
mod rules;
mod staged;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::database::DatabaseMeta;
use super::layout::Layout;
use super::memory::MemoryMeta;
use super::meta::MetaStore;
use super::{Labels, Options, Pause, Store};

/// A temporary directory, on memory where there is a tmpfs for it.
fn temporary_directory() -> TempDir {
    match Path::new("/dev/shm") {
        memory if memory.is_dir() => TempDir::with_prefix_in("parapull-store-", memory).unwrap(),
        _ => TempDir::with_prefix("parapull-store-").unwrap(),
    }
}

/// Options under which the deleter does not rest.
fn options() -> Options {
    Options {
        pause: Pause {
            entries: 1,
            rest: Duration::ZERO,
        },
        ..Options::default()
    }
}

/// A store on disk.
fn open(root: &TempDir) -> Store {
    Store::open(root.path(), &options()).unwrap()
}

/// A store whose metadata outlives it in `meta`, as a disk would.
fn open_over(root: &TempDir, meta: &MemoryMeta) -> Store {
    let layout = Layout::create(root.path()).unwrap();
    Store::assemble(layout, Box::new(meta.clone()), &options()).unwrap()
}

/// Every kind of metadata store there is, each empty.
fn every_meta(root: &TempDir) -> [(&'static str, Box<dyn MetaStore>); 2] {
    let database = DatabaseMeta::open(&root.path().join("metadata.redb")).unwrap();
    [
        ("memory", Box::new(MemoryMeta::default())),
        ("database", Box::new(database)),
    ]
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The directories of snapshots.
fn snapshot_directories(store: &Store) -> Vec<String> {
    let mut names = super::layout::names_in(&store.inner.layout.snapshots()).unwrap();
    names.sort_unstable();
    names
}

/// Commits an empty snapshot `name` over `parent`.
fn commit_empty(store: &Store, name: &str, parent: &str) {
    let key = format!("{name}-active");
    store.prepare(&key, parent, Labels::new()).unwrap();
    store.commit(name, &key, Labels::new(), None).unwrap();
}
