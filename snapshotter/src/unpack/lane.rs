//! One layer from its first compressed byte to its verified tree, on one or several threads.
//!
//! The calling thread always parses the archive and makes the files; in layers of small files other threads fill them, out
//! of the same permit. Decompression, and with a third thread the hash
//! of the uncompressed bytes, run ahead of it or inside it, as the permit says at each buffer:
//!
//! ```text
//! 1 thread    [ read, sha256 C, inflate, sha256 U, tar, files ]
//! 2 threads   [ read, sha256 C, inflate ] -> [ sha256 U, tar, files ]
//! 3 threads   [ read, sha256 C, inflate ] -> [ sha256 U ] -> [ tar, files ]
//! 4 and more  [ read, sha256 C ] -> 2 or more times [ inflate ] -> [ put in order ] -> [ sha256 U ] -> [ tar, files ]
//! ```

use std::any::Any;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::inflate::Checkpoint;

use super::apply;
use super::bounds::Bounds;
use super::decoder::Decoder;
use super::error::UnpackError;
use super::indexing::Indexing;
use super::progress::{Progress, ThreadPermit};
use super::sink::{Sink, Staged};
use super::spec::LayerSpec;

mod ahead;
mod guessing;
mod supply;

use supply::Supply;

/// How a lane is steered and watched while it runs.
#[derive(Clone, Copy)]
pub struct Controls<'a> {
    /// Threads the lane may use, looked at before each buffer.
    pub threads: &'a ThreadPermit,
    /// What the lane has done.
    pub progress: &'a Progress,
    /// Makes a blocked read of the source return, with any error. Called when the layer failed for a reason that the
    /// reading thread cannot know, so that it does not wait for bytes nobody wants.
    pub stop_source: &'a (dyn Fn() + Sync),
}

/// A layer whose tree is complete and whose two digests hold.
#[derive(Debug)]
pub struct Unpacked {
    /// The tree.
    pub staged: Staged,
    /// Bytes of the blob.
    pub compressed_bytes: u64,
    /// Bytes of the tar stream, with what follows the archive's end.
    pub uncompressed_bytes: u64,
    /// What was noted of the compressed stream.
    pub checkpoints: Vec<Checkpoint>,
}

/// Unpacks one layer from `source` into `sink`.
///
/// `source` gives the compressed bytes in order, blocks while it waits, and returns
/// [`Cancelled`](super::Cancelled) inside an [`std::io::Error`] when the lane is to stop. The tree is finished only
/// when the compressed bytes have `spec.digest` and the uncompressed ones `spec.diff_id`, those after the archive's
/// end included. On any error the sink is dropped, which removes what it made.
///
/// Memory: 256 KiB for input and one or, with more threads, at most 16 buffers of 256 KiB; with four threads and more
/// some 30 MiB for each that inflates.
///
/// # Errors
/// [`UnpackError`], whose [`class`](UnpackError::class) says whether another fetch, another image or another disk
/// would help.
pub fn unpack<R: Read + Send>(
    source: R,
    spec: &LayerSpec,
    sink: Box<dyn Sink>,
    bounds: &Bounds,
    controls: Controls<'_>,
) -> Result<Unpacked, UnpackError> {
    unpack_indexed(source, spec, Indexing::default(), sink, bounds, controls)
}

/// [`unpack`] with what is known of the compressed stream, or with noting it.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_indexed<R: Read + Send>(
    source: R,
    spec: &LayerSpec,
    indexing: Indexing,
    sink: Box<dyn Sink>,
    bounds: &Bounds,
    controls: Controls<'_>,
) -> Result<Unpacked, UnpackError> {
    let decoder = Decoder::new(source, spec.clone(), indexing);
    thread::scope(|scope| {
        let mut supply = Supply::new(scope, decoder, bounds.clone(), controls);
        let outcome = guarded("files", || run(&mut supply, spec, sink, bounds, controls));
        if outcome.is_err() {
            supply.stop();
        }
        outcome
    })
}

fn run<'scope, R: Read + Send + 'scope>(
    supply: &mut Supply<'scope, '_, R>,
    spec: &LayerSpec,
    mut sink: Box<dyn Sink>,
    bounds: &Bounds,
    controls: Controls<'_>,
) -> Result<Unpacked, UnpackError> {
    apply::apply(supply, sink.as_mut(), bounds, controls)?;
    let totals = supply.verified(spec.diff_id)?;
    Ok(Unpacked {
        staged: sink.finish()?,
        compressed_bytes: totals.compressed_bytes,
        uncompressed_bytes: totals.uncompressed_bytes,
        checkpoints: totals.checkpoints,
    })
}

/// Turns a panic of a stage into an error.
fn guarded<T>(
    stage: &'static str,
    body: impl FnOnce() -> Result<T, UnpackError>,
) -> Result<T, UnpackError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(UnpackError::Panicked {
            stage,
            message: panic_message(panic.as_ref()),
        })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
