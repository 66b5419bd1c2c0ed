//! Where things lie under the root, and the file operations that make, move and discard them.
//!
//! ```text
//! <root> 0700             metadata.redb
//! ├── snapshots/ 0700     <id>/fs 0755, <id>/work 0711 (active only); new-* while being made
//! ├── staging/ 0700       <job>/<layer>/: layers unpacked ahead of their Prepare
//! ├── trash/ 0700         what the deleter is about to remove
//! └── empty 0555          the lower layer of an overlay that has no parent
//! ```
//! Everything lies on one file system, so that every move is a rename.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Result, StoreError};
use super::snapshot::now_ns;
use super::steps::passed;

/// The directories of a store.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// Makes names of temporary directories unique within this process.
    sequence: AtomicU64,
}

/// The owner of a snapshot's root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Layout {
    /// Creates what is missing under `root`.
    pub(super) fn create(root: &Path) -> Result<Self> {
        make_directory(root, 0o700)?;
        let root = fs::canonicalize(root).map_err(StoreError::io("resolve", root))?;
        check_name(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o700))
            .map_err(StoreError::io("protect", &root))?;
        let layout = Self {
            root,
            sequence: AtomicU64::new(now_ns()),
        };
        for directory in [layout.snapshots(), layout.staging(), layout.trash()] {
            make_directory(&directory, 0o700)?;
        }
        make_directory(&layout.empty(), 0o555)?;
        check_entry_types(&layout.root)?;
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn metadata(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// A directory in which nothing ever is.
    pub(super) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(super) fn snapshot(&self, id: u64) -> PathBuf {
        self.snapshots().join(id.to_string())
    }

    /// The tree of snapshot `id`: its upper directory while active, a lower one when committed.
    pub(super) fn upper(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("fs")
    }

    pub(super) fn work(&self, id: u64) -> PathBuf {
        self.snapshot(id).join("work")
    }

    /// Makes `snapshots/new-*` with an empty `fs` and, for an active snapshot, `work`.
    pub(super) fn make_new(&self, writable: bool) -> Result<PathBuf> {
        let new = self.make_new_empty()?;
        let made = make_with_mode(&new.join("fs"), 0o755).and_then(|()| match writable {
            true => make_with_mode(&new.join("work"), 0o711),
            false => Ok(()),
        });
        match made {
            Ok(()) => Ok(new),
            Err(error) => {
                self.discard(&new);
                Err(error)
            }
        }
    }

    /// Makes `snapshots/new-*` without anything in it.
    pub(super) fn make_new_empty(&self) -> Result<PathBuf> {
        let new = self.snapshots().join(format!("new-{}", self.unique()));
        make_with_mode(&new, 0o700)?;
        Ok(new)
    }

    /// Renames `new` to the place of snapshot `id`; what lies there without a record goes to the trash.
    pub(super) fn put_in_place(&self, new: &Path, id: u64) -> Result<()> {
        let place = self.snapshot(id);
        match fs::rename(new, &place) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                tracing::warn!(path = %place.display(), "a directory without a record lies in the way; moving it to the trash");
                self.discard(&place);
                rename(new, &place)
            }
            result => {
                passed("put in place");
                result.map_err(StoreError::io("move a new snapshot to", &place))
            }
        }
    }

    /// Moves `path` to the trash at once; a failure is reported and left to the next start.
    pub(super) fn discard(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = self.trash().join(format!("{name}-{}", self.unique()));
        match fs::rename(path, &target) {
            Ok(()) => {
                passed("discard");
                true
            }
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "failed to move a directory to the trash; it is tried again at the next start");
                false
            }
        }
    }

    /// A number that no earlier run and no other call has had.
    pub(super) fn unique(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }
}

/// Refuses a root whose name overlay mount options cannot carry.
fn check_name(root: &Path) -> Result<()> {
    match root.to_str() {
        Some(name) if !name.contains([':', ',', '\\']) => Ok(()),
        _ => Err(StoreError::InvalidArgument(format!(
            "root {}: mount options cannot carry ':', ',', '\\' or bytes that are not UTF-8; choose another directory",
            root.display()
        ))),
    }
}

/// Refuses a file system that does not tell the type of directory entries: overlayfs would show whiteouts as files on it.
fn check_entry_types(root: &Path) -> Result<()> {
    let entries = File::open(root)
        .and_then(|directory| Ok(rustix::fs::Dir::read_from(directory)?))
        .map_err(StoreError::io("list", root))?;
    let typed = entries.filter_map(std::result::Result::ok).any(|entry| {
        entry.file_name() == c"snapshots" && entry.file_type() == rustix::fs::FileType::Directory
    });
    match typed {
        true => Ok(()),
        false => Err(StoreError::FailedPrecondition(format!(
            "{} does not support d_type; if it is xfs, make it again with ftype=1",
            root.display()
        ))),
    }
}

/// The owner of `path`.
pub(super) fn owner_of(path: &Path) -> Result<Owner> {
    let metadata = fs::metadata(path).map_err(StoreError::io("stat parent", path))?;
    Ok(Owner {
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Gives `path` to `owner`.
pub(super) fn give_to(path: &Path, owner: Owner) -> Result<()> {
    lchown(path, Some(owner.uid), Some(owner.gid)).map_err(StoreError::io("chown", path))?;
    passed("chown");
    Ok(())
}

/// Renames within the root.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(StoreError::io("rename", from))?;
    passed("rename");
    Ok(())
}

/// Sets exactly `mode`, whatever the umask.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(StoreError::io("chmod", path))?;
    passed("chmod");
    Ok(())
}

/// The names in directory `path`.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(path).map_err(StoreError::io("list", path))?;
    entries
        .map(|entry| {
            let entry = entry.map_err(StoreError::io("list", path))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(StoreError::io("create directory", path))
}

fn make_with_mode(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(StoreError::io("create directory", path))?;
    passed("make a directory");
    set_mode(path, mode)
}
