//! Tests of the store as a whole, and of its rules over every metadata store.

mod crash;
mod database;
mod durability;
mod kept;
mod overlay;
mod rules;
mod staged;

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

use super::database::DatabaseMeta;
use super::durability::Disk;
use super::layout::Layout;
use super::memory::MemoryMeta;
use super::meta::MetaStore;
use super::{CommitStaged, CommittedStaged, Format, Labels, Options, Pause, Store, Usage};
use crate::digest::Digest;

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
    let disk = Disk::of(layout.root()).unwrap();
    Store::assemble(layout, Arc::new(meta.clone()), disk, &options()).unwrap()
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

/// Makes a tree with one file in the staging area, named after its layer.
fn staged_tree(store: &Store, layer: &str) -> PathBuf {
    let staging = store.staging_directory("job", layer).unwrap();
    fs::create_dir(staging.fs()).unwrap();
    fs::write(staging.fs().join(layer), b"content").unwrap();
    staging.fs()
}

/// The request to commit the tree at `fs` for CRI.
fn commit_request(fs: &Path, chain: &Digest, parent: Option<&str>) -> CommitStaged {
    CommitStaged {
        snapshot_ref: *chain,
        parent: parent.map(str::to_owned),
        namespace: "k8s.io".to_owned(),
        labels: labels(&[("containerd.io/snapshot/cri.image-ref", "a:1")]),
        fs: fs.to_path_buf(),
        usage: Usage {
            bytes: 4096,
            inodes: 2,
        },
        format: Format::Overlay,
        opaque_root: false,
    }
}

/// Commits a tree of its own for `layer`; answers its name.
fn link(store: &Store, layer: &str, parent: Option<&str>) -> String {
    let fs = staged_tree(store, layer);
    let chain = Digest::of(layer.as_bytes());
    match store.commit_staged(commit_request(&fs, &chain, parent)) {
        Ok(CommittedStaged::Linked { name }) => name,
        other => panic!("{layer}: {other:?}"),
    }
}

/// The names of all snapshots.
fn names(store: &Store) -> Vec<String> {
    let mut names = Vec::new();
    store
        .walk(|info| {
            names.push(info.name);
            Ok(())
        })
        .unwrap();
    names
}
