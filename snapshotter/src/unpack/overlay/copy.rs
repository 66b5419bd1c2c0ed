//! A second tree of a staged layer, for another image that wants the same one.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};

use super::super::sink::Staged;
use super::ROOT;

impl Staged {
    /// Makes the same tree again in `dir`, which must be absent or empty, sharing file contents where the file system can.
    ///
    /// # Errors
    /// When something cannot be read or made; what was made is removed.
    pub fn copy_to(&self, dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let root = dir.join(ROOT);
        let copied = copy_tree(&self.root, &root, &mut BTreeMap::new());
        if copied.is_err() {
            let _ = fs::remove_dir_all(&root);
        }
        copied.map(|()| Self {
            root,
            ..self.clone()
        })
    }
}

/// Where each inode with several names was copied to.
type Links = BTreeMap<(u64, u64), PathBuf>;

/// Copies one entry and all below it. Nobody else writes to a staged tree, and only real directories are descended into,
/// so paths lead where they seem to.
fn copy_tree(from: &Path, to: &Path, links: &mut Links) -> io::Result<()> {
    let stat = rustix::fs::statat(CWD, from, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let inode = (stat.st_dev, stat.st_ino);
    if let (true, Some(first)) = (kind != FileType::Directory, links.get(&inode)) {
        rustix::fs::linkat(CWD, first, CWD, to, AtFlags::empty())?;
        return Ok(());
    }
    if stat.st_nlink > 1 && kind != FileType::Directory {
        links.insert(inode, to.to_path_buf());
    }
    let private = Mode::from_raw_mode(0o600);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(CWD, to, Mode::from_raw_mode(0o700))?;
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                copy_tree(&from.join(&name), &to.join(&name), links)?;
            }
        }
        FileType::RegularFile => copy_file(from, to)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(CWD, from, Vec::new())?;
            rustix::fs::symlinkat(target, CWD, to)?;
        }
        kind => rustix::fs::mknodat(CWD, to, kind, private, stat.st_rdev)?,
    }
    copy_attributes(from, to, &stat, kind)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut target: File = rustix::fs::openat(CWD, to, flags, Mode::from_raw_mode(0o600))?.into();
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let size = source.metadata()?.size();
    io::copy(&mut source, &mut target)?;
    target.set_len(size)
}

fn copy_attributes(from: &Path, to: &Path, stat: &Stat, kind: FileType) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    let mut names = vec![0; XATTR_LIST_BYTES_MAX];
    let length = rustix::fs::llistxattr(from, &mut names)?;
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let mut value = vec![0; XATTR_LIST_BYTES_MAX];
        let length = rustix::fs::lgetxattr(from, name, &mut value)?;
        rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    if kind != FileType::Symlink {
        rustix::fs::chmodat(
            CWD,
            to,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )?;
    }
    let timespec = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    let times = Timestamps {
        last_access: timespec(stat.st_atime, stat.st_atime_nsec),
        last_modification: timespec(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// The kernel's bound on a list of names and on a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_LIST_BYTES_MAX: usize = 64 << 10;
