//! One piece of a DEFLATE stream, decoded without knowing what stands before it.

use std::sync::Arc;

use super::bits::Bits;
use super::codes::{Codes, NotABlock};
use super::find::{begins_dynamic, find_block};
use super::marked::{After, Marked};
use super::raw::{Place, RawInflate, Stop, WINDOW_BYTES};
use super::stretch::{Entry, Stretch};

/// What a guess at a piece gave.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The bit of the stream it begins at, and the one behind it.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The last block of the stream is in it.
    pub(super) is_last: bool,
    /// Its beginning, as far as it refers to what stands before it.
    pub(super) marked: Marked,
    /// Its rest, as it is.
    pub(super) clean: Vec<u8>,
    /// The way in that was taken; its window may be wrong.
    pub(super) entry: Option<Arc<Entry>>,
}

/// Decodes pieces, keeping its tables and state from one to the next.
#[derive(Debug)]
pub(super) struct Guesser {
    codes: Codes,
    raw: RawInflate,
}

impl Guesser {
    pub(super) fn new() -> Option<Self> {
        Some(Self {
            codes: Codes::new(),
            raw: RawInflate::new().ok()?,
        })
    }

    /// Decodes from the first block that seems to begin in the stretch's own bytes to the first one behind them.
    ///
    /// False if there is none, if its end is not in sight, or if it becomes larger than `bytes_max`.
    pub(super) fn guess(&mut self, stretch: &Stretch, bytes_max: usize, piece: &mut Piece) -> bool {
        piece.entry.clone_from(&stretch.entry);
        if let Some(entry) = &stretch.entry {
            return self.enter(stretch, entry, bytes_max, piece);
        }
        let until = stretch.own as u64 * 8;
        let mut from = 0;
        while let Some(start) = find_block(&stretch.bytes, from, until, &mut self.codes) {
            piece.marked.clear();
            piece.clean.clear();
            piece.is_last = false;
            match self.decode(stretch, start, bytes_max, piece) {
                Ok(end) => {
                    piece.start = stretch.offset * 8 + start;
                    piece.end = stretch.offset * 8 + end;
                    return true;
                }
                Err(Stopped::NotABlock) => from = start + 1,
                Err(Stopped::TooFar) => return false,
            }
        }
        false
    }

    /// Decodes from a known way in to the next one.
    fn enter(
        &mut self,
        stretch: &Stretch,
        entry: &Entry,
        bytes_max: usize,
        piece: &mut Piece,
    ) -> bool {
        piece.marked.clear();
        piece.is_last = false;
        let start = entry.bit - stretch.offset * 8;
        let until = entry.until - stretch.offset * 8;
        let is_end = |end| end >= until;
        let end = self.rest(stretch, start, entry.window(), bytes_max, piece, is_end);
        let Ok(end) = end else {
            return false;
        };
        piece.start = entry.bit;
        piece.end = stretch.offset * 8 + end;
        true
    }

    /// Decodes from bit `start` on; gives the bit behind.
    fn decode(
        &mut self,
        stretch: &Stretch,
        start: u64,
        bytes_max: usize,
        piece: &mut Piece,
    ) -> Result<u64, Stopped> {
        let own_bits = stretch.own as u64 * 8;
        let mut bits = Bits::at(&stretch.bytes, start);
        let mut window = [0; WINDOW_BYTES];
        let mut blocks = 0;
        loop {
            let after = piece
                .marked
                .block(&mut bits, &mut self.codes, bytes_max + WINDOW_BYTES);
            let after = after.map_err(|NotABlock| {
                // Three blocks in a row are none by chance: it is the stretch that ends.
                if blocks < 3 {
                    Stopped::NotABlock
                } else {
                    Stopped::TooFar
                }
            })?;
            blocks += 1;
            let position = bits.position();
            if after == After::LastBlock {
                piece.is_last = true;
                return Ok(position);
            }
            if position >= own_bits && begins_dynamic(&stretch.bytes, position) {
                return Ok(position);
            }
            if piece.marked.known_tail(&mut window) {
                let is_end = |end| end >= own_bits && begins_dynamic(&stretch.bytes, end);
                return self.rest(stretch, position, &window, bytes_max, piece, is_end);
            }
        }
    }

    /// Decodes on from bit `start`, whose window is known, to a border that `is_end` or to the last one.
    fn rest(
        &mut self,
        stretch: &Stretch,
        start: u64,
        window: &[u8],
        bytes_max: usize,
        piece: &mut Piece,
        is_end: impl Fn(u64) -> bool,
    ) -> Result<u64, Stopped> {
        let mut at = start.div_ceil(8) as usize;
        let first_bits = (at as u64 * 8 - start) as u32;
        let first = stretch.bytes[at.saturating_sub(1)];
        self.raw
            .begin(first_bits, first, window)
            .map_err(|_| Stopped::TooFar)?;
        let mut produced = 0;
        loop {
            if piece.clean.len() < produced + ROOM_BYTES {
                piece
                    .clean
                    .resize((produced + ROOM_BYTES).max(2 * produced), 0);
            }
            let room = &mut piece.clean[produced..];
            let step = self.raw.inflate(&stretch.bytes[at..], room, Stop::Block);
            let step = step.map_err(|_| Stopped::TooFar)?;
            at += step.consumed;
            produced += step.produced;
            let position = |unused_bits: u32| at as u64 * 8 - u64::from(unused_bits);
            let end = match step.at {
                Place::End { unused_bits } => {
                    piece.is_last = true;
                    Some(position(unused_bits))
                }
                Place::Between { unused_bits } => {
                    Some(position(unused_bits)).filter(|end| is_end(*end))
                }
                Place::Inside if produced > bytes_max => return Err(Stopped::TooFar),
                Place::Inside if at == stretch.bytes.len() => return Err(Stopped::TooFar),
                Place::Inside => None,
            };
            if let Some(end) = end {
                piece.clean.truncate(produced);
                return Ok(end);
            }
        }
    }
}

impl Piece {
    /// Uncompressed bytes.
    pub(super) fn len(&self) -> usize {
        self.marked.decoded().len() + self.clean.len()
    }

    /// The window behind it, given the one before it.
    pub(super) fn window_after(&self, before: &[u8; WINDOW_BYTES]) -> Box<[u8; WINDOW_BYTES]> {
        let mut window = Box::new([0; WINDOW_BYTES]);
        let clean = &self.clean[self.clean.len().saturating_sub(WINDOW_BYTES)..];
        let missing = WINDOW_BYTES - clean.len();
        window[missing..].copy_from_slice(clean);
        let tail = self.marked.tail();
        let known = &tail[tail.len() - missing..];
        resolve(known, before, &mut window[..missing]);
        window
    }
}

/// Fills in what markers stand for.
pub(super) fn resolve(symbols: &[u16], window: &[u8; WINDOW_BYTES], bytes: &mut [u8]) {
    for (byte, symbol) in bytes.iter_mut().zip(symbols) {
        let place = usize::from(*symbol) & (WINDOW_BYTES - 1);
        *byte = if *symbol < 256 {
            *symbol as u8
        } else {
            window[place]
        };
    }
}

/// Why a guess ended early.
enum Stopped {
    /// What looked like a block is none.
    NotABlock,
    /// It cannot be finished from what is here.
    TooFar,
}

/// Room made at once for known bytes.
const ROOM_BYTES: usize = 1 << 20;
