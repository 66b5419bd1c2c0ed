//! Deleting trees in the background, gently: one thread that empties `trash/`.
//!
//! Callers only rename into the trash and nudge; nobody waits for a deletion.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::layout::Layout;
use super::snapshot::now_ns;
use super::worker::Worker;

/// Starts the thread that empties the trash; it begins with what an earlier run left.
pub(super) fn start_deleter(layout: &Layout, pause: Pause) -> std::io::Result<Worker> {
    let trash = layout.trash();
    let deleter = Worker::start("trash", move |stop| empty(&trash, pause, stop))?;
    deleter.nudge();
    Ok(deleter)
}

/// How gently the trash is emptied: a rest after so many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Entries deleted between two rests.
    pub entries: u32,
    /// How long a rest is.
    pub rest: Duration,
}

impl Default for Pause {
    /// 256 entries, then 5 ms: at most 50,000 entries a second, and a journal that others can use in between.
    fn default() -> Self {
        Self {
            entries: 256,
            rest: Duration::from_millis(5),
        }
    }
}

/// Empties the trash in the calling thread, without rests; what another thread takes away meanwhile is gone as well.
pub(super) fn empty_at_once(layout: &Layout) {
    let pause = Pause {
        rest: Duration::ZERO,
        ..Pause::default()
    };
    empty(&layout.trash(), pause, &AtomicBool::new(false));
}

fn empty(trash: &Path, pause: Pause, stop: &AtomicBool) {
    let mut emptying = Emptying {
        path: trash,
        pause,
        stop,
        deleted: 0,
        sequence: now_ns(),
        device: 0,
    };
    match emptying.empty() {
        Ok(()) | Err(Errno::CANCELED) => {}
        Err(error) => {
            tracing::warn!(path = %trash.display(), %error, "failed to empty the trash; it is tried again at the next removal");
        }
    }
}

struct Emptying<'a> {
    path: &'a Path,
    pause: Pause,
    stop: &'a AtomicBool,
    deleted: u32,
    /// Names what is lifted out of too deep trees.
    sequence: u64,
    /// The file system of the trash: what is mounted within a removed snapshot belongs to somebody else.
    device: u64,
}

impl Emptying<'_> {
    /// Deletes all of the trash, as often as something new appears through lifting.
    fn empty(&mut self) -> rustix::io::Result<()> {
        let trash = rustix::fs::open(self.path, DIRECTORY_FLAGS, Mode::empty())?;
        self.device = rustix::fs::fstat(&trash)?.st_dev;
        loop {
            let lifted = self.sequence;
            self.empty_directory(&trash, &trash, 0)?;
            if self.sequence == lifted {
                return Ok(());
            }
        }
    }

    fn empty_directory(
        &mut self,
        trash: &OwnedFd,
        directory: &OwnedFd,
        depth: u32,
    ) -> rustix::io::Result<()> {
        let mut first_error = Ok(());
        let names: Vec<(CString, FileType)> = Dir::read_from(directory)?
            .filter_map(|entry| {
                entry
                    .ok()
                    .map(|entry| (entry.file_name().to_owned(), entry.file_type()))
            })
            .filter(|(name, _)| !matches!(name.to_bytes(), b"." | b".."))
            .collect();
        for (name, kind) in names {
            let deleted = self.delete(trash, directory, &name, kind, depth);
            if let (Ok(()), Err(error)) = (first_error, deleted) {
                first_error = Err(error);
            }
        }
        first_error
    }

    fn delete(
        &mut self,
        trash: &OwnedFd,
        parent: &OwnedFd,
        name: &CString,
        kind: FileType,
        depth: u32,
    ) -> rustix::io::Result<()> {
        self.rest()?;
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if depth == DEPTH_MAX {
            self.sequence += 1;
            return rustix::fs::renameat(parent, name, trash, format!("lifted-{}", self.sequence));
        }
        let directory = match rustix::fs::openat(parent, name, DIRECTORY_FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        if rustix::fs::fstat(&directory)?.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        self.empty_directory(trash, &directory, depth + 1)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    }

    /// Counts one entry, rests when it is time, and ends everything when the store is closed.
    fn rest(&mut self) -> rustix::io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Errno::CANCELED);
        }
        self.deleted += 1;
        if self.deleted.is_multiple_of(self.pause.entries.max(1)) && !self.pause.rest.is_zero() {
            thread::sleep(self.pause.rest);
        }
        Ok(())
    }
}

const DIRECTORY_FLAGS: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::RDONLY);
/// One descriptor is open per level; deeper trees are lifted to the top of the trash and deleted from there.
const DEPTH_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::tests::{mounted_tmpfs, temporary_directory};

    const UNRESTING: Pause = Pause {
        entries: 1,
        rest: Duration::ZERO,
    };

    fn emptied(layout: &Layout, pause: Pause, stop: &AtomicBool) -> rustix::io::Result<u32> {
        let mut emptying = Emptying {
            path: &layout.trash(),
            pause,
            stop,
            deleted: 0,
            sequence: 0,
            device: 0,
        };
        emptying.empty().map(|()| emptying.deleted)
    }

    #[test]
    fn deletes_trees_deeper_than_it_has_descriptors_and_follows_no_link() {
        let root = temporary_directory();
        let layout = Layout::create(root.path()).unwrap();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"").unwrap();
        for tree in ["one", "two"] {
            let mut path = layout.trash().join(tree);
            fs::create_dir(&path).unwrap();
            for level in 0..300 {
                fs::write(path.join("file"), b"content").unwrap();
                std::os::unix::fs::symlink(&outside, path.join("link")).unwrap();
                path.push(format!("d{level}"));
                fs::create_dir(&path).unwrap();
            }
        }
        let deleted = emptied(&layout, UNRESTING, &AtomicBool::new(false)).unwrap();
        assert!(deleted >= 2 * 3 * 300, "{deleted}");
        assert_eq!(fs::read_dir(layout.trash()).unwrap().count(), 0);
        assert!(outside.join("kept").is_file());
    }

    #[test]
    fn what_cannot_be_deleted_keeps_nothing_else_from_it() {
        let root = temporary_directory();
        let layout = Layout::create(root.path()).unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir_all(layout.trash().join(name).join("d")).unwrap();
        }
        let busy = layout.trash().join("b/d");
        let test = "what_cannot_be_deleted_keeps_nothing_else_from_it";
        let Some(mounted) = mounted_tmpfs(test, &busy, 1 << 20) else {
            return;
        };
        fs::write(busy.join("foreign"), b"content").unwrap();
        let error = emptied(&layout, UNRESTING, &AtomicBool::new(false));
        let left = fs::read_dir(layout.trash()).unwrap().count();
        let foreign = busy.join("foreign").is_file();
        drop(mounted);
        assert!(error.is_err());
        assert_eq!(left, 1, "only the directory with the mount is left");
        assert!(
            foreign,
            "what is mounted in a removed snapshot is somebody else's"
        );
        emptied(&layout, UNRESTING, &AtomicBool::new(false)).unwrap();
        assert_eq!(fs::read_dir(layout.trash()).unwrap().count(), 0);
    }

    #[test]
    fn stops_where_it_is_when_the_store_is_closed() {
        let root = temporary_directory();
        let layout = Layout::create(root.path()).unwrap();
        fs::create_dir(layout.trash().join("a")).unwrap();
        let stopped = emptied(&layout, UNRESTING, &AtomicBool::new(true));
        assert_eq!(stopped, Err(Errno::CANCELED));
        assert!(layout.trash().join("a").is_dir());
    }
}
