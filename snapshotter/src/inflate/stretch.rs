//! Compressed bytes cut into stretches of equal length, each with the beginning of the next one behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::checkpoint::Checkpoint;
use super::raw::WINDOW_BYTES;

/// The bytes of one guess.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// Its own bytes, and enough of what follows to end its last block.
    pub(super) bytes: Vec<u8>,
    /// Where `bytes` begin in the stream.
    pub(super) offset: u64,
    /// How many of `bytes` are its own.
    pub(super) own: usize,
    /// Where it can be entered, if that is known.
    pub(super) entry: Option<Arc<Entry>>,
}

/// A known way in, and the next one, at which whoever took it stops.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bit: u64,
    pub(super) until: u64,
    window: Box<[u8]>,
}

/// Cuts a stream into stretches.
#[derive(Debug)]
pub(super) struct Cutter {
    own_bytes: usize,
    /// In the order of the stream.
    entries: VecDeque<Arc<Entry>>,
    /// Read already, the next stretch's beginning.
    carried: Vec<u8>,
    offset: u64,
    ended: bool,
}

impl Entry {
    /// The ways in that `checkpoints` give into what follows the first `taken` bytes of their stream.
    pub(super) fn behind(taken: u64, checkpoints: &[Checkpoint]) -> VecDeque<Arc<Self>> {
        let start = taken * 8;
        let pairs = checkpoints.windows(2);
        let later = pairs.filter(|pair| pair[0].bit >= start && pair[0].bit < pair[1].bit);
        let entry = |pair: &[Checkpoint]| Self {
            bit: pair[0].bit - start,
            until: pair[1].bit - start,
            window: pair[0].window.clone(),
        };
        later.map(|pair| Arc::new(entry(pair))).collect()
    }

    /// Its bytes before it.
    pub(super) fn window(&self) -> &[u8] {
        &self.window
    }

    /// Whether the bytes before it are these, as far as it knows them.
    pub(super) fn fits(&self, window: &[u8; WINDOW_BYTES]) -> bool {
        let known = &self.window[self.window.len().saturating_sub(WINDOW_BYTES)..];
        window.ends_with(known)
    }

    const fn byte(&self) -> u64 {
        self.bit / 8
    }
}

impl Cutter {
    /// Stretches of `own_bytes`, or from one of `entries` to the next where there are any.
    pub(super) fn new(own_bytes: usize, entries: VecDeque<Arc<Entry>>) -> Self {
        Self {
            own_bytes,
            entries,
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
        let own_bytes = self.enter(stretch);
        let whole = own_bytes + LOOKAHEAD_BYTES;
        let bytes = &mut stretch.bytes;
        bytes.resize(whole.max(self.carried.len()), 0);
        bytes[..self.carried.len()].copy_from_slice(&self.carried);
        let mut filled = self.carried.len();
        while filled < whole && !self.ended {
            let got = read(&mut bytes[filled..whole])?;
            filled += got;
            self.ended = got == 0;
        }
        bytes.truncate(filled);
        stretch.own = filled.min(own_bytes);
        stretch.offset = self.offset;
        self.offset += stretch.own as u64;
        self.carried.clear();
        self.carried.extend_from_slice(&bytes[stretch.own..]);
        Ok(stretch.own > 0)
    }

    /// Gives the stretch its way in, and says how long it is.
    fn enter(&mut self, stretch: &mut Stretch) -> usize {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.byte() < self.offset)
        {
            self.entries.pop_front();
        }
        let is_entry = |entry: &mut Arc<Entry>| entry.byte() == self.offset;
        stretch.entry = self.entries.pop_front_if(is_entry);
        let next = match (&stretch.entry, self.entries.front()) {
            (Some(entry), _) => entry.until / 8,
            (None, Some(entry)) => entry.byte(),
            (None, None) => return self.own_bytes,
        };
        let length = usize::try_from(next - self.offset).unwrap_or(usize::MAX);
        if length > self.own_bytes * ENTRY_OWN_BYTES_MAX {
            stretch.entry = None;
            return self.own_bytes;
        }
        length
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
/// Ways in that are further apart than so many stretches are not used: memory is bounded by the stretches' length.
const ENTRY_OWN_BYTES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_follow_each_other_and_look_ahead() {
        let stream: Vec<u8> = (0..700_000_u32).map(|byte| (byte % 253) as u8).collect();
        let mut rest = &stream[..];
        let mut cutter = Cutter::new(100_000, VecDeque::new());
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
