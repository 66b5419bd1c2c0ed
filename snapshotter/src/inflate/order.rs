//! Puts guessed pieces in order, and decodes what was not guessed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::gzip::Gzip;
use super::parallel::Shared;
use super::piece::{Piece, resolve};
use super::raw::{Stop, WINDOW_BYTES};
use super::stretch::Stretch;

/// A stretch and the guess at it that will come.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) stretch: Arc<Stretch>,
    /// Disconnected if nobody guesses.
    pub(super) guess: Receiver<Option<Piece>>,
}

/// The stream in order.
///
/// A guess is taken where it begins exactly at a border between two blocks that are known; everything else is decoded in
/// order. So a wrong guess costs time, never a byte.
#[derive(Debug)]
pub(super) struct Order {
    gzip: Gzip,
    /// Bytes of the stream before the first stretch.
    base: u64,
    incoming: Option<Receiver<Prepared>>,
    shared: Arc<Shared>,
    stretch: Arc<Stretch>,
    guess: Guess,
    /// Next byte of `stretch`; may be behind its own ones.
    at: usize,
    /// The bit that begins a block, if the decoder stands between two.
    border: Option<u64>,
    giving: Option<Giving>,
    was_idle: bool,
    tally: Tally,
}

#[derive(Debug)]
enum Guess {
    ToCome(Receiver<Option<Piece>>),
    Here(Piece),
    None,
}

/// A piece that is being handed out.
#[derive(Debug)]
struct Giving {
    piece: Piece,
    given: usize,
    window: Box<[u8; WINDOW_BYTES]>,
}

/// How much was guessed lately.
#[derive(Debug, Default)]
struct Tally {
    stretches: u32,
    guessed: u32,
}

impl Order {
    pub(super) fn new(gzip: Gzip, incoming: Receiver<Prepared>, shared: Arc<Shared>) -> Self {
        Self {
            base: gzip.taken(),
            gzip,
            incoming: Some(incoming),
            shared,
            stretch: Arc::default(),
            guess: Guess::None,
            at: 0,
            border: None,
            giving: None,
            was_idle: false,
            tally: Tally::default(),
        }
    }

    /// Puts bytes into `output` and says how many; none at the end of what comes in.
    pub(super) fn fill(&mut self, output: &mut [u8]) -> Result<usize, String> {
        let mut filled = 0;
        while filled < output.len() {
            if self.giving.is_some() {
                filled += self.give(&mut output[filled..])?;
            } else if self.at >= self.stretch.own && !self.next_stretch() {
                // The decoder may hold what did not fit into the last buffer.
                match self.decode(&mut output[filled..])? {
                    0 => break,
                    more => filled += more,
                }
            } else if !self.takes_guess()? {
                filled += self.decode(&mut output[filled..])?;
            }
        }
        Ok(filled)
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.shared.hopeless.load(Ordering::Relaxed)
    }

    pub(super) fn into_gzip(self) -> Gzip {
        self.gzip
    }

    /// False if none comes any more.
    fn next_stretch(&mut self) -> bool {
        let Some(prepared) = self
            .incoming
            .as_ref()
            .and_then(|incoming| incoming.recv().ok())
        else {
            self.incoming = None;
            return false;
        };
        if let Guess::Here(piece) =
            std::mem::replace(&mut self.guess, Guess::ToCome(prepared.guess))
        {
            self.shared.pieces.give(piece);
        }
        self.at -= self.stretch.own;
        let old = std::mem::replace(&mut self.stretch, prepared.stretch);
        if let Ok(old) = Arc::try_unwrap(old) {
            self.shared.stretches.give(old);
        }
        true
    }

