//! The sink that makes a directory which overlayfs takes as a lower layer.
//!
//! Entry for entry it does what containerd's overlayfs applier does; where it differs on purpose the place says so.
//! Every call goes by a directory descriptor and a single name that is not followed: paths are resolved by
//! `resolve` alone, inside the root. Nothing is synced: whoever commits the snapshot decides about durability.

mod attributes;
mod content;
mod copy;
mod implied;
mod remove;
mod resolve;
mod sink;
mod tree;
mod writers;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, IFlags, Mode, OFlags, Uid};
use rustix::io::Errno;

pub use implied::FixError;

use super::error::SinkError;
use tree::Tree;
use writers::Job;

/// Where in the chain of layers a layer stands: containerd applies the bottom one to a plain directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Nothing is below: whiteouts delete what the layer itself wrote before them, and leave no device.
    Bottom,
    /// Something is below, but not known yet: what implied directories take from it is fixed when the layer is linked.
    Upper,
    /// Upon these layers, the topmost first, each an `fs` directory: implied directories take their attributes as they
    /// are made, so that what is made in them inherits as it does under containerd.
    Over(Vec<PathBuf>),
}

/// Writes a layer to a directory in overlay form.
///
/// The tree grows in `<dir>/fs`, unreadable to others until it is finished, and is removed when the sink is dropped
/// unfinished. Needs `CAP_MKNOD`, `CAP_SYS_ADMIN` (trusted attributes), `CAP_CHOWN`, `CAP_FOWNER` and
/// `CAP_DAC_OVERRIDE`, and Linux 5.6 (`openat2`). Descriptors: about 64 directories and one file, and 96 files for the first
/// and 64 for each further thread that it is [lent](super::Sink::share).
#[derive(Debug)]
pub struct OverlaySink {
    dir: PathBuf,
    /// The sink made `dir` itself and takes it along when it is dropped.
    made_dir: bool,
    finished: bool,
    /// Somebody decided about writers already.
    has_fixed_writers: bool,
    position: Position,
    tree: Tree,
    file: Option<OpenFile>,
    entries: u64,
    data_bytes: u64,
    opaque_root: bool,
}

/// The regular file being written.
#[derive(Debug)]
struct OpenFile {
    job: Job,
    /// Where the last data ended.
    end: u64,
    /// It is handed over as a whole, under this key.
    key: Option<u64>,
}

impl OverlaySink {
    /// Begins a layer in `dir`, which must be absent or empty; its parent directory must exist.
    ///
    /// # Errors
    /// [`SinkError::Disk`] if `dir` cannot be made, is not empty, or ignores case: names of a layer that differ only in
    /// case would overwrite each other there.
    pub fn new(dir: &Path, position: Position) -> Result<Self, SinkError> {
        let error = |operation: &'static str, source| SinkError::Disk {
            operation,
            path: dir.display().to_string(),
            source,
        };
        let made_dir = match rustix::fs::mkdirat(CWD, dir, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(error("make the staging directory", errno.into())),
        };
        if !made_dir {
            let mut entries = fs::read_dir(dir)
                .map_err(|source| error("look into the staging directory", source))?;
            if entries.next().is_some() {
                let source = io::Error::from(io::ErrorKind::DirectoryNotEmpty);
                return Err(error("use the staging directory", source));
            }
        }
        let made = make_root(&dir.join(ROOT));
        let (root, lowers) = made
            .and_then(|root| Ok((root, implied::open_lowers(&position)?)))
            .map_err(|errno| {
                discard(dir, made_dir);
                error("make the layer's root in", errno.into())
            })?;
        Ok(Self {
            dir: dir.to_path_buf(),
            made_dir,
            finished: false,
            has_fixed_writers: false,
            tree: Tree::new(root, lowers, position == Position::Bottom),
            position,
            file: None,
            entries: 0,
            data_bytes: 0,
            opaque_root: false,
        })
    }

    /// Writes small files with `writers` threads beside the calling one, whatever the lane has to lend.
    #[must_use]
    pub fn with_writers(mut self, writers: u32) -> Self {
        self.tree.writers.resize(writers as usize);
        self.has_fixed_writers = true;
        self
    }

    fn is_bottom(&self) -> bool {
        self.position == Position::Bottom
    }
}

impl Drop for OverlaySink {
    fn drop(&mut self) {
        self.tree.writers.stop();
        if !self.finished {
            discard(&self.dir, self.made_dir);
        }
    }
}

/// Makes the root, closed to others until the layer is finished. `NOTSUP` where names differing in case are one.
fn make_root(root: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(CWD, root, Mode::from_raw_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    // A file system without such flags has no such directories either.
    if rustix::fs::ioctl_getflags(&fd).is_ok_and(ignores_case) {
        return Err(Errno::NOTSUP);
    }
    rustix::fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o700))?;
    Ok(fd)
}

fn ignores_case(flags: IFlags) -> bool {
    flags.bits() & CASEFOLD_FLAG != 0
}

/// Removes a tree that nobody will want. What cannot be removed is reported, and left to the sweep of staging.
fn discard(dir: &Path, with_dir: bool) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let discarded = rustix::fs::openat(CWD, dir, flags, Mode::empty()).and_then(|fd| {
        remove::remove(fd.as_fd(), ROOT.as_bytes(), b"", &mut |_, _| {})?;
        if with_dir {
            rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    });
    if let Err(errno) = discarded {
        tracing::warn!(dir = %dir.display(), error = %errno, "an unfinished layer could not be removed");
    }
}

/// A path as messages show it: at most 200 bytes of it.
pub(in super::super) fn display(path: &[u8]) -> String {
    let shown = &path[..path.len().min(SHOWN_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(shown).into_owned();
    if shown.len() < path.len() {
        text.push('…');
    }
    text
}

/// The layer's root inside the staging directory, as containerd names it.
const ROOT: &str = "fs";
/// `FS_CASEFOLD_FL` of Linux: names in the directory are compared without case.
const CASEFOLD_FLAG: u32 = 0x4000_0000;
const SHOWN_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flag_alone_says_that_a_directory_ignores_case() {
        assert!(ignores_case(IFlags::from_bits_retain(0x4000_0000)));
        assert!(ignores_case(IFlags::from_bits_retain(0x4008_0000)));
        let every_other = IFlags::from_bits_retain(!0x4000_0000);
        assert!(!ignores_case(every_other));
    }
}
