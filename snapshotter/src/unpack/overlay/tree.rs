//! What is remembered of a layer's tree while it grows: directories, whiteouts, open parents, usage.
//!
//! How a path is resolved stands in `resolve`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::super::error::SinkError;
use super::super::path::join;
use super::super::sink::{Inherited, Time, Usage};
use super::attributes::OPAQUE;
use super::implied::{Copied, Lower};
use super::remove;
use super::writers::Writers;

/// The layer's tree under construction.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Arc<Directory>,
    pub(super) lowers: Vec<Lower>,
    /// Directories by the paths under which entries name them; dropped as a whole when a directory or symlink goes.
    pub(super) parents: HashMap<Vec<u8>, Arc<Directory>>,
    /// Every directory but the root, by its real path.
    pub(super) directories: BTreeMap<Vec<u8>, Known>,
    /// Real paths that whiteouts of this layer hide in the layers below.
    whiteouts: BTreeSet<Vec<u8>>,
    /// Real paths at which an entry was unpacked and removed again, while they matter: see [`Self::is_unpacked`].
    removed: Option<BTreeSet<Vec<u8>>>,
    pub(super) usage: Usage,
    /// Newest modification time of an entry.
    pub(super) newest: Time,
    /// What other threads do to files that were made.
    pub(super) writers: Writers,
}

/// An open directory of the layer.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// Its real path, empty for the root.
    pub(super) path: Vec<u8>,
}

/// What is remembered of a directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Access and modification time of its own entry.
    pub(super) times: Option<(Time, Time)>,
    /// No entry made it; what it has from below is to be fixed.
    pub(super) implied: Option<Inherited>,
    /// Its parent was such a directory when it was made.
    pub(super) in_implied: bool,
    /// It stands where this layer hides what is below, so it and what it implies have nothing from there.
    pub(super) is_fresh: bool,
    /// What it has been given from a lower layer already.
    pub(super) copied: Copied,
}

impl Known {
    /// No entry has made it.
    pub(super) fn is_implied(&self) -> bool {
        self.implied == Some(Inherited::Everything)
    }
}

impl Tree {
    /// An empty tree. What is removed is remembered for a bottom layer only.
    pub(super) fn new(root: OwnedFd, lowers: Vec<Lower>, is_bottom: bool) -> Self {
        Self {
            root: Arc::new(Directory {
                fd: root,
                path: Vec::new(),
            }),
            lowers,
            parents: HashMap::new(),
            directories: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            removed: is_bottom.then(BTreeSet::new),
            usage: Usage {
                bytes: BLOCK_BYTES,
                inodes: 1,
            },
            newest: Time::default(),
            writers: Writers::default(),
        }
    }

    /// The layer's root.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.fd.as_fd()
    }

    /// Remembers that the directory `leaf` of `parent` exists, is open as `fd`, and what is `known` of it.
    pub(super) fn made_directory(
        &mut self,
        parent: &Directory,
        leaf: &[u8],
        fd: OwnedFd,
        known: Known,
    ) {
        let path = join(&parent.path, leaf);
        self.keep(&path, fd, path.clone());
        self.directories.insert(path, known);
    }

    /// Notes a whiteout of the real path `path`.
    pub(super) fn note_whiteout(&mut self, path: Vec<u8>) {
        self.whiteouts.insert(path);
    }

    /// True if this layer hides what is below at the real path `path`.
    pub(super) fn is_whited_out(&self, path: &[u8]) -> bool {
        self.whiteouts.contains(path)
    }

    /// Counts a new inode with `bytes` of data.
    pub(super) fn count(&mut self, bytes: u64) {
        self.usage.inodes += 1;
        self.usage.bytes += bytes.next_multiple_of(BLOCK_BYTES);
    }

    /// Removes `leaf` of `parent` with everything below it, if it exists.
    pub(super) fn remove(&mut self, parent: &Directory, leaf: &[u8]) -> Result<(), SinkError> {
        self.writers.settle()?;
        let path = join(&parent.path, leaf);
        let (usage, directories, removed) = (&mut self.usage, &self.directories, &mut self.removed);
        let mut breaks_paths = false;
        let mut account = |path: &[u8], stat: &Stat| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            breaks_paths |= matches!(kind, FileType::Directory | FileType::Symlink);
            if stat.st_nlink <= 1 || kind == FileType::Directory {
                usage.inodes = usage.inodes.saturating_sub(1);
                usage.bytes = usage.bytes.saturating_sub(disk_bytes(kind, stat));
            }
            let is_implied = directories.get(path).is_some_and(Known::is_implied);
            if let Some(removed) = removed.as_mut().filter(|_| !is_implied) {
                removed.insert(path.to_vec());
            }
        };
        let done = remove::remove(parent.fd.as_fd(), leaf, &path, &mut account);
        if breaks_paths {
            self.parents.clear();
            self.directories.remove(&path);
            let below = [path.as_slice(), b"/"].concat();
            let end = [path.as_slice(), b"0"].concat();
            let directories: Vec<_> = self
                .directories
                .range(below.clone()..end.clone())
                .map(|(path, _)| path.clone())
                .collect();
            for directory in directories {
                self.directories.remove(&directory);
            }
            let whiteouts: Vec<_> = self.whiteouts.range(below..end).cloned().collect();
            for whiteout in whiteouts {
                self.whiteouts.remove(&whiteout);
            }
        }
        done.map_err(|errno| SinkError::disk("remove", &path, errno))
    }

    /// Real paths of the directories below `path` for which `is_wanted` holds.
    pub(super) fn directories_below(
        &self,
        path: &[u8],
        is_wanted: impl Fn(&Known) -> bool,
    ) -> Vec<Vec<u8>> {
        let is_below = |candidate: &[u8]| {
            path.is_empty()
                || candidate
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with(b"/"))
        };
        let all = self.directories.range(path.to_vec()..);
        all.take_while(|(candidate, _)| candidate.starts_with(path))
            .filter(|(candidate, known)| is_below(candidate) && is_wanted(known))
            .map(|(candidate, _)| candidate.clone())
            .collect()
    }

    /// True if an entry of this layer stands or once stood at the real path `path`.
    pub(super) fn is_unpacked(&self, path: &[u8]) -> bool {
        let is_implied = self.directories.get(path).is_some_and(Known::is_implied);
        !is_implied
            || self
                .removed
                .as_ref()
                .is_some_and(|removed| removed.contains(path))
    }
}

/// Marks a directory opaque to overlayfs.
pub(super) fn set_opaque(fd: BorrowedFd<'_>, path: &[u8]) -> Result<(), SinkError> {
    rustix::fs::fsetxattr(fd, OPAQUE, b"y", rustix::fs::XattrFlags::empty())
        .map_err(|errno| SinkError::disk("mark opaque", path, errno))
}

/// What an inode is counted with, as [`Tree::count`] counted it.
fn disk_bytes(kind: FileType, stat: &Stat) -> u64 {
    match kind {
        FileType::Directory => BLOCK_BYTES,
        FileType::RegularFile => u64::try_from(stat.st_size)
            .unwrap_or(0)
            .next_multiple_of(BLOCK_BYTES),
        _ => 0,
    }
}

/// `None` if the file does not exist.
pub(super) fn stat_leaf(parent: BorrowedFd<'_>, leaf: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What a file system allocates at least.
pub(super) const BLOCK_BYTES: u64 = 4096;
