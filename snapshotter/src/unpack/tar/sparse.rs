//! Maps of sparse files: which pieces of the file the archive holds. Everything else is a hole.

use super::super::bounds::Bound;
use super::super::error::UnpackError;
use super::super::stream::{ByteStream, read_up_to};
use super::Malformed;
use super::header::{BLOCK_BYTES, number};
use super::pax::{SparseRecords, decimal};

/// A piece of a file that the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where in the file.
    pub(crate) offset: u64,
    /// Bytes, which may be none.
    pub(crate) bytes: u64,
}

/// Which of the PAX sparse formats an entry uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaxFormat {
    /// 0.0 and 0.1: the map stands in the records.
    InRecords,
    /// 1.0: the map stands in front of the data.
    InData,
}

impl SparseRecords {
    /// Recognises the format as Go does; unknown versions are no sparse files.
    pub(super) fn format(&self) -> Option<PaxFormat> {
        match (self.major.as_slice(), self.minor.as_slice()) {
            (b"0", b"0" | b"1") => Some(PaxFormat::InRecords),
            (b"1", b"0") => Some(PaxFormat::InData),
            (b"", b"") if !self.map.is_empty() => Some(PaxFormat::InRecords),
            _ => None,
        }
    }

    /// The size of the file with its holes, if the records say it.
    pub(super) fn logical_bytes(&self) -> Result<Option<i64>, Malformed> {
        let value = if self.size.is_empty() {
            &self.real_size
        } else {
            &self.size
        };
        if value.is_empty() {
            return Ok(None);
        }
        decimal(value, "sparse size").map(Some)
    }

    /// The map of formats 0.0 and 0.1.
    pub(super) fn pieces(&self, file_bytes: u64, pieces_max: u64) -> Result<Vec<Piece>, Malformed> {
        let count = decimal(&self.blocks, "sparse block count")?;
        let numbers: Vec<&[u8]> = match self.map.as_slice() {
            b"" => Vec::new(),
            map => map.split(|byte| *byte == b',').collect(),
        };
        if count < 0
            || usize::try_from(count)
                .ok()
                .and_then(|count| count.checked_mul(2))
                != Some(numbers.len())
        {
            return Err(Malformed::new("sparse map has another length than it says"));
        }
        let mut map = Map::new(file_bytes, pieces_max);
        for pair in numbers.chunks_exact(2) {
            map.push(
                decimal(pair[0], "sparse offset")?,
                decimal(pair[1], "sparse length")?,
            )?;
        }
        Ok(map.pieces)
    }
}

/// Reads the map of the old GNU format: four pieces in the header, the rest in blocks that follow it.
pub(super) fn old_gnu(
    header: &[u8; BLOCK_BYTES],
    stream: &mut dyn ByteStream,
    pieces_max: u64,
) -> Result<(u64, Vec<Piece>), UnpackError> {
    let file_bytes = number(&header[GNU_REAL_SIZE], "sparse size")
        .and_then(|size| u64::try_from(size).map_err(|_| Malformed::new("sparse size is negative")))
        .map_err(|error| error.found_in(stream))?;
    let mut map = Map::new(file_bytes, pieces_max);
    map.push_slots(&header[GNU_SLOTS])
        .map_err(|error| error.found_in(stream))?;
    let mut more = header[GNU_SLOTS.end] > 0;
    let mut blocks = 0;
    while more {
        let mut block = [0; BLOCK_BYTES];
        if read_up_to(stream, &mut block)? < BLOCK_BYTES {
            return Err(tar_error(stream, "ends inside a sparse map"));
        }
        blocks += 1;
        Bound::SparsePieces.check(blocks, pieces_max)?;
        map.push_slots(&block[..EXTENSION_SLOTS_END])
            .map_err(|error| error.found_in(stream))?;
        more = block[EXTENSION_SLOTS_END] > 0;
    }
    Ok((file_bytes, map.pieces))
}

