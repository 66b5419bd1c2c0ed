//! What a lane knows of the inside of its layer's compressed stream, and what it is to note of it.

use crate::inflate::Checkpoint;

/// Where a gzip layer can be entered, known or to be noted.
#[derive(Clone, Debug, Default)]
pub struct Indexing {
    /// Checkpoints of the compressed stream, in order; several threads start there instead of guessing. Wrong ones cost time.
    pub known: Vec<Checkpoint>,
    /// Uncompressed bytes between two checkpoints to note; nothing is noted without it.
    pub note_span_bytes: Option<u64>,
}
