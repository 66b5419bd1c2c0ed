//! Uncompressed bytes for the files, from this thread or from stages that run ahead of it.

use std::io::Read;
use std::mem;
use std::thread::Scope;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::inflate::Checkpoint;

use super::super::bounds::{Bound, Bounds};
use super::super::decoder::Decoder;
use super::super::error::UnpackError;
use super::super::progress::Waiting;
use super::super::stream::ByteStream;
use super::Controls;
use super::ahead::{Ahead, Buffer, Stop};

/// The bytes of one layer, hashed and bounded as they pass.
pub(super) struct Supply<'scope, 'env, R> {
    scope: &'scope Scope<'scope, 'env>,
    controls: Controls<'env>,
    bounds: Bounds,
    state: State<'scope, R>,
    /// Of the uncompressed bytes; elsewhere while a thread of its own has it.
    hasher: Option<Sha256>,
    buffer: Buffer,
    /// Bytes of `buffer` that were consumed.
    consumed: usize,
    /// Bytes of the buffers before it.
    before: u64,
}

enum State<'scope, R> {
    Inline(Box<Decoder<R>>),
    Ahead(Ahead<'scope, R>),
    Ended(Totals),
    Failed,
}

/// What went through.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) compressed_bytes: u64,
    pub(super) uncompressed_bytes: u64,
    pub(super) checkpoints: Vec<Checkpoint>,
}

impl<'scope, 'env, R: Read + Send + 'scope> Supply<'scope, 'env, R> {
    /// Begins in the calling thread.
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        decoder: Decoder<R>,
        bounds: Bounds,
        controls: Controls<'env>,
    ) -> Self {
        Self {
            scope,
            controls,
            bounds,
            state: State::Inline(Box::new(decoder)),
            hasher: Some(Sha256::new()),
            buffer: Buffer::default(),
            consumed: 0,
            before: 0,
        }
    }

    /// Compares the digest of all bytes; the stream must have been read to its end.
    pub(super) fn verified(&mut self, diff_id: Digest) -> Result<Totals, UnpackError> {
        let position = self.position();
        let State::Ended(totals) = &mut self.state else {
            return Err(defect("the stream was not read to its end"));
        };
        let totals = mem::take(totals);
        let hasher = self
            .hasher
            .take()
            .ok_or_else(|| defect("the hash was lost"))?;
        let actual = Digest::from_bytes(hasher.finalize().into());
        if actual != diff_id {
            return Err(UnpackError::DiffId {
                expected: diff_id,
                actual,
            });
        }
        Ok(Totals {
            uncompressed_bytes: position,
            ..totals
        })
    }

    /// Ends the stages after a failure, wherever they wait.
    pub(super) fn stop(&mut self) {
        if let State::Ahead(ahead) = mem::replace(&mut self.state, State::Failed) {
            (self.controls.stop_source)();
            ahead.join();
        }
    }

    /// Replaces the consumed buffer by the next one; false at the end.
    fn advance(&mut self) -> Result<bool, UnpackError> {
        self.before += self.consumed as u64;
        self.consumed = 0;
        let used = mem::take(&mut self.buffer);
        match self.next_buffer(used)? {
            Some(buffer) => self.buffer = buffer,
            None => return Ok(false),
        }
        self.account()?;
        Ok(true)
    }

    fn next_buffer(&mut self, mut used: Buffer) -> Result<Option<Buffer>, UnpackError> {
        loop {
            match mem::replace(&mut self.state, State::Failed) {
                State::Inline(decoder) if self.controls.threads.threads() > 1 => {
                    self.start_ahead(decoder);
                }
                State::Inline(mut decoder) => {
                    self.controls.progress.use_threads(1);
                    self.controls.progress.wait_for(Waiting::Cpu);
                    if !used.fill_from(&mut decoder, self.controls)? {
                        self.state = State::Ended(Totals {
                            compressed_bytes: decoder.bytes_in(),
                            checkpoints: decoder.take_checkpoints(),
                            ..Totals::default()
                        });
                        continue;
                    }
                    self.controls.progress.wait_for(Waiting::Disk);
                    self.state = State::Inline(decoder);
                    return Ok(Some(used));
                }
                State::Ahead(ahead) => {
                    ahead.recycle(mem::take(&mut used));
                    let Some(buffer) = ahead.next() else {
                        self.take_over(ahead)?;
                        continue;
                    };
                    self.state = State::Ahead(ahead);
                    return Ok(Some(buffer));
                }
                State::Ended(totals) => {
                    self.state = State::Ended(totals);
                    return Ok(None);
                }
                State::Failed => return Err(defect("read after a failure")),
            }
        }
    }

    /// Starts as many stages as the permit says; without threads to be had everything stays in this one.
    fn start_ahead(&mut self, decoder: Box<Decoder<R>>) {
        let threads = self.controls.threads.threads();
        match Ahead::start(
            self.scope,
            decoder,
            &mut self.hasher,
            threads,
            self.controls,
        ) {
            Ok(ahead) => {
                self.controls.progress.use_threads(ahead.threads);
                self.state = State::Ahead(ahead);
            }
            Err(decoder) => {
                self.controls.threads.grant(1);
                self.state = State::Inline(decoder);
            }
        }
    }

    /// Takes decoder and hash back from stages that stopped by themselves.
    fn take_over(&mut self, ahead: Ahead<'scope, R>) -> Result<(), UnpackError> {
        let stopped = ahead.join();
        if let Some(hasher) = stopped.hasher {
            self.hasher = Some(hasher?);
        }
        self.state = match stopped.stop? {
            Stop::Ended {
                compressed_bytes,
                checkpoints,
            } => State::Ended(Totals {
                compressed_bytes,
                checkpoints,
                ..Totals::default()
            }),
            Stop::Resized(decoder) => State::Inline(decoder),
        };
        Ok(())
    }

    /// Counts, hashes and bounds the buffer that has just come.
    fn account(&mut self) -> Result<(), UnpackError> {
        let bytes = self.buffer.filled();
        let progress = self.controls.progress;
        progress.add_out(bytes.len() as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        let total = self.before + bytes.len() as u64;
        Bound::UncompressedBytes.check(total, self.bounds.uncompressed_bytes_max)?;
        let by_ratio = progress
            .bytes_in()
            .saturating_mul(self.bounds.expansion_ratio_max);
        if total > self.bounds.expansion_free_bytes && total > by_ratio {
            return Err(Bound::ExpansionRatio.exceeded(self.bounds.expansion_ratio_max));
        }
        let is_due = total / ROOM_CHECKED_BYTES != self.before / ROOM_CHECKED_BYTES;
        match &self.bounds.room {
            Some(room) if is_due => room.check(0),
            _ => Ok(()),
        }
    }
}

impl<'scope, R: Read + Send + 'scope> ByteStream for Supply<'scope, '_, R> {
    fn available(&mut self) -> Result<&[u8], UnpackError> {
        if self.consumed == self.buffer.filled().len() {
            self.advance()?;
        }
        Ok(&self.buffer.filled()[self.consumed..])
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
    }

    fn position(&self) -> u64 {
        self.before + self.consumed as u64
    }
}

fn defect(message: &str) -> UnpackError {
    UnpackError::Panicked {
        stage: "supply",
        message: message.into(),
    }
}

/// Uncompressed bytes between two looks at the room on the disk: a millisecond of writing at 8 GB/s, and a look takes microseconds.
const ROOM_CHECKED_BYTES: u64 = 8 << 20;
