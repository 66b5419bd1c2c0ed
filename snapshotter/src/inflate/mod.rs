//! Inflating: gzip streams on one thread, or on several that guess at pieces before what stands before them is known.
//!
//! `Gzip` is the stream as a state machine. `ParallelGzip` runs ahead of it: a thread cuts the compressed bytes into
//! stretches (`stretch`), others look for a block in the middle of each (`find`), decode it with markers for what they cannot
//! know (`marked`) until they know enough for zlib-rs (`piece`, `raw`), and the caller's thread puts the pieces in order
//! (`order`): a piece is taken only where it begins exactly at a block's border, everything else is decoded in order. What comes
//! out is the same whatever was guessed.
//!
//! With checkpoints (`Gzip::record` notes them) pieces are entered where they say, at no extra cost.
//!
//! It does not read, verify digests or decide how many threads there are. The method is rapidgzip's (Knespel and Brunst, HPDC 2023).

mod bits;
mod checkpoint;
mod codes;
mod find;
mod gzip;
mod header;
mod marked;
mod order;
mod parallel;
mod piece;
#[doc(hidden)]
pub mod probe;
mod raw;
mod stretch;
#[cfg(test)]
mod tests;

pub use checkpoint::Checkpoint;
pub(crate) use gzip::Gzip;
pub(crate) use parallel::ParallelGzip;
pub(crate) use raw::{Stop, WINDOW_BYTES};
