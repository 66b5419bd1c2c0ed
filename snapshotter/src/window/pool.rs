//! Segments of memory, used again and again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Size of a segment.
///
/// 256 KiB is what one read of a socket brings at most and what inflating takes at once; smaller ones lose to locking,
/// 1 MiB ones to page faults (measured: unpack reference, "Threads per lane").
pub const SEGMENT_BYTES: usize = 256 * 1024;

/// Segments kept for later use at most: what one lane and a few fetches turn over between two breaths.
const FREE_SEGMENTS_MAX: usize = 64;

/// Where segments come from and return to.
#[derive(Clone, Default)]
pub struct Pool {
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
}

/// A piece of memory with some bytes in it; it returns to its pool when dropped.
pub struct Segment {
    memory: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    pool: Pool,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty segment.
    pub fn segment(&self) -> Segment {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let memory = free.unwrap_or_else(|| vec![0; SEGMENT_BYTES].into_boxed_slice());
        Segment {
            memory: Some(memory),
            start: 0,
            end: 0,
            pool: self.clone(),
        }
    }
}

impl Segment {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no byte fits in behind those that are there.
    pub fn is_full(&self) -> bool {
        self.end == SEGMENT_BYTES
    }

    /// Appends as much of `bytes` as fits and returns how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let Some(memory) = self.memory.as_mut() else {
            return 0;
        };
        let count = bytes.len().min(SEGMENT_BYTES - self.end);
        memory[self.end..self.end + count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    /// Moves bytes from the front to `out` and returns how many.
    pub fn drain(&mut self, out: &mut [u8]) -> usize {
        let bytes = self.bytes();
        let count = bytes.len().min(out.len());
        out[..count].copy_from_slice(&bytes[..count]);
        self.start += count;
        count
    }

    /// Forgets the first `bytes`.
    pub fn skip(&mut self, bytes: usize) {
        self.start += bytes.min(self.len());
    }

    /// Splits the first `bytes` off.
    pub fn split(&mut self, bytes: usize) -> Self {
        let mut front = self.pool.segment();
        let count = front.fill(&self.bytes()[..bytes.min(self.len())]);
        self.skip(count);
        front
    }

    /// Keeps only the first `bytes`.
    pub fn truncate(&mut self, bytes: usize) {
        self.end = self.end.min(self.start + bytes);
    }

    /// The bytes in it.
    pub fn bytes(&self) -> &[u8] {
        self.memory
            .as_ref()
            .map_or(&[], |memory| &memory[self.start..self.end])
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        let mut free = self
            .pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_SEGMENTS_MAX {
            free.push(memory);
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({} bytes)", self.len())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        write!(f, "Pool({free} free)")
    }
}
