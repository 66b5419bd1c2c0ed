//! Reads a whole layer and tells what is in it, without making a tree: its entries, its digests, where it can be entered.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::bounds::Bounds;
use super::decoder::Decoder;
use super::error::UnpackError;
use super::indexing::Indexing;
use super::progress::Progress;
use super::spec::LayerSpec;
use super::stream::ByteStream;
use super::tar::{Entry, Limits, Reader};
use crate::digest::Digest;
use crate::inflate::Checkpoint;

/// What a layer holds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Its archive's entries, in order.
    pub members: Vec<Member>,
    /// Bytes of its archive.
    pub uncompressed_bytes: u64,
    /// Where its compressed stream can be entered; none unless it is gzip.
    pub checkpoints: Vec<Checkpoint>,
}

/// One entry of a layer's archive, as it stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Type flag of the header.
    pub typeflag: u8,
    /// Name, not cleaned.
    pub name: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Where the data begins in the archive.
    pub offset: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u64,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds since 1970.
    pub modified_seconds: i64,
    /// Device numbers.
    pub device: (u64, u64),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Surveys the layer that `source` gives; its diff id need not be known.
///
/// # Errors
/// [`UnpackError`], when the bytes are not those of `spec`, do not decompress, or are no archive.
pub fn survey<R: Read>(
    source: R,
    spec: &LayerSpec,
    note_span_bytes: u64,
) -> Result<(Survey, Digest), UnpackError> {
    let indexing = Indexing {
        known: Vec::new(),
        note_span_bytes: Some(note_span_bytes),
    };
    let mut stream = Decoded {
        decoder: Decoder::new(source, spec.clone(), indexing),
        hasher: Sha256::new(),
        progress: Progress::new(),
        bytes: vec![0; BUFFER_BYTES],
        filled: 0,
        consumed: 0,
        before: 0,
    };
    let mut members = Vec::new();
    let bounds = Bounds::default();
    let limits = Limits {
        metadata_bytes_max: bounds.metadata_bytes_max,
        metadata_headers_max: bounds.metadata_headers_max,
        sparse_pieces_max: bounds.sparse_pieces_max,
    };
    let mut reader = Reader::new(&mut stream, limits);
    while let Some(entry) = reader.next()? {
        members.push(Member::of(entry, reader.position()));
    }
    while stream.skip_buffer()? {}
    let survey = Survey {
        members,
        uncompressed_bytes: stream.position(),
        checkpoints: stream.decoder.take_checkpoints(),
    };
    Ok((survey, Digest::from_bytes(stream.hasher.finalize().into())))
}

impl Member {
    fn of(entry: Entry, offset: u64) -> Self {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let id = |id: i64| u32::try_from(id).unwrap_or(0);
        Self {
            typeflag: entry.typeflag,
            name: entry.name,
            link: entry.link,
            offset,
            bytes: entry.file_bytes,
            mode: number(entry.mode),
            owner: (id(entry.uid), id(entry.gid)),
            modified_seconds: entry.modified.seconds,
            device: (number(entry.major), number(entry.minor)),
            xattrs: entry.xattrs,
        }
    }
}

struct Decoded<R> {
    decoder: Decoder<R>,
    hasher: Sha256,
    progress: Progress,
    bytes: Vec<u8>,
    filled: usize,
    consumed: usize,
    before: u64,
}

impl<R: Read> Decoded<R> {
    /// False at the end.
    fn skip_buffer(&mut self) -> Result<bool, UnpackError> {
        let rest = self.available()?.len();
        self.consume(rest);
        Ok(rest > 0)
    }
}

impl<R: Read> ByteStream for Decoded<R> {
    fn available(&mut self) -> Result<&[u8], UnpackError> {
        if self.consumed == self.filled {
            self.before += self.filled as u64;
            self.consumed = 0;
            self.filled = self.decoder.fill(&mut self.bytes, &self.progress)?;
            self.hasher.update(&self.bytes[..self.filled]);
        }
        Ok(&self.bytes[self.consumed..self.filled])
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
    }

    fn position(&self) -> u64 {
        self.before + self.consumed as u64
    }
}

const BUFFER_BYTES: usize = 256 << 10;
