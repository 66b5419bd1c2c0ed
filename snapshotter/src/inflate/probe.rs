//! What tests and benches reach of inflating: a whole stream in memory, in order or ahead of its reader. It makes no tree.

use std::convert::Infallible;
use std::thread;

use super::checkpoint::Checkpoint;
use super::gzip::Gzip;
use super::parallel::ParallelGzip;
use super::raw::Stop;

/// Decodes `stream` in the calling thread, hands each buffer to `take`, and notes checkpoints more than `note_span_bytes`
/// apart if that is given.
///
/// # Errors
/// What is wrong with the stream.
pub fn in_order(
    stream: &[u8],
    note_span_bytes: Option<u64>,
    mut take: impl FnMut(&[u8]),
) -> Result<Vec<Checkpoint>, String> {
    let mut gzip = Gzip::new()?;
    if let Some(span_bytes) = note_span_bytes {
        gzip.record(span_bytes);
    }
    let mut room = vec![0; BUFFER_BYTES];
    let (mut at, mut idle_steps) = (0, 0);
    // One idle step is the border between two members.
    while idle_steps < 2 {
        let input = &stream[at..stream.len().min(at + BUFFER_BYTES)];
        let step = gzip.step(input, &mut room, Stop::Full)?;
        at += step.consumed;
        take(&room[..step.produced]);
        let is_idle = step.consumed == 0 && step.produced == 0;
        idle_steps = if is_idle { idle_steps + 1 } else { 0 };
    }
    gzip.end()?;
    Ok(gzip.take_checkpoints())
}

/// Decodes `stream` with `guessers` threads ahead of the calling one, in stretches of `stretch_bytes`, or from `checkpoints`
/// where there are any, and hands each buffer to `take` in the calling thread.
///
/// # Errors
/// What is wrong with the stream, or that there are no threads to be had.
pub fn ahead(
    stream: &[u8],
    guessers: usize,
    stretch_bytes: usize,
    checkpoints: &[Checkpoint],
    mut take: impl FnMut(&[u8]),
) -> Result<(), String> {
    let mut rest = stream;
    let read = move |room: &mut [u8]| {
        let bytes = room.len().min(rest.len());
        room[..bytes].copy_from_slice(&rest[..bytes]);
        rest = &rest[bytes..];
        Ok::<_, Infallible>(bytes)
    };
    thread::scope(|scope| {
        let gzip = Gzip::new()?;
        let started = ParallelGzip::start(scope, gzip, guessers, stretch_bytes, checkpoints, read);
        let mut parallel = started.map_err(|_| "no threads to be had".to_owned())?;
        let mut room = vec![0; BUFFER_BYTES];
        let decoded = loop {
            match parallel.fill(&mut room) {
                Ok(0) => break Ok(()),
                Ok(filled) => take(&room[..filled]),
                Err(reason) => break Err(reason),
            }
        };
        let (gzip, Ok(())) = parallel.finish();
        decoded?;
        gzip.end()
    })
}

/// As a lane's.
const BUFFER_BYTES: usize = 256 << 10;
