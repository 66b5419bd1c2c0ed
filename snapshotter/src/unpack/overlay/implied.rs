//! What implied directories take from the layers below, as containerd's `mkparent` gives it to them.
//!
//! Each lower layer is looked at alone, from the top, and the first that has the directory decides: its attributes may
//! come from one that an opaque marker of a nearer layer hides. Something else in its place ends the search.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::path::split;
use super::super::sink::{Inherited, Staged, Time};
use super::Position;
use super::attributes::timestamps;
use super::resolve::open_beneath;

/// The root of a lower layer.
pub(super) type Lower = OwnedFd;

/// Why the implied directories of a layer could not be fixed.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// A directory has a default ACL below, which everything made in it would have inherited: the layer must be
    /// unpacked again over its parents ([`Position::Over`]). Nothing was changed.
    #[error("link the layer: {path:?} has a default ACL in a lower layer")]
    NeedsParents {
        /// The directory, relative to the layer's root.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("take the attributes of {path:?} from the layers below: {source}")]
    Disk {
        /// The directory, relative to the layer's root; the root itself if a layer could not be opened.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Staged {
    /// Gives implied directories what the layers below say: owner, mode, times and extended attributes.
    ///
    /// `lowers` are the `fs` directories of the parent chain, the topmost first. A directory that none of them has
    /// keeps 0755 root and the time of the layer's newest entry. To be called once per tree, before it is renamed;
    /// it costs a few calls per implied directory and lower layer.
    ///
    /// # Errors
    /// [`FixError::NeedsParents`] before anything is changed; [`FixError::Disk`] possibly after.
    pub fn fix_implied(&self, lowers: &[PathBuf]) -> Result<(), FixError> {
        if self.implied.is_empty() || lowers.is_empty() {
            return Ok(());
        }
        let disk = |path: &Path, errno: Errno| FixError::Disk {
            path: path.to_path_buf(),
            source: errno.into(),
        };
        let lowers = open_all(lowers).map_err(|errno| disk(Path::new("/"), errno))?;
        let mut found = BTreeMap::new();
        for implied in &self.implied {
            let source = find(implied.path.as_os_str().as_bytes(), &lowers)
                .map_err(|errno| disk(&implied.path, errno))?;
            if source.as_ref().is_some_and(Source::has_default_acl) {
                return Err(FixError::NeedsParents {
                    path: implied.path.clone(),
                });
            }
            found.insert(implied.path.as_os_str().as_bytes(), source);
        }
        let root = open_directory(&self.root).map_err(|errno| disk(Path::new("/"), errno))?;
        for implied in &self.implied {
            let path = implied.path.as_os_str().as_bytes();
            let above = found
                .get(split(path).0)
                .and_then(Option::as_ref)
                .filter(|_| implied.in_implied);
            let source = found.get(path).and_then(Option::as_ref);
            fix(root.as_fd(), path, implied.inherited, source, above)
                .map_err(|errno| disk(&implied.path, errno))?;
        }
        Ok(())
    }
}

/// What an implied directory has been given from a lower layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    /// The group it would have without any lower layer: its parent's, if that one is setgid.
    pub(super) group: u32,
    /// Access and modification time, to be set in the end.
    pub(super) times: Option<(Time, Time)>,
    /// Names of the extended attributes.
    pub(super) xattrs: Vec<Vec<u8>>,
}

/// Copies the attributes of the first lower directory at `path` to an implied directory that has just been made.
pub(super) fn inherit(
    fd: BorrowedFd<'_>,
    path: &[u8],
    lowers: &[Lower],
) -> rustix::io::Result<Copied> {
    let Some(source) = find(path, lowers)? else {
        return Ok(Copied::default());
    };
    source.copy_owner_and_mode(fd)?;
    source.copy_xattrs(fd)?;
    Ok(Copied {
        times: Some(source.times()),
        xattrs: source.xattrs.into_iter().map(|(name, _)| name).collect(),
        ..Copied::default()
    })
}

/// Takes back what [`inherit`] gave to a directory that turns out to be hidden from the layers below; one that has an
/// entry of its own keeps what that says.
pub(super) fn disinherit(
    fd: BorrowedFd<'_>,
    copied: &Copied,
    is_implied: bool,
) -> rustix::io::Result<()> {
    if is_implied {
        rustix::fs::fchown(fd, Some(Uid::ROOT), Some(Gid::from_raw(copied.group)))?;
    }
    for name in &copied.xattrs {
        match rustix::fs::fremovexattr(fd, &**name) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    if is_implied {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(IMPLIED_MODE))?;
    }
    Ok(())
}

