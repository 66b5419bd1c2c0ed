//! Owner, extended attributes, mode and times, in the one order that works: a change of owner clears setuid bits and
//! file capabilities, so these come after it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::error::SinkError;
use super::super::sink::{Attributes, Time};

/// Gives an open file or directory its attributes; times only if `with_times`.
pub(super) fn set_open(
    fd: BorrowedFd<'_>,
    path: &[u8],
    attributes: &Attributes,
    with_times: bool,
) -> Result<(), SinkError> {
    let (uid, gid) = owner(attributes);
    rustix::fs::fchown(fd, uid, gid)
        .map_err(|errno| SinkError::disk("change the owner of", path, errno))?;
    for (name, value) in &attributes.xattrs {
        judge_xattr(
            rustix::fs::fsetxattr(fd, &**name, value, XattrFlags::empty()),
            path,
            name,
            true,
        )?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
        .map_err(|errno| SinkError::disk("change the mode of", path, errno))?;
    if with_times {
        set_times(fd, path, attributes.accessed, attributes.modified)?;
    }
    Ok(())
}

/// Gives a file or directory that has just been made its attributes; what it was made with is not set again.
pub(super) fn set_new(
    fd: BorrowedFd<'_>,
    path: &[u8],
    attributes: &Attributes,
    with_times: bool,
) -> Result<(), SinkError> {
    // An attribute may say something about the mode.
    if !attributes.xattrs.is_empty() {
        return set_open(fd, path, attributes, with_times);
    }
    let stat = rustix::fs::fstat(fd).map_err(|errno| SinkError::disk("look at", path, errno))?;
    if (stat.st_uid, stat.st_gid) != (attributes.uid, attributes.gid) {
        let (uid, gid) = owner(attributes);
        rustix::fs::fchown(fd, uid, gid)
            .map_err(|errno| SinkError::disk("change the owner of", path, errno))?;
    }
    if stat.st_mode & 0o7777 != attributes.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
            .map_err(|errno| SinkError::disk("change the mode of", path, errno))?;
    }
    if with_times {
        set_times(fd, path, attributes.accessed, attributes.modified)?;
    }
    Ok(())
}

/// Gives `leaf` of `parent`, which is not followed, its attributes. For what must not be opened.
pub(super) fn set_leaf(
    parent: BorrowedFd<'_>,
    leaf: &[u8],
    path: &[u8],
    attributes: &Attributes,
    kind: FileType,
) -> Result<(), SinkError> {
    let (uid, gid) = owner(attributes);
    rustix::fs::chownat(parent, leaf, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| SinkError::disk("change the owner of", path, errno))?;
    let takes_user_xattrs = matches!(kind, FileType::RegularFile | FileType::Directory);
    for (name, value) in &attributes.xattrs {
        // There is no way to name an extended attribute by descriptor and leaf before Linux 6.13; the magic link leads
        // to the very directory that is open, and the leaf is not followed.
        let through = [
            format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
            leaf,
        ]
        .concat();
        let set = rustix::fs::lsetxattr(&*through, &**name, value, XattrFlags::empty());
        judge_xattr(set, path, name, takes_user_xattrs)?;
    }
    // A mode cannot be set on a symlink, and must not be set through one.
    if kind != FileType::Symlink {
        rustix::fs::chmodat(
            parent,
            leaf,
            Mode::from_raw_mode(attributes.mode),
            AtFlags::empty(),
        )
        .map_err(|errno| SinkError::disk("change the mode of", path, errno))?;
    }
    let times = timestamps(attributes.accessed, attributes.modified);
    rustix::fs::utimensat(parent, leaf, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| SinkError::disk("change the times of", path, errno))
}

/// Sets the times of an open file or directory.
pub(super) fn set_times(
    fd: BorrowedFd<'_>,
    path: &[u8],
    accessed: Time,
    modified: Time,
) -> Result<(), SinkError> {
    rustix::fs::futimens(fd.as_fd(), &timestamps(accessed, modified))
        .map_err(|errno| SinkError::disk("change the times of", path, errno))
}

/// The kernel's form of two times.
pub(super) const fn timestamps(accessed: Time, modified: Time) -> Timestamps {
    Timestamps {
        last_access: timespec(accessed),
        last_modification: timespec(modified),
    }
}

const fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds as _,
    }
}

fn owner(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(attributes.uid)),
        Some(Gid::from_raw(attributes.gid)),
    )
}

/// What containerd ignores: a file system without these attributes, and `user.*` on what cannot have them.
fn judge_xattr(
    set: rustix::io::Result<()>,
    path: &[u8],
    name: &[u8],
    takes_user_xattrs: bool,
) -> Result<(), SinkError> {
    match set {
        Ok(()) => Ok(()),
        Err(Errno::PERM) if !takes_user_xattrs && name.starts_with(b"user.") => Ok(()),
        Err(Errno::OPNOTSUPP) => {
            tracing::warn!(path = %super::display(path), name = %super::display(name), "extended attribute not supported here");
            Ok(())
        }
        // The last is the kernel's word for a default ACL on what is no directory.
        Err(
            errno @ (Errno::INVAL
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::NAMETOOLONG
            | Errno::ACCESS),
        ) => {
            let name = super::display(name);
            Err(SinkError::bad(
                path,
                format!("its extended attribute {name:?} cannot be set: {errno}"),
            ))
        }
        Err(errno) => Err(SinkError::disk("set an extended attribute of", path, errno)),
    }
}

/// How overlayfs marks a directory that hides what is below.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
