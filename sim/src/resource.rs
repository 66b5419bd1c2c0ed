//! What is scarce: rates shared among many (link, cores) and a disk with a page cache before it.
//!
//! Integers only, so that a run is the same on every machine. Nothing here knows what is transferred or why.

mod disk;
mod fair;
mod pool;

pub(crate) use disk::Disk;
pub(crate) use pool::Pool;