/// The lower layers that a position knows.
pub(super) fn open_lowers(position: &Position) -> rustix::io::Result<Vec<Lower>> {
    match position {
        Position::Bottom | Position::Upper => Ok(Vec::new()),
        Position::Over(lowers) => open_all(lowers),
    }
}

fn open_all(lowers: &[PathBuf]) -> rustix::io::Result<Vec<Lower>> {
    lowers.iter().map(|lower| open_directory(lower)).collect()
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// A directory of a lower layer.
struct Source {
    stat: Stat,
    /// Without `trusted.*`, which containerd does not copy.
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Finds the first lower layer that has `path` as a directory; symlinks of that layer are followed inside it.
fn find(path: &[u8], lowers: &[Lower]) -> rustix::io::Result<Option<Source>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for lower in lowers {
        match rustix::fs::openat2(lower, path, flags, Mode::empty(), resolve) {
            Ok(fd) => return Source::read(fd.as_fd()).map(Some),
            Err(Errno::NOENT) => {}
            // A file, a whiteout or a circle of symlinks is in the way: what lies below it is hidden. containerd
            // refuses the layer if it is not the last component that is in the way.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

impl Source {
    fn read(fd: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(fd)?;
        let mut xattrs = Vec::new();
        let mut names = vec![0; XATTR_BYTES_MAX];
        let length = match rustix::fs::flistxattr(fd, &mut names[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let names = names[..length].split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty() && !name.starts_with(b"trusted.")) {
            let mut value = vec![0; XATTR_BYTES_MAX];
            match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    xattrs.push((name.to_vec(), value));
                }
                Err(Errno::OPNOTSUPP | Errno::NODATA) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self { stat, xattrs })
    }

    fn has_default_acl(&self) -> bool {
        self.xattrs.iter().any(|(name, _)| name == DEFAULT_ACL)
    }

    fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.stat.st_mode & 0o7777)
    }

    fn copy_owner_and_mode(&self, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let (uid, gid) = (
            Uid::from_raw(self.stat.st_uid),
            Gid::from_raw(self.stat.st_gid),
        );
        rustix::fs::fchown(to, Some(uid), Some(gid))?;
        rustix::fs::fchmod(to, self.mode())
    }

    /// Attributes that are there already stay.
    fn copy_xattrs(&self, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        for (name, value) in &self.xattrs {
            match rustix::fs::fsetxattr(to, &**name, value, XattrFlags::CREATE) {
                Ok(()) | Err(Errno::EXIST | Errno::OPNOTSUPP | Errno::NODATA) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn times(&self) -> (Time, Time) {
        let time = |seconds: i64, nanoseconds: u64| Time {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        (
            time(self.stat.st_atime, self.stat.st_atime_nsec),
            time(self.stat.st_mtime, self.stat.st_mtime_nsec),
        )
    }
}

/// Fixes one directory; `above` is where its implied parent has its attributes from.
fn fix(
    root: BorrowedFd<'_>,
    path: &[u8],
    inherited: Inherited,
    source: Option<&Source>,
    above: Option<&Source>,
) -> rustix::io::Result<()> {
    let fd = open_beneath(root, path)?;
    match (inherited, source) {
        (Inherited::Everything, Some(source)) => {
            source.copy_owner_and_mode(fd.as_fd())?;
            source.copy_xattrs(fd.as_fd())?;
            let (accessed, modified) = source.times();
            rustix::fs::futimens(&fd, &timestamps(accessed, modified))
        }
        // Made in a setgid directory it would have had that one's group.
        (Inherited::Everything, None) => match above {
            Some(above) if above.mode().contains(Mode::SGID) => {
                rustix::fs::fchown(&fd, None, Some(Gid::from_raw(above.stat.st_gid)))
            }
            _ => Ok(()),
        },
        (Inherited::Xattrs, Some(source)) => {
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode & 0o7777);
            source.copy_xattrs(fd.as_fd())?;
            // An access ACL changes the mode; the directory's own entry came after it.
            rustix::fs::fchmod(&fd, mode)
        }
        (Inherited::Xattrs, None) => Ok(()),
    }
}

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// What containerd gives a directory that no entry describes.
pub(super) const IMPLIED_MODE: u32 = 0o755;
/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const XATTR_BYTES_MAX: usize = 65_536;
