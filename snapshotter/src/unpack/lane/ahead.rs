//! Stages that run ahead of the files: decompression and, with a third thread, hashing.
//!
//! Buffers go round: from a free list to the decoder, on to the hash, to the files and back. Their number bounds the
//! memory and the lead; whoever finds the other side gone stops, so no end can leave the other waiting.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use sha2::{Digest as _, Sha256};

use crate::inflate::Checkpoint;

use super::super::decoder::Decoder;
use super::super::error::UnpackError;
use super::super::progress::Waiting;
use super::guessing::{Ended, decode_in_parallel};
use super::{Controls, guarded};

/// Uncompressed bytes on their way.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    /// What the decoder put in.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Lets `decoder` fill the buffer; false at the end of the stream.
    pub(super) fn fill_from<R: Read>(
        &mut self,
        decoder: &mut Decoder<R>,
        controls: Controls<'_>,
    ) -> Result<bool, UnpackError> {
        let filled = self.fill_with(|bytes| decoder.fill(bytes, controls.progress))?;
        Ok(filled > 0)
    }

    /// Lets `fill` put bytes in, and says how many.
    pub(super) fn fill_with<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.bytes.resize(BUFFER_BYTES, 0);
        self.filled = fill(&mut self.bytes)?;
        Ok(self.filled)
    }
}

/// Why the decoding thread stopped.
pub(super) enum Stop<R> {
    /// The stream ended and the compressed bytes are verified.
    Ended {
        /// Bytes of the blob.
        compressed_bytes: u64,
        /// What was noted on the way.
        checkpoints: Vec<Checkpoint>,
    },
    /// The permit changed, or nobody wants buffers any more; the decoder can go on elsewhere.
    Resized(Box<Decoder<R>>),
}

/// The running stages.
pub(super) struct Ahead<'scope, R> {
    /// Threads in use, the calling one included: 2 or more.
    pub(super) threads: u32,
    buffers: Receiver<Buffer>,
    recycled: Sender<Buffer>,
    decoding: ScopedJoinHandle<'scope, Result<Stop<R>, UnpackError>>,
    hashing: Option<ScopedJoinHandle<'scope, Result<Sha256, UnpackError>>>,
}

/// What is left when the stages have stopped.
pub(super) struct Stopped<R> {
    pub(super) stop: Result<Stop<R>, UnpackError>,
    /// The hash, if a stage had it.
    pub(super) hasher: Option<Result<Sha256, UnpackError>>,
}

impl<'scope, R: Read + Send + 'scope> Ahead<'scope, R> {
    /// Starts the stages, or gives the decoder back if there are no threads to be had. `hasher` is taken for 3 threads.
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        decoder: Box<Decoder<R>>,
        hasher: &mut Option<Sha256>,
        threads: u32,
        controls: Controls<'env>,
    ) -> Result<Self, Box<Decoder<R>>> {
        let goes_indexed = decoder.is_indexed() && threads == INDEXED_THREADS_MIN;
        let (recycled, free) = channel();
        for _ in 0..BUFFERS {
            let _ = recycled.send(Buffer::default());
        }
        let (decoded, mut buffers) = channel();
        // The decoder is handed over only when the thread exists: a failed start would drop it.
        let (handover, decoder_come) = channel::<Box<Decoder<R>>>();
        let body = move || {
            let Ok(decoder) = decoder_come.recv() else {
                return Err(UnpackError::Cancelled);
            };
            guarded("decompression", || {
                decode(decoder, &free, &decoded, threads, controls)
            })
        };
        let Ok(decoding) = Builder::new()
            .name("inflate".into())
            .spawn_scoped(scope, body)
        else {
            return Err(decoder);
        };
        let mut hashing = None;
        if threads > 2
            && !goes_indexed
            && let Some(started) = hasher.take()
        {
            let (hashed, hashed_buffers) = channel();
            let kept = started.clone();
            let decoded = std::mem::replace(&mut buffers, hashed_buffers);
            let body = move || guarded("hash", || Ok(hash(started, &decoded, &hashed)));
            match Builder::new()
                .name("sha256".into())
                .spawn_scoped(scope, body)
            {
                Ok(handle) => hashing = Some(handle),
                Err(_) => {
                    // The decoding thread has nothing yet and ends when it hears that nothing will come.
                    *hasher = Some(kept);
                    drop(handover);
                    let _ = decoding.join();
                    return Err(decoder);
                }
            }
        }
        let _ = handover.send(decoder);
        Ok(Self {
            threads,
            buffers,
            recycled,
            decoding,
            hashing,
        })
    }

    /// The next buffer, or `None` when the stages have stopped: [`join`](Self::join) says why.
    pub(super) fn next(&self) -> Option<Buffer> {
        self.buffers.recv().ok()
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&self, buffer: Buffer) {
        let _ = self.recycled.send(buffer);
    }

    /// Ends the stages and says how they ended.
    pub(super) fn join(self) -> Stopped<R> {
        drop(self.buffers);
        drop(self.recycled);
        let lost = |stage| UnpackError::Panicked {
            stage,
            message: "thread lost".into(),
        };
        Stopped {
            stop: self
                .decoding
                .join()
                .unwrap_or_else(|_| Err(lost("decompression"))),
            hasher: self
                .hashing
                .map(|handle| handle.join().unwrap_or_else(|_| Err(lost("hash")))),
        }
    }
}

