//! From the paths of entries to open directories, inside the root.
//!
//! A parent path is tried by one `openat2` that allows no symlink. Where that fails it is walked component by
//! component: symlinks of the layer are followed by hand, never by the kernel, so that they cannot leave the root, and
//! missing directories are made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::error::SinkError;
use super::super::path::{LayerPath, join, split};
use super::super::sink::Inherited;
use super::implied::{self, Copied, IMPLIED_MODE};
use super::tree::{BLOCK_BYTES, Directory, Known, Tree, set_opaque};

/// What to do about directories that a path needs and the layer does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

impl Tree {
    /// The directory at `path`, which need not be a real path.
    pub(super) fn resolve(
        &mut self,
        path: &[u8],
        missing: Missing,
    ) -> Result<Arc<Directory>, SinkError> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(known) = self.parents.get(path) {
            return Ok(Arc::clone(known));
        }
        // Only of a clean path without symlinks is it known that it is the real one.
        if LayerPath::clean(path).is_none_or(|clean| clean.as_bytes() != path) {
            return self.walk(path, missing);
        }
        match open_beneath(self.root(), path) {
            Ok(fd) => Ok(self.keep(path, fd, path.to_vec())),
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => {
                self.walk(path, missing)
            }
            Err(errno) => Err(refused("open the directory", path, errno)),
        }
    }

    /// Keeps a directory open under the name by which it was found.
    pub(super) fn keep(&mut self, name: &[u8], fd: OwnedFd, path: Vec<u8>) -> Arc<Directory> {
        if self.parents.len() >= PARENTS_MAX {
            self.parents.clear();
        }
        let directory = Arc::new(Directory { fd, path });
        self.parents.insert(name.to_vec(), Arc::clone(&directory));
        directory
    }

    /// Resolves `path` with the layer's symlinks, then makes what is missing of it.
    fn walk(&mut self, path: &[u8], missing: Missing) -> Result<Arc<Directory>, SinkError> {
        let resolved = self.follow(path)?;
        if resolved.path.len() > REAL_PATH_BYTES_MAX {
            return Err(SinkError::bad(path, "its real path is too long"));
        }
        if resolved.is_missing {
            if missing == Missing::Refuse {
                return Err(SinkError::bad(path, "the layer has no such directory"));
            }
            self.make_missing(&resolved.path)?;
        }
        if resolved.path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let fd = open_beneath(self.root(), &resolved.path)
            .map_err(|errno| refused("open the directory", path, errno))?;
        if resolved.is_stable {
            return Ok(self.keep(path, fd, resolved.path));
        }
        Ok(Arc::new(Directory {
            fd,
            path: resolved.path,
        }))
    }

    /// Follows the layer's own symlinks. What does not exist is taken for a directory to come, as containerd does.
    fn follow(&self, path: &[u8]) -> Result<Resolved, SinkError> {
        let mut pending: Vec<Vec<u8>> = reversed_components(path);
        let mut real = Vec::new();
        let mut here = Some(self.reopen(b"")?);
        let mut links = 0;
        let mut is_stable = true;
        let mut is_blocked = false;
        while let Some(component) = pending.pop() {
            if component == b".." {
                is_stable &= here.is_some();
                is_blocked = false;
                real.truncate(split(&real).0.len());
                here = self.open_if_exists(&real)?;
                continue;
            }
            let next = join(&real, &component);
            if is_blocked {
                break;
            }
            let Some(fd) = &here else {
                real = next;
                continue;
            };
            match look_at(fd.as_fd(), &component) {
                Ok(Found::Directory(child)) => (real, here) = (next, Some(child)),
                Ok(Found::Symlink(target)) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(SinkError::bad(
                            path,
                            format!("it leads through more than {LINKS_MAX} symlinks"),
                        ));
                    }
                    if target.first() == Some(&b'/') {
                        real.clear();
                        here = Some(self.reopen(b"")?);
                    }
                    pending.extend(reversed_components(&target));
                }
                // Only `..` may follow, as in containerd's resolution.
                Ok(Found::Other) if !self.is_whited_out(&next) => {
                    (real, here) = (next, None);
                    is_blocked = true;
                }
                Err(Errno::NOENT) | Ok(Found::Other) => (real, here) = (next, None),
                Err(errno) => return Err(refused("look up", path, errno)),
            }
        }
        if is_blocked {
            return Err(SinkError::bad(
                path,
                "it leads through something that is not a directory",
            ));
        }
        Ok(Resolved {
            path: real,
            is_missing: here.is_none(),
            is_stable,
        })
    }

    /// Makes the missing directories of a real path as containerd does: 0755, with the attributes of the lower layers.
    fn make_missing(&mut self, path: &[u8]) -> Result<(), SinkError> {
        let mut parent = Arc::clone(&self.root);
        for component in path.split(|byte| *byte == b'/') {
            let here = join(&parent.path, component);
            let existing = open_beneath(parent.fd.as_fd(), component);
            let fd = match existing {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    self.make_implied(&parent, component, &here)?
                }
                Err(errno) => return Err(refused("open the directory", &here, errno)),
            };
            parent = Arc::new(Directory { fd, path: here });
        }
        Ok(())
    }

    fn make_implied(
        &mut self,
        parent: &Directory,
        leaf: &[u8],
        path: &[u8],
    ) -> Result<OwnedFd, SinkError> {
        let error = |errno| refused("make the directory", path, errno);
        let is_whited_out = self.is_whited_out(path);
        if is_whited_out {
            self.remove(parent, leaf)?;
        }
        rustix::fs::mkdirat(&parent.fd, leaf, Mode::from_raw_mode(IMPLIED_MODE)).map_err(error)?;
        let fd = open_beneath(parent.fd.as_fd(), leaf).map_err(error)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(IMPLIED_MODE)).map_err(error)?;
        self.count(BLOCK_BYTES);
        let above = self.directories.get(&parent.path);
        let is_fresh =
            is_whited_out || above.is_some_and(|known| known.is_fresh && known.times.is_none());
        let mut known = Known {
            implied: (!is_fresh).then_some(Inherited::Everything),
            in_implied: above.is_some_and(Known::is_implied),
            is_fresh,
            ..Known::default()
        };
        if is_whited_out {
            set_opaque(fd.as_fd(), path)?;
        }
        if !is_fresh && !self.lowers.is_empty() {
            // Only a directory with an entry of its own gives its group to what is made in it: an implied one has mode 0755.
            let group = if known.in_implied {
                0
            } else {
                rustix::fs::fstat(&fd).map_err(error)?.st_gid
            };
            let copied = implied::inherit(fd.as_fd(), path, &self.lowers).map_err(error)?;
            known.copied = Copied { group, ..copied };
        }
        self.directories.insert(path.to_vec(), known);
        Ok(fd)
    }

    fn reopen(&self, path: &[u8]) -> Result<OwnedFd, SinkError> {
        let error = |errno| refused("open the directory", path, errno);
        if path.is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(&self.root.fd, 0).map_err(error);
        }
        open_beneath(self.root(), path).map_err(error)
    }

    fn open_if_exists(&self, path: &[u8]) -> Result<Option<OwnedFd>, SinkError> {
        if path.is_empty() {
            return self.reopen(path).map(Some);
        }
        match open_beneath(self.root(), path) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(refused("open the directory", path, errno)),
        }
    }
}

