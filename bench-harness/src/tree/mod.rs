//! File trees compared entry by entry: what a pull made, against what another pull of the same image made.
//!
//! Trees are read and hashed by `parapull_snapshotter::tree`. Here [`diff()`] tells two of them apart in words, and
//! [`ImageTree`] holds the layers of one pulled image with their merged view as the kernel mounts it. Nothing here knows
//! how an image was pulled.

mod diff;
mod error;
mod image;
mod overlay;
mod snapshots;

pub use parapull_snapshotter::tree::{Entry, Kind, ScanError, Tree, merged, scan};

pub use diff::{Difference, diff};
pub use error::TreeError;
pub use image::ImageTree;
pub use overlay::MergedView;
pub use snapshots::{layers_from_pull, layers_from_snapshots};
