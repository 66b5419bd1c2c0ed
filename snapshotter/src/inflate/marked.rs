//! Decodes a DEFLATE stream from its middle, where the 32 KiB before are not known.
//!
//! What a copy takes from there is written down as a marker and filled in when those bytes are known.

use super::bits::Bits;
use super::codes::{Codes, NotABlock};
use super::raw::WINDOW_BYTES;

/// Decoded symbols: bytes below 256, markers for the rest.
///
/// The first [`WINDOW_BYTES`] entries stand for the unknown window, so a copy from there needs no special case.
#[derive(Debug, Default)]
pub(super) struct Marked {
    symbols: Vec<u16>,
    used: usize,
}

/// What came after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Block,
    LastBlock,
}

impl Marked {
    /// Forgets everything but the memory.
    pub(super) fn clear(&mut self) {
        if self.symbols.len() < 2 * WINDOW_BYTES {
            self.symbols.resize(2 * WINDOW_BYTES, 0);
            for (place, symbol) in self.symbols[..WINDOW_BYTES].iter_mut().enumerate() {
                *symbol = MARKER | place as u16;
            }
        }
        self.used = WINDOW_BYTES;
    }

    /// What was decoded, bytes and markers.
    pub(super) fn decoded(&self) -> &[u16] {
        &self.symbols[WINDOW_BYTES.min(self.used)..self.used]
    }

    /// The last [`WINDOW_BYTES`] symbols, some of which may be from before the beginning.
    pub(super) fn tail(&self) -> &[u16] {
        &self.symbols[self.used - WINDOW_BYTES..self.used]
    }

    /// The next block's window, if none of it is unknown.
    pub(super) fn known_tail(&self, window: &mut [u8; WINDOW_BYTES]) -> bool {
        let tail = self.tail();
        if tail.iter().fold(0, |all, symbol| all | symbol) & MARKER != 0 {
            return false;
        }
        for (byte, symbol) in window.iter_mut().zip(tail) {
            *byte = *symbol as u8;
        }
        true
    }

    /// Decodes the block that `bits` stand at, header included, if `symbols_max` allows.
    pub(super) fn block(
        &mut self,
        bits: &mut Bits<'_>,
        codes: &mut Codes,
        symbols_max: usize,
    ) -> Result<After, NotABlock> {
        let is_last = bits.take(1) == 1;
        match bits.take(2) {
            0 => self.stored(bits, symbols_max)?,
            1 => {
                codes.set_fixed()?;
                self.compressed(bits, codes, symbols_max)?;
            }
            2 => {
                codes.read(bits)?;
                self.compressed(bits, codes, symbols_max)?;
            }
            _ => return Err(NotABlock),
        }
        if bits.is_overrun() {
            return Err(NotABlock);
        }
        Ok(if is_last {
            After::LastBlock
        } else {
            After::Block
        })
    }

    fn stored(&mut self, bits: &mut Bits<'_>, symbols_max: usize) -> Result<(), NotABlock> {
        let misaligned = (8 - bits.position() % 8) % 8;
        bits.take(misaligned as u32);
        let (length, check) = (bits.take(16), bits.take(16));
        if length != !check & 0xffff || self.used + length as usize > symbols_max {
            return Err(NotABlock);
        }
        self.grow(length as usize);
        for _ in 0..length {
            self.symbols[self.used] = bits.take(8) as u16;
            self.used += 1;
        }
        Ok(())
    }

    fn compressed(
        &mut self,
        bits: &mut Bits<'_>,
        codes: &Codes,
        symbols_max: usize,
    ) -> Result<(), NotABlock> {
        loop {
            self.grow(ROUND_SYMBOLS);
            let end = (self.symbols.len() - SLACK_SYMBOLS).min(symbols_max);
            let used = run(bits, codes, &mut self.symbols, self.used, end)?;
            match used {
                Run::Ended(used) => {
                    self.used = used;
                    return Ok(());
                }
                Run::Full(used) => self.used = used,
            }
            if self.used >= symbols_max || bits.is_overrun() {
                return Err(NotABlock);
            }
        }
    }

    fn grow(&mut self, more: usize) {
        let wanted = self.used + more + SLACK_SYMBOLS;
        if self.symbols.len() < wanted {
            self.symbols.resize(wanted.max(self.symbols.len() * 2), 0);
        }
    }
}

enum Run {
    Ended(usize),
    Full(usize),
}

/// Decodes symbols until the block or the room ends.
#[inline(never)]
fn run(
    bits: &mut Bits<'_>,
    codes: &Codes,
    symbols: &mut [u16],
    mut used: usize,
    end: usize,
) -> Result<Run, NotABlock> {
    let mut local = bits.clone();
    let outcome = loop {
        if used >= end {
            break Run::Full(used);
        }
        local.refill();
        let mut entry = codes.symbols.entry(local.peek());
        if entry.is_literal() {
            symbols[used] = entry.literal();
            used += 1;
            local.skip(entry.bits());
            entry = codes.symbols.entry(local.peek());
            if entry.is_literal() {
                symbols[used] = entry.literal();
                used += 1;
                local.skip(entry.bits());
                entry = codes.symbols.entry(local.peek());
                if entry.is_literal() {
                    symbols[used] = entry.literal();
                    used += 1;
                    local.skip(entry.bits());
                    continue;
                }
            }
            local.refill();
        }
        if entry.is_special() {
            if !entry.is_end() {
                return Err(NotABlock);
            }
            local.skip(entry.bits());
            break Run::Ended(used);
        }
        let length = entry.value(local.peek());
        local.skip(entry.bits());
        let entry = codes.distances.entry(local.peek());
        if entry.is_special() {
            return Err(NotABlock);
        }
        let distance = entry.value(local.peek());
        local.skip(entry.bits());
        copy(symbols, used, distance, length);
        used += length;
    };
    *bits = local;
    Ok(outcome)
}

/// Repeats what lies `distance` back; may write up to [`SLACK_SYMBOLS`] too many.
#[inline(always)]
fn copy(symbols: &mut [u16], used: usize, distance: usize, length: usize) {
    let from = used - distance;
    if distance >= STEP {
        let window = &mut symbols[from..used + length + STEP];
        let mut done = 0;
        while done < length {
            let mut step = [0_u16; STEP];
            step.copy_from_slice(&window[done..done + STEP]);
            window[distance + done..distance + done + STEP].copy_from_slice(&step);
            done += STEP;
        }
    } else if distance == 1 {
        let symbol = symbols[from];
        symbols[used..used + length].fill(symbol);
    } else {
        let window = &mut symbols[from..used + length];
        for at in 0..length {
            window[distance + at] = window[at];
        }
    }
}

/// Set for a symbol that stands for a byte of the unknown window; the other bits are its place there.
pub(super) const MARKER: u16 = 0x8000;
/// Symbols copied at a time: one vector register.
const STEP: usize = 8;
/// Longest copy and its overshoot, and three literals.
const SLACK_SYMBOLS: usize = 258 + 2 * STEP + 3;
/// Room made at once.
const ROUND_SYMBOLS: usize = 64 << 10;
