//! How many bytes a pull wrote, and to which kind of file system.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};

use super::ProcessUsage;

/// A file system, by what matters for a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type, such as `tmpfs`; the magic number in hex when unknown.
    pub name: String,
    /// Bytes in use on all of it.
    pub used_bytes: u64,
}

impl FileSystem {
    /// The file system `path` lies on.
    ///
    /// # Errors
    /// When the path does not exist.
    pub fn of(path: &Path) -> io::Result<Self> {
        let magic = statfs(path)?.f_type & 0xffff_ffff;
        let space = statvfs(path)?;
        let known = MAGICS.iter().find(|(number, _)| *number == magic);
        Ok(Self {
            name: known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned()),
            used_bytes: (space.f_blocks - space.f_bfree) * space.f_frsize,
        })
    }

    fn has_device(&self) -> bool {
        self.name != "tmpfs"
    }
}

/// Counts bytes written from its making to [`WrittenBytes::finish`].
///
/// On a file system with a device it is what the processes dirtied (see [`ProcessUsage::written_bytes`]), so a spool
/// that is written and deleted counts once it reached the device's queue. On a tmpfs the kernel does not count, so it is
/// the growth of the file system: deleted files are missing from it, and everybody's writes are in it; the workspace is
/// therefore a tmpfs of its own.
#[derive(Debug)]
pub struct WrittenBytes {
    path: PathBuf,
    before: FileSystem,
    processes: Vec<(u32, u64)>,
}

impl WrittenBytes {
    /// Starts counting for `processes` that write below `path`.
    ///
    /// # Errors
    /// When the path does not exist.
    pub fn start(path: &Path, processes: &[u32]) -> io::Result<Self> {
        let written = |&id: &u32| {
            (
                id,
                ProcessUsage::of(id).map_or(0, |usage| usage.written_bytes),
            )
        };
        Ok(Self {
            path: path.into(),
            before: FileSystem::of(path)?,
            processes: processes.iter().map(written).collect(),
        })
    }

    /// Bytes written since the start.
    ///
    /// # Errors
    /// When the path has vanished.
    pub fn finish(self) -> io::Result<u64> {
        if self.before.has_device() {
            let since = |&(id, before): &(u32, u64)| {
                ProcessUsage::of(id).map_or(0, |usage| usage.written_bytes.saturating_sub(before))
            };
            return Ok(self.processes.iter().map(since).sum());
        }
        Ok(FileSystem::of(&self.path)?
            .used_bytes
            .saturating_sub(self.before.used_bytes))
    }
}

/// statfs(2), "f_type".
const MAGICS: [(i64, &str); 6] = [
    (0x0102_1994, "tmpfs"),
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x794c_7630, "overlay"),
    (0xf2f5_2010, "f2fs"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_growth_on_a_tmpfs() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        assert_eq!(FileSystem::of(directory.path()).unwrap().name, "tmpfs");
        let meter = WrittenBytes::start(directory.path(), &[]).unwrap();
        std::fs::write(directory.path().join("file"), vec![1; 8 << 20]).unwrap();
        // Others share /dev/shm, so only the order of magnitude is certain.
        assert!(meter.finish().unwrap() >= 1 << 20);
    }
}
