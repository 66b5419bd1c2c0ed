//! Indexes of layers: where a gzip layer can be entered, so that several threads inflate it without guessing.
//!
//! [`Ztoc`] is the SOCI project's format, which `soci create` writes and registries hold; [`Cache`] keeps what this node's own
//! lanes noted, under the same format. An index is a hint: a wrong one costs time, never a byte, because both digests of a
//! layer are checked whatever it says.

mod build;
mod cache;
mod checkpoints;
mod flat;
mod ztoc;

pub use build::{BuildError, Built, build};
pub use cache::{Cache, CacheError, Pruned};
pub use checkpoints::SPAN_BYTES;
pub use ztoc::{Entry, Ztoc, ZtocError};