/// Where a path leads.
struct Resolved {
    path: Vec<u8>,
    is_missing: bool,
    /// It leads there until a directory or symlink is removed. Not so if a missing directory was left by `..`.
    is_stable: bool,
}

enum Found {
    Directory(OwnedFd),
    Symlink(Vec<u8>),
    Other,
}

fn look_at(parent: BorrowedFd<'_>, leaf: &[u8]) -> rustix::io::Result<Found> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, leaf, flags, Mode::empty())?;
    Ok(
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Directory => Found::Directory(fd),
            FileType::Symlink => {
                Found::Symlink(rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes())
            }
            _ => Found::Other,
        },
    )
}

/// Opens a directory at a path without symlinks, inside `root`.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// An errno of a call that names something: the name's fault or the disk's.
pub(super) fn refused(operation: &'static str, path: &[u8], errno: Errno) -> SinkError {
    match errno {
        Errno::NAMETOOLONG => SinkError::bad(path, "a name in it is longer than 255 bytes"),
        Errno::INVAL | Errno::NOTDIR | Errno::ILSEQ | Errno::LOOP => {
            SinkError::bad(path, format!("failed to {operation}: {errno}"))
        }
        _ => SinkError::disk(operation, path, errno),
    }
}

fn reversed_components(path: &[u8]) -> Vec<Vec<u8>> {
    let components = path.split(|byte| *byte == b'/');
    let named = components.filter(|component| !matches!(*component, b"" | b"."));
    named.rev().map(<[u8]>::to_vec).collect()
}

/// Open directories kept per layer: archives come in depth-first order, so few are needed at a time.
const PARENTS_MAX: usize = 64;
/// The kernel's own limit of symlinks in a path.
const LINKS_MAX: u32 = 40;
/// `PATH_MAX` without its zero byte: what the kernel takes for a path.
const REAL_PATH_BYTES_MAX: usize = 4095;
