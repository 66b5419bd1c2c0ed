//! What lanes know of the inside of their blobs when they begin, and what they leave for later ones.
//!
//! All of it is a hint: without an index, or with a wrong one, a layer is unpacked all the same, only slower.

use crate::digest::Digest;
use crate::index::{Cache, SPAN_BYTES, Ztoc};
use crate::inflate::Checkpoint;
use crate::unpack::{Indexing, LayerSpec, Unpacked};

/// The index of one blob, known or to be.
#[derive(Debug)]
pub(super) struct BlobIndex {
    cache: Option<Cache>,
    blob: Digest,
}

/// What a lane noted of its blob.
#[derive(Debug)]
pub(super) struct Noted {
    checkpoints: Vec<Checkpoint>,
    compressed_bytes: u64,
    uncompressed_bytes: u64,
}

impl BlobIndex {
    /// That of the blob of `spec`, in `cache` if there is one and the blob is worth it.
    pub(super) fn new(cache: Option<&Cache>, spec: &LayerSpec) -> Self {
        let cache = cache.filter(|_| spec.size >= BLOB_BYTES_MIN);
        Self {
            cache: cache.cloned(),
            blob: spec.digest,
        }
    }

    /// What a lane begins with: the checkpoints, or to note some. It reads a file.
    pub(super) fn indexing(&self) -> Indexing {
        let Some(cache) = &self.cache else {
            return Indexing::default();
        };
        let known = cache.find(&self.blob).unwrap_or_else(|error| {
            tracing::warn!(%error, "an index cannot be used and is made anew");
            None
        });
        let known = known.map(|index| index.checkpoints).unwrap_or_default();
        Indexing {
            note_span_bytes: known.is_empty().then_some(SPAN_BYTES),
            known,
        }
    }

    /// Keeps what a lane noted. It writes a file.
    pub(super) fn keep(&self, noted: Noted) {
        let Some(cache) = &self.cache else {
            return;
        };
        // With the stream's beginning alone there is nothing to divide.
        if noted.checkpoints.len() < 2 {
            return;
        }
        let index = Ztoc {
            compressed_bytes: noted.compressed_bytes,
            uncompressed_bytes: noted.uncompressed_bytes,
            span_bytes: SPAN_BYTES,
            checkpoints: noted.checkpoints,
            ..Ztoc::default()
        };
        if let Err(error) = cache.keep(&self.blob, &index) {
            tracing::warn!(%error, "an index cannot be kept");
        }
    }
}

impl Noted {
    /// Takes it out of what a lane ended with.
    pub(super) fn take(unpacked: &mut Unpacked) -> Self {
        Self {
            checkpoints: std::mem::take(&mut unpacked.checkpoints),
            compressed_bytes: unpacked.compressed_bytes,
            uncompressed_bytes: unpacked.uncompressed_bytes,
        }
    }
}

/// A smaller blob is inflated before several threads have begun: a tenth of a second.
const BLOB_BYTES_MIN: u64 = 8 << 20;
