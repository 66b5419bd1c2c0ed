//! Whether the file system that a layer is unpacked to has room for it, and keeps what is reserved.
//!
//! It is looked at, not booked: lanes that run side by side may exceed it by what each writes between two looks.

use std::path::{Path, PathBuf};

use super::error::UnpackError;

/// The room that the layers of one file system share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    directory: PathBuf,
    reserve_bytes: Option<u64>,
}

impl Room {
    /// The room of the file system at `directory`, without what is reserved: by default a hundredth of it, at most 1 GiB, so that
    /// whoever else writes there (logs, containers) is not stopped by a pull.
    pub fn of(directory: &Path, reserve_bytes: Option<u64>) -> Self {
        Self {
            directory: directory.to_path_buf(),
            reserve_bytes,
        }
    }

    /// Passes when so many bytes more fit.
    ///
    /// # Errors
    /// [`UnpackError::Full`]. A file system that does not tell its size has room.
    pub fn check(&self, more_bytes: u64) -> Result<(), UnpackError> {
        // The directory may still have to be made.
        let mut ancestors = self.directory.ancestors();
        let found = ancestors.find_map(|directory| rustix::fs::statvfs(directory).ok());
        let Some(found) = found else {
            return Ok(());
        };
        let total_bytes = found.f_blocks.saturating_mul(found.f_frsize);
        let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
        let enough = || (total_bytes / 100).min(RESERVE_BYTES_MAX);
        let reserve_bytes = self.reserve_bytes.unwrap_or_else(enough);
        if total_bytes > 0 && free_bytes < reserve_bytes.saturating_add(more_bytes) {
            return Err(UnpackError::Full {
                directory: self.directory.clone(),
                free_bytes,
                reserve_bytes,
                more_bytes,
            });
        }
        Ok(())
    }
}

/// Of a disk of terabytes a hundredth is more than anybody misses.
const RESERVE_BYTES_MAX: u64 = 1 << 30;