fn decode<R: Read + Send>(
    mut decoder: Box<Decoder<R>>,
    free: &Receiver<Buffer>,
    decoded: &Sender<Buffer>,
    threads: u32,
    controls: Controls<'_>,
) -> Result<Stop<R>, UnpackError> {
    // A buffer in order comes first, which shows what decompressor is needed, and last, which finds the stream's end.
    let mut may_guess = false;
    let mut is_suited = true;
    loop {
        if controls.threads.threads() != threads {
            return Ok(Stop::Resized(decoder));
        }
        if may_guess && is_suited && threads >= parallel_threads_min(&decoder) {
            may_guess = false;
            let ended = decode_in_parallel(&mut decoder, free, decoded, threads, controls)?;
            is_suited = ended != Ended::Unsuited;
            continue;
        }
        controls.progress.wait_for(Waiting::Disk);
        let Ok(mut buffer) = free.recv() else {
            return Ok(Stop::Resized(decoder));
        };
        controls.progress.wait_for(Waiting::Cpu);
        if !buffer.fill_from(&mut decoder, controls)? {
            return Ok(Stop::Ended {
                compressed_bytes: decoder.bytes_in(),
                checkpoints: decoder.take_checkpoints(),
            });
        }
        if decoded.send(buffer).is_err() {
            return Ok(Stop::Resized(decoder));
        }
        may_guess = true;
    }
}

/// How many threads of the lane it takes for several to inflate.
const fn parallel_threads_min<R: Read>(decoder: &Decoder<R>) -> u32 {
    if decoder.is_indexed() {
        INDEXED_THREADS_MIN
    } else {
        GUESSING_THREADS_MIN
    }
}

fn hash(mut hasher: Sha256, decoded: &Receiver<Buffer>, hashed: &Sender<Buffer>) -> Sha256 {
    for buffer in decoded {
        hasher.update(buffer.filled());
        if hashed.send(buffer).is_err() {
            break;
        }
    }
    hasher
}

/// Buffers in circulation: 4 MiB of lead, enough to cover one slow file or one late packet.
pub(super) const BUFFERS: usize = 16;
/// Guessing costs 1.6 times the work of decoding in order, so with fewer threads it loses.
const GUESSING_THREADS_MIN: u32 = 4;
/// With an index nothing is done twice: two threads inflate, and one hashes and makes the files.
const INDEXED_THREADS_MIN: u32 = 3;
/// 64 KiB loses to switching threads, 1 MiB to page faults.
const BUFFER_BYTES: usize = 256 << 10;
