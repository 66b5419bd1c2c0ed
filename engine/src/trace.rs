//! A 64-bit hash over everything that went in and came out: equal inputs give equal traces.

use core::hash::{Hash, Hasher};

use crate::input::Input;
use crate::output::Output;
use crate::time::Instant;

/// Folds inputs and outputs into one number.
///
/// FNV-1a (Fowler, Noll, Vo): not for secrets, but stable for ever and the same on every platform with 64-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl TraceHash {
    /// Of nothing.
    pub const fn new() -> Self {
        Self(FNV_OFFSET)
    }

    /// Adds an input and its time.
    pub fn input(&mut self, now: Instant, input: &Input) {
        now.hash(self);
        input.hash(self);
    }

    /// Adds an output.
    pub fn output(&mut self, output: &Output) {
        output.hash(self);
    }

    /// The number so far.
    pub const fn value(&self) -> u64 {
        self.0
    }
}

impl Default for TraceHash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for TraceHash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    // Whole words at once: the derived `Hash` of our enums is nothing but words, and this is on every input's path.
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FNV_PRIME);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
