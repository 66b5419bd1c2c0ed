//! Tests of the store as a whole, and of its rules over every metadata store.

mod crash;
mod durability;
mod overlay;
mod rules;
mod staged;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

use super::database::DatabaseMeta;
use super::layout::Layout;
use super::memory::MemoryMeta;
use super::meta::MetaStore;
use super::{Labels, Options, Pause, Store};

/// A temporary directory, on memory where there is a tmpfs for it.
pub(super) fn temporary_directory() -> TempDir {
    match Path::new("/dev/shm") {
        memory if memory.is_dir() => TempDir::with_prefix_in("parapull-store-", memory).unwrap(),
        _ => TempDir::with_prefix("parapull-store-").unwrap(),
    }
}

/// A tmpfs of `bytes` at `path`, unmounted when dropped; none, said loudly, where mounting is not allowed.
pub(super) fn mounted_tmpfs(test: &str, path: &Path, bytes: u64) -> Option<MountedTmpfs> {
    let options = CString::new(format!("size={bytes}")).unwrap();
    let mounted = rustix::mount::mount(
        "tmpfs",
        path,
        "tmpfs",
        MountFlags::empty(),
        options.as_c_str(),
    );
    if let Err(error) = mounted {
        assert_ne!(
            std::env::var("PARAPULL_REQUIRE_ALL").as_deref(),
            Ok("1"),
            "{test} cannot run: mounting failed: {error}"
        );
        eprintln!("SKIPPED {test}: mounting failed: {error}");
        return None;
    }
    Some(MountedTmpfs(path.to_path_buf()))
}

/// A mount that ends with this.
pub(super) struct MountedTmpfs(PathBuf);

impl Drop for MountedTmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
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
