//! Bits of a DEFLATE stream, least significant first.

/// A position in compressed bytes, in bits.
///
/// Behind the end it reads zeros; [`is_overrun`](Self::is_overrun) tells when such bits were taken.
#[derive(Clone, Debug)]
pub(super) struct Bits<'a> {
    input: &'a [u8],
    /// First byte that is not in `buffer`.
    at: usize,
    buffer: u64,
    /// Bits of `buffer` that were not taken.
    count: u32,
}

impl<'a> Bits<'a> {
    /// Reads `input` from bit `position` on.
    pub(super) fn at(input: &'a [u8], position: u64) -> Self {
        let mut bits = Self {
            input,
            at: usize::try_from(position / 8).unwrap_or(usize::MAX / 2),
            buffer: 0,
            count: 0,
        };
        bits.refill();
        bits.skip((position % 8) as u32);
        bits
    }

    /// The bit that comes next.
    pub(super) const fn position(&self) -> u64 {
        self.at as u64 * 8 - self.count as u64
    }

    /// Whether bits behind the input's end were taken.
    pub(super) const fn is_overrun(&self) -> bool {
        self.position() > self.input.len() as u64 * 8
    }

    /// Makes at least 56 bits available.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        match self.input.get(self.at..self.at + 8) {
            Some(bytes) => {
                let mut word = [0; 8];
                word.copy_from_slice(bytes);
                self.buffer |= u64::from_le_bytes(word) << self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
            }
            None => self.refill_at_end(),
        }
    }

    #[cold]
    fn refill_at_end(&mut self) {
        while self.count < 56 {
            let byte = self.input.get(self.at).copied().unwrap_or(0);
            self.buffer |= u64::from(byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    /// The next bits, at least 56 of them after a refill.
    #[inline(always)]
    pub(super) const fn peek(&self) -> u64 {
        self.buffer
    }

    /// Takes `count` bits that are available.
    #[inline(always)]
    pub(super) const fn skip(&mut self, count: u32) {
        self.buffer >>= count;
        self.count -= count;
    }

    /// Takes and gives `count` bits, 32 at most; refills before.
    pub(super) fn take(&mut self, count: u32) -> u32 {
        self.refill();
        let value = self.buffer & ((1 << count) - 1);
        self.skip(count);
        value as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_bits_from_the_least_significant_end() {
        let mut bits = Bits::at(&[0b1010_0110, 0xff], 1);
        assert_eq!(bits.take(2), 0b11);
        assert_eq!(bits.take(5), 0b10100);
        assert_eq!(bits.position(), 8);
        assert_eq!(bits.take(8), 0xff);
        assert!(!bits.is_overrun());
        assert_eq!(bits.take(1), 0);
        assert!(bits.is_overrun());
    }

    #[test]
    fn gives_the_same_bits_wherever_it_begins() {
        let input: Vec<u8> = (0..64_u32).map(|byte| (byte * 37 % 251) as u8).collect();
        for start in 0..400 {
            let mut one = Bits::at(&input, 0);
            for _ in 0..start {
                one.take(1);
            }
            let mut other = Bits::at(&input, start);
            assert_eq!(one.position(), other.position());
            for width in [1, 7, 13, 15, 32, 3] {
                assert_eq!(one.take(width), other.take(width), "from bit {start}");
            }
        }
    }
}
