//! A cold start: the page cache emptied before a run.

use std::{fs, io};

/// The page cache could not be dropped; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
#[error("drop the page cache (write {DROP_CACHES}): {source}")]
pub struct PageCacheError {
    #[from]
    source: io::Error,
}

/// Writes dirty pages out and drops clean ones, with directory entries and inodes, for the whole machine.
///
/// Files on a tmpfs live in the page cache and stay.
///
/// # Errors
/// Without the privilege to.
pub fn drop_page_cache() -> Result<(), PageCacheError> {
    rustix::fs::sync();
    Ok(fs::write(DROP_CACHES, "3")?)
}

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
