//! Decompression on several threads, in the middle of a lane's life.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;

use crate::inflate::ParallelGzip;

use super::super::decoder::Decoder;
use super::super::error::UnpackError;
use super::Controls;
use super::ahead::Buffer;

/// Why decoding on several threads ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It does not pay, or cannot be had, for this stream.
    Unsuited,
    /// Everything is read, the permit changed, or nobody wants buffers any more.
    Stopped,
}

/// Decodes with `guessers` threads, and one more that reads, until the permit is not `threads` any more.
///
/// However it ends, `decoder` stands where the last buffer sent ends.
pub(super) fn decode_in_parallel<R: Read + Send>(
    decoder: &mut Decoder<R>,
    free: &Receiver<Buffer>,
    decoded: &Sender<Buffer>,
    threads: u32,
    controls: Controls<'_>,
) -> Result<Ended, UnpackError> {
    let Some((gzip, input, known)) = decoder.take_gzip() else {
        return Ok(Ended::Unsuited);
    };
    let guessers = (threads - PIPELINE_THREADS).max(2) as usize;
    let (gzip, outcome) = thread::scope(|scope| {
        let reading = &mut *input;
        let read = move |room: &mut [u8]| reading.copy_to(room, controls.progress);
        match ParallelGzip::start(scope, gzip, guessers, STRETCH_BYTES, known, read) {
            Err(gzip) => (gzip, Ok(Ok(Ended::Unsuited))),
            Ok(mut parallel) => {
                let ended = pass_on(&mut parallel, free, decoded, threads, controls);
                let (gzip, read) = parallel.finish();
                (gzip, read.map(|()| ended))
            }
        }
    });
    let ended = outcome?.map_err(|reason| input.error(reason))?;
    decoder.put_gzip(gzip);
    Ok(ended)
}

/// Sends buffers until everything that was read is decoded.
fn pass_on(
    parallel: &mut ParallelGzip<'_, UnpackError>,
    free: &Receiver<Buffer>,
    decoded: &Sender<Buffer>,
    threads: u32,
    controls: Controls<'_>,
) -> Result<Ended, String> {
    let mut ended = Ended::Stopped;
    loop {
        if controls.threads.threads() != threads {
            parallel.stop_reading();
        }
        if parallel.is_hopeless() {
            ended = Ended::Unsuited;
            parallel.stop_reading();
        }
        let Ok(mut buffer) = free.recv() else {
            return Ok(ended);
        };
        if buffer.fill_with(|bytes| parallel.fill(bytes))? == 0 {
            return Ok(ended);
        }
        if decoded.send(buffer).is_err() {
            return Ok(ended);
        }
    }
}

/// Threads of the lane that do not guess: what hashes, and what makes files, which is one where the stream's index makes
/// three of them enough. Reading and putting in order are light.
const PIPELINE_THREADS: u32 = 2;
/// Short enough that a lane with many guessers keeps little memory, long enough that most of each stretch is decoded at full
/// speed.
const STRETCH_BYTES: usize = 2 << 20;
