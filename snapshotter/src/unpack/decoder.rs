//! The front of a lane: reads compressed bytes, hashes them, decompresses them into buffers.

use std::io::{ErrorKind, Read};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::inflate::{Checkpoint, Gzip};

use super::decompress::{Decompressor, SNIFF_BYTES};
use super::error::UnpackError;
use super::indexing::Indexing;
use super::progress::{Progress, Waiting};
use super::spec::LayerSpec;

/// Compressed bytes in, uncompressed bytes out; knows what the compressed bytes must be.
pub(super) struct Decoder<R> {
    input: Input<R>,
    /// The last step filled the output: there may be more without further input.
    has_more: bool,
    decompressor: Option<Decompressor>,
    indexing: Indexing,
}

/// The compressed bytes, hashed and measured as they come.
pub(super) struct Input<R> {
    source: R,
    spec: LayerSpec,
    hasher: Sha256,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    bytes_in: u64,
    ended: bool,
}

impl<R: Read> Decoder<R> {
    /// Reads `source` from the layer's first byte.
    pub(super) fn new(source: R, spec: LayerSpec, indexing: Indexing) -> Self {
        Self {
            input: Input {
                source,
                spec,
                hasher: Sha256::new(),
                bytes: vec![0; INPUT_BYTES],
                start: 0,
                end: 0,
                bytes_in: 0,
                ended: false,
            },
            has_more: false,
            decompressor: None,
            indexing,
        }
    }

    /// Compressed bytes read so far.
    pub(super) const fn bytes_in(&self) -> u64 {
        self.input.bytes_in
    }

    /// The gzip stream in the middle of which it stands, to go on with elsewhere, what it is read from, and where it can be
    /// entered.
    ///
    /// Give it back with [`put_gzip`](Self::put_gzip), with everything decoded that was read.
    pub(super) fn take_gzip(&mut self) -> Option<(Gzip, &mut Input<R>, &[Checkpoint])> {
        match self.decompressor.take() {
            Some(Decompressor::Gzip(gzip)) => Some((*gzip, &mut self.input, &self.indexing.known)),
            other => {
                self.decompressor = other;
                None
            }
        }
    }

    /// Whether something is known of the compressed stream's inside.
    pub(super) const fn is_indexed(&self) -> bool {
        !self.indexing.known.is_empty()
    }

    /// The checkpoints that were noted.
    pub(super) fn take_checkpoints(&mut self) -> Vec<Checkpoint> {
        match &mut self.decompressor {
            Some(Decompressor::Gzip(gzip)) => gzip.take_checkpoints(),
            _ => Vec::new(),
        }
    }

    /// Goes on with what [`take_gzip`](Self::take_gzip) gave.
    pub(super) fn put_gzip(&mut self, gzip: Gzip) {
        self.decompressor = Some(Decompressor::Gzip(Box::new(gzip)));
        self.has_more = true;
    }

    /// Puts uncompressed bytes into `output` and says how many; none only at the end, when the compressed bytes are
    /// verified. Never waits for input while it has output to give.
    pub(super) fn fill(
        &mut self,
        output: &mut [u8],
        progress: &Progress,
    ) -> Result<usize, UnpackError> {
        let mut filled = 0;
        let mut was_idle = false;
        while filled < output.len() {
            let Some(decompressor) = &mut self.decompressor else {
                let mut decompressor = self.input.decompressor(progress)?;
                if let (Decompressor::Gzip(gzip), Some(span_bytes)) =
                    (&mut decompressor, self.indexing.note_span_bytes)
                {
                    gzip.record(span_bytes);
                }
                self.decompressor = Some(decompressor);
                continue;
            };
            let input = &mut self.input;
            if input.unread().is_empty() && !self.has_more {
                if filled > 0 {
                    break;
                }
                if input.ended {
                    decompressor.end().map_err(|reason| input.error(reason))?;
                    break;
                }
                input.read(progress)?;
                continue;
            }
            let step = decompressor.step(input.unread(), &mut output[filled..]);
            let step = step.map_err(|reason| input.error(reason))?;
            input.start += step.consumed;
            filled += step.produced;
            self.has_more = step.produced > 0 && filled == output.len();
            let is_idle = step.consumed == 0 && step.produced == 0 && !input.unread().is_empty();
            // One idle step is the border between two gzip members.
            if is_idle && was_idle {
                return Err(input.error("makes no progress".into()));
            }
            was_idle = is_idle;
        }
        Ok(filled)
    }
}

impl<R: Read> Input<R> {
    /// Puts the next bytes into `room` and says how many; none at the end, when they are verified.
    pub(super) fn copy_to(
        &mut self,
        room: &mut [u8],
        progress: &Progress,
    ) -> Result<usize, UnpackError> {
        if self.unread().is_empty() {
            return self.read_into(room, progress);
        }
        let bytes = room.len().min(self.unread().len());
        room[..bytes].copy_from_slice(&self.unread()[..bytes]);
        self.start += bytes;
        Ok(bytes)
    }

    /// An error in the bytes read before those that are unread.
    pub(super) const fn error(&self, reason: String) -> UnpackError {
        UnpackError::Decompress {
            offset: self.bytes_in - (self.end - self.start) as u64,
            reason,
        }
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn decompressor(&mut self, progress: &Progress) -> Result<Decompressor, UnpackError> {
        while self.end < SNIFF_BYTES && !self.ended {
            self.read(progress)?;
        }
        Decompressor::new(self.spec.encoding, self.unread()).map_err(|reason| self.error(reason))
    }

    /// Reads behind what is unread, or from the buffer's start if everything was.
    fn read(&mut self, progress: &Progress) -> Result<(), UnpackError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let mut buffer = std::mem::take(&mut self.bytes);
        let read = self.read_into(&mut buffer[self.end..], progress);
        self.bytes = buffer;
        self.end += read?;
        Ok(())
    }

    fn read_into(&mut self, room: &mut [u8], progress: &Progress) -> Result<usize, UnpackError> {
        if self.ended {
            return Ok(0);
        }
        progress.wait_for(Waiting::Input);
        let bytes = loop {
            match self.source.read(room) {
                Ok(bytes) => break bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::of_source(error)),
            }
        };
        progress.wait_for(Waiting::Cpu);
        progress.add_in(bytes as u64);
        self.bytes_in += bytes as u64;
        self.hasher.update(&room[..bytes]);
        self.ended = bytes == 0;
        if self.bytes_in > self.spec.size || (self.ended && self.bytes_in < self.spec.size) {
            return Err(UnpackError::CompressedSize {
                expected: self.spec.size,
                actual: self.bytes_in,
            });
        }
        if self.ended {
            self.verify()?;
        }
        Ok(bytes)
    }

    fn verify(&mut self) -> Result<(), UnpackError> {
        let actual = Digest::from_bytes(self.hasher.finalize_reset().into());
        if actual == self.spec.digest {
            return Ok(());
        }
        Err(UnpackError::CompressedDigest {
            expected: self.spec.digest,
            actual,
        })
    }
}

/// One read from the source: large enough that hashing and inflating stay in their loops, small enough for the cache.
const INPUT_BYTES: usize = 256 << 10;
