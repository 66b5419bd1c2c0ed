//! The front of a lane: reads compressed bytes, hashes them, decompresses them into buffers.

use std::io::{ErrorKind, Read};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

use super::decompress::{Decompressor, SNIFF_BYTES};
use super::error::UnpackError;
use super::progress::{Progress, Waiting};
use super::spec::LayerSpec;

/// Compressed bytes in, uncompressed bytes out; knows what the compressed bytes must be.
pub(super) struct Decoder<R> {
    source: R,
    spec: LayerSpec,
    hasher: Sha256,
    input: Vec<u8>,
    start: usize,
    end: usize,
    bytes_in: u64,
    ended: bool,
    /// The last step filled the output: there may be more without further input.
    has_more: bool,
    decompressor: Option<Decompressor>,
}

impl<R: Read> Decoder<R> {
    /// Reads `source` from the layer's first byte.
    pub(super) fn new(source: R, spec: LayerSpec) -> Self {
        Self {
            source,
            spec,
            hasher: Sha256::new(),
            input: vec![0; INPUT_BYTES],
            start: 0,
            end: 0,
            bytes_in: 0,
            ended: false,
            has_more: false,
            decompressor: None,
        }
    }

    /// Compressed bytes read so far.
    pub(super) const fn bytes_in(&self) -> u64 {
        self.bytes_in
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
                self.choose(progress)?;
                continue;
            };
            if self.start == self.end && !self.has_more {
                if filled > 0 {
                    break;
                }
                if self.ended {
                    decompressor.end().map_err(|reason| self.error(reason))?;
                    break;
                }
                self.read(progress)?;
                continue;
            }
            let input = &self.input[self.start..self.end];
            let step = decompressor.step(input, &mut output[filled..]);
            let step = step.map_err(|reason| self.error(reason))?;
            self.start += step.consumed;
            filled += step.produced;
            self.has_more = step.produced > 0 && filled == output.len();
            let is_idle = step.consumed == 0 && step.produced == 0 && self.start < self.end;
            // One idle step is the border between two gzip members.
            if is_idle && was_idle {
                return Err(self.error("makes no progress".into()));
            }
            was_idle = is_idle;
        }
        Ok(filled)
    }

    fn choose(&mut self, progress: &Progress) -> Result<(), UnpackError> {
        while self.end < SNIFF_BYTES && !self.ended {
            self.read(progress)?;
        }
        let start = &self.input[..self.end];
        let decompressor =
            Decompressor::new(self.spec.encoding, start).map_err(|reason| self.error(reason))?;
        self.decompressor = Some(decompressor);
        Ok(())
    }

    /// Reads behind what is unread, or from the buffer's start if everything was.
    fn read(&mut self, progress: &Progress) -> Result<(), UnpackError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        progress.wait_for(Waiting::Input);
        let bytes = loop {
            match self.source.read(&mut self.input[self.end..]) {
                Ok(bytes) => break bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::of_source(error)),
            }
        };
        progress.wait_for(Waiting::Cpu);
        progress.add_in(bytes as u64);
        self.bytes_in += bytes as u64;
        self.hasher.update(&self.input[self.end..self.end + bytes]);
        self.end += bytes;
        self.ended = bytes == 0;
        if self.bytes_in > self.spec.size || (self.ended && self.bytes_in < self.spec.size) {
            return Err(UnpackError::CompressedSize {
                expected: self.spec.size,
                actual: self.bytes_in,
            });
        }
        if self.ended { self.verify() } else { Ok(()) }
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

    const fn error(&self, reason: String) -> UnpackError {
        UnpackError::Decompress {
            offset: self.bytes_in - (self.end - self.start) as u64,
            reason,
        }
    }
}

/// One read from the source: large enough that hashing and inflating stay in their loops, small enough for the cache.
const INPUT_BYTES: usize = 256 << 10;
