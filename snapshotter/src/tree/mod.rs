//! File trees as values: what a pull made, entry by entry, and the one digest of it all.
//!
//! [`scan()`] reads a directory without following symbolic links, [`merged()`] lays layers over each other as overlayfs
//! does, [`image_sha256()`] is the `tree_sha256` that reports carry. Nothing here knows how an image was pulled, and
//! nothing is mounted.

mod digest;
mod entry;
mod merged;
mod scan;

pub use digest::image_sha256;
pub use entry::{Entry, Kind, Tree};
pub use merged::merged;
pub use scan::{ScanError, scan};