    /// Takes the guess at this stretch if it begins where the decoder stands.
    fn takes_guess(&mut self) -> Result<bool, String> {
        let Some(border) = self.border else {
            return Ok(false);
        };
        if let Guess::ToCome(guess) = &self.guess {
            self.guess = guess.recv().ok().flatten().map_or(Guess::None, Guess::Here);
            self.tally
                .count(!matches!(self.guess, Guess::None), &self.shared);
        }
        match std::mem::replace(&mut self.guess, Guess::None) {
            Guess::Here(piece) if piece.start == border => {
                let mut window = Box::new([0; WINDOW_BYTES]);
                self.window(&mut window)?;
                if piece
                    .entry
                    .as_ref()
                    .is_some_and(|entry| !entry.fits(&window))
                {
                    self.shared.pieces.give(piece);
                    return Ok(false);
                }
                self.giving = Some(Giving {
                    piece,
                    given: 0,
                    window,
                });
                return Ok(true);
            }
            Guess::Here(piece) if piece.start < border => self.shared.pieces.give(piece),
            other => self.guess = other,
        }
        Ok(false)
    }

    /// The bytes before the border; those that the stream does not have are zeros, which no right stream refers to.
    fn window(&mut self, window: &mut [u8; WINDOW_BYTES]) -> Result<(), String> {
        let bytes = self.gzip.window(window)?;
        window.copy_within(..bytes, WINDOW_BYTES - bytes);
        window[..WINDOW_BYTES - bytes].fill(0);
        Ok(())
    }

    fn decode(&mut self, output: &mut [u8]) -> Result<usize, String> {
        let own = self.stretch.own;
        let input = &self.stretch.bytes[self.at.min(own)..own];
        let stop = match self.guess {
            Guess::None => Stop::Full,
            Guess::ToCome(_) | Guess::Here(_) => Stop::Block,
        };
        let step = self.gzip.step(input, output, stop)?;
        self.at += step.consumed;
        let bit = (self.stretch.offset + self.at as u64) * 8;
        self.border = step.border.map(|unused_bits| bit - u64::from(unused_bits));
        let is_idle = step.consumed == 0 && step.produced == 0;
        // One idle step is the border between two members, or between two blocks.
        if is_idle && self.was_idle && !input.is_empty() {
            return Err("bad gzip data: makes no progress".into());
        }
        self.was_idle = is_idle;
        Ok(step.produced)
    }

    fn give(&mut self, output: &mut [u8]) -> Result<usize, String> {
        let Some(giving) = &mut self.giving else {
            return Ok(0);
        };
        let (marked, clean) = (giving.piece.marked.decoded(), &giving.piece.clean[..]);
        let bytes = if giving.given < marked.len() {
            let symbols = &marked[giving.given..];
            let bytes = symbols.len().min(output.len());
            resolve(&symbols[..bytes], &giving.window, &mut output[..bytes]);
            bytes
        } else {
            let rest = &clean[giving.given - marked.len()..];
            let bytes = rest.len().min(output.len());
            output[..bytes].copy_from_slice(&rest[..bytes]);
            bytes
        };
        giving.given += bytes;
        self.gzip.account(&output[..bytes]);
        if giving.given == giving.piece.len() {
            self.go_on_behind()?;
        }
        Ok(bytes)
    }

    /// Lets the decoder stand behind the piece that was given.
    fn go_on_behind(&mut self) -> Result<(), String> {
        let Some(giving) = self.giving.take() else {
            return Ok(());
        };
        let end = giving.piece.end - self.stretch.offset * 8;
        self.at = end.div_ceil(8) as usize;
        let unused_bits = (self.at as u64 * 8 - end) as u32;
        let byte = self.stretch.bytes[self.at - 1];
        let window = giving.piece.window_after(&giving.window);
        let is_last = giving.piece.is_last;
        let taken = self.base + self.stretch.offset + self.at as u64;
        self.gzip
            .go_on(taken, (unused_bits, byte), &window[..], is_last)?;
        self.border = (!is_last).then_some(giving.piece.end);
        self.was_idle = false;
        self.shared.pieces.give(giving.piece);
        Ok(())
    }
}

impl Tally {
    /// Guessing is given up when most stretches of a good number had nothing to guess at.
    fn count(&mut self, is_guessed: bool, shared: &Shared) {
        self.stretches += 1;
        self.guessed += u32::from(is_guessed);
        if self.stretches == TALLY_STRETCHES {
            if self.guessed * 2 < self.stretches {
                shared.hopeless.store(true, Ordering::Relaxed);
            }
            *self = Self::default();
        }
    }
}

/// 64 MiB of compressed bytes at 4 MiB each.
const TALLY_STRETCHES: u32 = 16;
