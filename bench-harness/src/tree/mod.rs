//! File trees compared entry by entry: what a pull made, against what another pull of the same image made.
//!
//! [`scan()`] reads a directory without following symbolic links, [`diff()`] tells two trees apart in words, and
//! [`ImageTree`] holds the layers of one pulled image and their merged view with the `tree_sha256` of it all. Nothing
//! here knows how an image was pulled.

mod diff;
mod digest;
mod entry;
mod error;
mod image;
mod overlay;
mod scan;
mod snapshots;

pub use diff::{Difference, diff};
pub use entry::{Entry, Kind, Tree};
pub use error::TreeError;
pub use image::ImageTree;
pub use overlay::MergedView;
pub use scan::scan;
pub use snapshots::{layers_from_pull, layers_from_snapshots};
