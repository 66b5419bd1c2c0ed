//! Numbers about a pull: seconds, memory, bytes written; and in which order runs are made so that they compare.
//!
//! It measures and summarises; it starts nothing.

mod machine;
mod page_cache;
mod plan;
mod statistics;
mod usage;
mod written;

pub use machine::Machine;
pub use page_cache::{PageCacheError, drop_page_cache};
pub use plan::{Turn, interleaved};
pub use statistics::Summary;
pub(crate) use statistics::percentile;
pub use usage::ProcessUsage;
pub use written::{FileSystem, WrittenBytes};
