//! Places at which a gzip stream can be entered: a bit, and the bytes before it.

use super::raw::WINDOW_BYTES;

/// A place between two blocks, and what is needed to decode from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Bit of the compressed stream that begins a block.
    pub bit: u64,
    /// Uncompressed bytes before it.
    pub bytes_before: u64,
    /// The last of them, 32 KiB at most; shorter at the beginning of a gzip member.
    pub window: Box<[u8]>,
}

/// Notes checkpoints of a stream while it is decoded.
#[derive(Debug)]
pub(super) struct Recorder {
    span_bytes: u64,
    noted: Vec<Checkpoint>,
}

impl Recorder {
    /// Notes the first border of blocks that is more than `span_bytes` of uncompressed bytes behind the last one noted,
    /// as zlib's `zran.c` does.
    pub(super) const fn new(span_bytes: u64) -> Self {
        Self {
            span_bytes,
            noted: Vec::new(),
        }
    }

    /// Uncompressed bytes after which the next border is looked for.
    pub(super) fn due_after(&self) -> u64 {
        let last = self.noted.last();
        match last {
            None => 0,
            Some(_) if self.noted.len() == CHECKPOINTS_MAX => u64::MAX,
            Some(last) => last.bytes_before + self.span_bytes,
        }
    }

    /// Whether a border behind so many uncompressed bytes is to be noted.
    pub(super) fn wants(&self, bytes_before: u64) -> bool {
        let is_due = self.noted.is_empty() || bytes_before > self.due_after();
        is_due && self.noted.len() < CHECKPOINTS_MAX
    }

    /// Notes a border.
    pub(super) fn note(&mut self, bit: u64, bytes_before: u64, window: &[u8]) {
        let start = window.len().saturating_sub(WINDOW_BYTES);
        self.noted.push(Checkpoint {
            bit,
            bytes_before,
            window: window[start..].into(),
        });
    }

    pub(super) fn into_checkpoints(self) -> Vec<Checkpoint> {
        self.noted
    }
}

/// 64 MiB of windows. What follows in a stream that needs more is guessed at.
const CHECKPOINTS_MAX: usize = 2048;
