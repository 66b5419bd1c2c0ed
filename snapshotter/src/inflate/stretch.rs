//! Compressed bytes cut into stretches of equal length, each with the beginning of the next one behind it.

use std::sync::{Mutex, PoisonError};

/// The bytes of one guess.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// Its own bytes, and enough of what follows to end its last block.
    pub(super) bytes: Vec<u8>,
    /// Where `bytes` begin in the stream.
    pub(super) offset: u64,
    /// How many of `bytes` are its own.
    pub(super) own: usize,
}

/// Cuts a stream into stretches.
#[derive(Debug)]
pub(super) struct Cutter {
    own_bytes: usize,
    /// Read already, the next stretch's beginning.
    carried: Vec<u8>,
    offset: u64,
    ended: bool,
}

impl Cutter {
    pub(super) fn new(own_bytes: usize) -> Self {
        Self {
            own_bytes,
            carried: Vec::new(),
            offset: 0,
            ended: false,
        }
    }

    /// Fills `stretch` with what `read` gives; false if nothing is left.
    pub(super) fn next<E>(
        &mut self,
        stretch: &mut Stretch,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let whole = self.own_bytes + LOOKAHEAD_BYTES;
        let bytes = &mut stretch.bytes;
        bytes.resize(whole, 0);
        bytes[..self.carried.len()].copy_from_slice(&self.carried);
        let mut filled = self.carried.len();
        while filled < whole && !self.ended {
            let got = read(&mut bytes[filled..])?;
            filled += got;
            self.ended = got == 0;
        }
        bytes.truncate(filled);
        stretch.own = filled.min(self.own_bytes);
        stretch.offset = self.offset;
        self.offset += stretch.own as u64;
        self.carried.clear();
        self.carried.extend_from_slice(&bytes[stretch.own..]);
        Ok(stretch.own > 0)
    }
}

/// Things that are used again, because their memory is expensive to come by.
#[derive(Debug, Default)]
pub(super) struct Reused<T>(Mutex<Vec<T>>);

impl<T: Default> Reused<T> {
    pub(super) fn take(&self) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop().unwrap_or_default()
    }

    pub(super) fn give(&self, thing: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thing);
    }
}

/// Blocks of real streams are 12 to 21 KiB long; one that is longer is decoded by whoever puts pieces in order.
const LOOKAHEAD_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_follow_each_other_and_look_ahead() {
        let stream: Vec<u8> = (0..700_000_u32).map(|byte| (byte % 253) as u8).collect();
        let mut rest = &stream[..];
        let mut cutter = Cutter::new(100_000);
        let mut joined = Vec::new();
        let mut stretch = Stretch::default();
        let read = |out: &mut [u8]| {
            let taken = out.len().min(rest.len()).min(7_777);
            out[..taken].copy_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            Ok::<_, ()>(taken)
        };
        let mut read = read;
        while cutter.next(&mut stretch, &mut read).unwrap() {
            assert_eq!(stretch.offset, joined.len() as u64);
            let end = stream.len().min(joined.len() + 100_000 + LOOKAHEAD_BYTES);
            assert!(stretch.bytes == stream[joined.len()..end]);
            joined.extend_from_slice(&stretch.bytes[..stretch.own]);
        }
        assert!(joined == stream);
    }
}
