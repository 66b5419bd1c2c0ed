//! Compressed bytes on disk, for the strategies that store a layer before they unpack it.
//!
//! A spool file has no name: whatever happens to the process, nothing is left.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::unpack::Cancelled;

/// The stored bytes of one blob; clones share the file.
#[derive(Clone, Debug)]
pub struct SpoolFile {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    written: AtomicU64,
    cancelled: AtomicBool,
}

/// Why a spool file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("use the spool in {}: {source}", directory.display())]
pub struct SpoolError {
    directory: PathBuf,
    source: io::Error,
}

impl SpoolFile {
    /// Makes an unnamed file in `directory`, which must exist.
    ///
    /// # Errors
    /// When the file system refuses it or does not support `O_TMPFILE`.
    pub fn create(directory: &Path) -> Result<Self, SpoolError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| {
                SpoolError {
                    directory: directory.to_path_buf(),
                    source: errno.into(),
                }
            })?;
        Ok(Self {
            shared: Arc::new(Shared {
                file: file.into(),
                written: AtomicU64::new(0),
                cancelled: AtomicBool::new(false),
            }),
        })
    }

    /// Stores bytes at an offset.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.shared.file.write_all_at(bytes, offset)?;
        self.shared
            .written
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes stored so far.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Reads the first `size` bytes; `report` is told what was read so far before each further read.
    pub fn reader(&self, size: u64, report: Box<dyn FnMut(u64) + Send>) -> SpoolReader {
        SpoolReader {
            file: self.clone(),
            size,
            next: 0,
            report,
        }
    }

    /// Makes every reader end.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Reads a stored blob from its start.
pub struct SpoolReader {
    file: SpoolFile,
    size: u64,
    next: u64,
    report: Box<dyn FnMut(u64) + Send>,
}

impl Read for SpoolReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.file.shared.cancelled.load(Ordering::Relaxed) {
            return Err(Cancelled.into());
        }
        (self.report)(self.next);
        let left = usize::try_from(self.size - self.next).unwrap_or(usize::MAX);
        let wanted = out.len().min(left);
        let count = self
            .file
            .shared
            .file
            .read_at(&mut out[..wanted], self.next)?;
        self.next += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_stored_out_of_order() {
        let directory = tempfile::tempdir().unwrap();
        let spool = SpoolFile::create(directory.path()).unwrap();
        spool.write_at(3, b"def").unwrap();
        spool.write_at(0, b"abc").unwrap();
        let mut text = String::new();
        spool
            .reader(6, Box::new(|_| ()))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!((text.as_str(), spool.written()), ("abcdef", 6));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cancelled_reader_ends() {
        let directory = tempfile::tempdir().unwrap();
        let spool = SpoolFile::create(directory.path()).unwrap();
        spool.cancel();
        assert!(spool.reader(6, Box::new(|_| ())).read(&mut [0; 4]).is_err());
    }
}