/// Reads the map of PAX format 1.0 and says how many bytes of the entry's data it took.
pub(super) fn in_data(
    stream: &mut dyn ByteStream,
    data_bytes: u64,
    file_bytes: u64,
    limits: (u64, u64),
) -> Result<(u64, Vec<Piece>), UnpackError> {
    let (map_bytes_max, pieces_max) = limits;
    let mut lines = Lines {
        stream,
        text: Vec::new(),
        next: 0,
        taken: 0,
        data_bytes,
        map_bytes_max,
    };
    let count = lines.number()?;
    let Ok(pieces) = u64::try_from(count) else {
        return Err(tar_error(lines.stream, "sparse map has a negative number"));
    };
    Bound::SparsePieces.check(pieces, pieces_max)?;
    let mut map = Map::new(file_bytes, pieces_max);
    for _ in 0..count {
        let (offset, bytes) = (lines.number()?, lines.number()?);
        map.push(offset, bytes)
            .map_err(|error| error.found_in(lines.stream))?;
    }
    Ok((lines.taken, map.pieces))
}

/// A map under construction: pieces are in order, do not overlap and lie inside the file.
struct Map {
    pieces: Vec<Piece>,
    end: u64,
    file_bytes: u64,
    pieces_max: u64,
}

impl Map {
    const fn new(file_bytes: u64, pieces_max: u64) -> Self {
        Self {
            pieces: Vec::new(),
            end: 0,
            file_bytes,
            pieces_max,
        }
    }

    fn push(&mut self, offset: i64, bytes: i64) -> Result<(), Malformed> {
        let (Ok(offset), Ok(bytes)) = (u64::try_from(offset), u64::try_from(bytes)) else {
            return Err(Malformed::new("sparse map has a negative number"));
        };
        let end = offset.saturating_add(bytes);
        if offset < self.end || end > self.file_bytes {
            return Err(Malformed::new(
                "sparse map is out of order or out of the file",
            ));
        }
        if self.pieces.len() as u64 >= self.pieces_max {
            return Err(Malformed::Exceeds(Bound::SparsePieces, self.pieces_max));
        }
        self.pieces.push(Piece { offset, bytes });
        self.end = end;
        Ok(())
    }

    /// Takes slots until the first unused one.
    fn push_slots(&mut self, slots: &[u8]) -> Result<(), Malformed> {
        for slot in slots
            .chunks_exact(SLOT_BYTES)
            .take_while(|slot| slot[0] != 0)
        {
            let (offset, bytes) = slot.split_at(SLOT_BYTES / 2);
            self.push(
                number(offset, "sparse offset")?,
                number(bytes, "sparse length")?,
            )?;
        }
        Ok(())
    }
}

/// Lines of a map that stands in front of the data, read in whole blocks.
struct Lines<'a> {
    stream: &'a mut dyn ByteStream,
    text: Vec<u8>,
    next: usize,
    taken: u64,
    data_bytes: u64,
    map_bytes_max: u64,
}

impl Lines<'_> {
    fn number(&mut self) -> Result<i64, UnpackError> {
        loop {
            let unread = &self.text[self.next..];
            if let Some(length) = unread.iter().position(|byte| *byte == b'\n') {
                let number = decimal(&unread[..length], "sparse map");
                self.next += length + 1;
                return number.map_err(|error| error.found_in(self.stream));
            }
            self.text.drain(..self.next);
            self.next = 0;
            let mut block = [0; BLOCK_BYTES];
            let taken = self.taken + BLOCK_BYTES as u64;
            if taken > self.data_bytes {
                return Err(tar_error(self.stream, "sparse map is longer than the data"));
            }
            Bound::MetadataBytes.check(taken, self.map_bytes_max)?;
            if read_up_to(self.stream, &mut block)? < BLOCK_BYTES {
                return Err(tar_error(self.stream, "ends inside a sparse map"));
            }
            self.taken += BLOCK_BYTES as u64;
            self.text.extend_from_slice(&block);
        }
    }
}

pub(super) fn tar_error(stream: &dyn ByteStream, reason: impl Into<String>) -> UnpackError {
    UnpackError::Tar {
        offset: stream.position(),
        reason: reason.into(),
    }
}

/// Bytes of a piece in a header: two numbers of 12.
const SLOT_BYTES: usize = 24;
/// Four pieces in a GNU header; the byte behind them says whether extension blocks follow.
const GNU_SLOTS: std::ops::Range<usize> = 386..482;
/// The file's size with its holes.
const GNU_REAL_SIZE: std::ops::Range<usize> = 483..495;
/// 21 pieces in an extension block; the byte behind them says whether another block follows.
const EXTENSION_SLOTS_END: usize = 21 * SLOT_BYTES;
