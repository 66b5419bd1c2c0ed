//! The seam between decompression and tar: uncompressed bytes, in order, a slice at a time.

use super::error::UnpackError;

/// Uncompressed bytes in order.
pub(super) trait ByteStream {
    /// The bytes at hand, at least one; empty only at the end of the stream.
    fn available(&mut self) -> Result<&[u8], UnpackError>;

    /// Takes `bytes` of what [`available`](Self::available) gave.
    fn consume(&mut self, bytes: usize);

    /// Bytes consumed so far.
    fn position(&self) -> u64;
}

/// Copies bytes until `target` is full or the stream ends, and says how many were copied.
pub(super) fn read_up_to(
    stream: &mut dyn ByteStream,
    target: &mut [u8],
) -> Result<usize, UnpackError> {
    let mut filled = 0;
    while filled < target.len() {
        let available = stream.available()?;
        if available.is_empty() {
            break;
        }
        let taken = available.len().min(target.len() - filled);
        target[filled..filled + taken].copy_from_slice(&available[..taken]);
        stream.consume(taken);
        filled += taken;
    }
    Ok(filled)
}

#[cfg(test)]
pub(super) struct SliceStream<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) position: usize,
    /// Bytes given at a time, to move the borders.
    pub(super) step: usize,
}

#[cfg(test)]
impl ByteStream for SliceStream<'_> {
    fn available(&mut self) -> Result<&[u8], UnpackError> {
        let end = self.bytes.len().min(self.position + self.step);
        Ok(&self.bytes[self.position..end])
    }

    fn consume(&mut self, bytes: usize) {
        self.position += bytes;
    }

    fn position(&self) -> u64 {
        self.position as u64
    }
}
