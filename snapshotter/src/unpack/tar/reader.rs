//! The archive as a sequence of entries, extended headers already applied.

use super::super::bounds::Bound;
use super::super::error::UnpackError;
use super::super::stream::{ByteStream, read_up_to};
use super::header::{self, BLOCK_BYTES, Dialect, Fields};
use super::pax::Records;
use super::sparse::{self, PaxFormat, Piece, tar_error};
use super::{Malformed, Moment};

/// One member of an archive, numbers unjudged.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) typeflag: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: i64,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) modified: Moment,
    pub(crate) accessed: Option<Moment>,
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the file, holes included.
    pub(crate) file_bytes: u64,
    /// The pieces of a sparse file; `None` if the data is the file.
    pieces: Option<Vec<Piece>>,
}

/// How much metadata is read for one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of an extended header, a long name or a sparse map.
    pub(crate) metadata_bytes_max: u64,
    /// Extended headers in front of one entry.
    pub(crate) metadata_headers_max: u32,
    /// Pieces of a sparse file.
    pub(crate) sparse_pieces_max: u64,
}

/// Reads entries, and the data of the entry read last.
pub(crate) struct Reader<'a> {
    stream: &'a mut dyn ByteStream,
    limits: Limits,
    /// Data bytes of the last entry that were not read, and the padding behind them.
    data_bytes: u64,
    padding_bytes: u64,
}

impl<'a> Reader<'a> {
    /// Reads `stream` from its start.
    pub(crate) fn new(stream: &'a mut dyn ByteStream, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            data_bytes: 0,
            padding_bytes: 0,
        }
    }

    /// Bytes of the archive before the one that is read next: where the last entry's data begins, until it is read.
    pub(crate) fn position(&self) -> u64 {
        self.stream.position()
    }

    /// Skips what was not read of the last entry and reads the next; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (Vec::new(), Vec::new());
        for _ in 0..=self.limits.metadata_headers_max {
            if !self.skip_to_header()? {
                return Ok(None);
            }
            let Some(block) = self.read_header_block()? else {
                return Ok(None);
            };
            let fields = header::parse(&block).map_err(|error| self.error(error))?;
            self.expect_data(fields.typeflag, fields.size)?;
            match fields.typeflag {
                b'x' => {
                    let body = self.read_metadata()?;
                    records = Records::parse(&body).map_err(|error| self.error(error))?;
                }
                b'g' => {
                    // Validated and forgotten, with whatever stood before it: Go hands a global header out as an
                    // entry of its own, which ends what was pending.
                    let body = self.read_metadata()?;
                    Records::parse(&body).map_err(|error| self.error(error))?;
                    records = Records::default();
                    (long_name, long_link) = (Vec::new(), Vec::new());
                }
                b'L' => long_name = header::text(&self.read_metadata()?).to_vec(),
                b'K' => long_link = header::text(&self.read_metadata()?).to_vec(),
                _ => {
                    return self
                        .complete(&block, fields, records, long_name, long_link)
                        .map(Some);
                }
            }
        }
        Err(tar_error(
            self.stream,
            "too many extended headers before an entry",
        ))
    }

    /// Gives the data of the last entry, piece by piece, with its offset in the file.
    pub(crate) fn read_data(
        &mut self,
        entry: &Entry,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let whole = [Piece {
            offset: 0,
            bytes: entry.file_bytes,
        }];
        for piece in entry.pieces.as_deref().unwrap_or(&whole) {
            if piece.bytes > self.data_bytes {
                return Err(tar_error(
                    self.stream,
                    "a sparse file has less data than its map",
                ));
            }
            let mut offset = piece.offset;
            let end = piece.offset + piece.bytes;
            while offset < end {
                let available = self.stream.available()?;
                if available.is_empty() {
                    return Err(tar_error(self.stream, "ends inside a file"));
                }
                let taken = usize::try_from(end - offset)
                    .unwrap_or(usize::MAX)
                    .min(available.len());
                take(offset, &available[..taken])?;
                self.stream.consume(taken);
                self.data_bytes -= taken as u64;
                offset += taken as u64;
            }
        }
        if self.data_bytes > 0 {
            return Err(tar_error(
                self.stream,
                "a sparse file has more data than its map",
            ));
        }
        Ok(())
    }

    /// Applies the extended headers to an entry's own.
    fn complete(
        &mut self,
        block: &[u8; BLOCK_BYTES],
        fields: Fields,
        records: Records,
        long_name: Vec<u8>,
        long_link: Vec<u8>,
    ) -> Result<Entry, UnpackError> {
        let non_empty = |name: Vec<u8>| (!name.is_empty()).then_some(name);
        let name = non_empty(long_name).or(records.path).unwrap_or(fields.name);
        let typeflag = match fields.typeflag {
            0 if name.ends_with(b"/") => b'5',
            0 => b'0',
            typeflag => typeflag,
        };
        let size = records.size.unwrap_or(fields.size);
        self.expect_data(typeflag, size)?;
        let mut entry = Entry {
            typeflag,
            name,
            link: non_empty(long_link).or(records.link).unwrap_or(fields.link),
            mode: fields.mode,
            uid: records.uid.unwrap_or(fields.uid),
            gid: records.gid.unwrap_or(fields.gid),
            modified: records.modified.unwrap_or(fields.modified),
            accessed: records.accessed.or(fields.accessed),
            major: fields.major,
            minor: fields.minor,
            xattrs: records.xattrs,
            file_bytes: self.data_bytes,
            pieces: None,
        };
        if typeflag == b'S' {
            if fields.dialect != Dialect::Gnu {
                return Err(tar_error(
                    self.stream,
                    "an old sparse file without a GNU header",
                ));
            }
            let (file_bytes, pieces) =
                sparse::old_gnu(block, self.stream, self.limits.sparse_pieces_max)?;
            entry.file_bytes = file_bytes;
            entry.pieces = Some(pieces);
        } else if let Some(format) = records.sparse.format() {
            self.complete_sparse(&mut entry, format, &records.sparse, size)?;
        }
        Ok(entry)
    }

    fn complete_sparse(
        &mut self,
        entry: &mut Entry,
        format: PaxFormat,
        records: &super::pax::SparseRecords,
        size: i64,
    ) -> Result<(), UnpackError> {
        if is_header_only(entry.typeflag) {
            return Err(tar_error(self.stream, "a sparse entry that is not a file"));
        }
        if !records.name.is_empty() {
            entry.name.clone_from(&records.name);
        }
        let logical = records
            .logical_bytes()
            .map_err(|error| self.error(error))?
            .unwrap_or(size);
        entry.file_bytes = u64::try_from(logical)
            .map_err(|_| tar_error(self.stream, "sparse size is negative"))?;
        let pieces = match format {
            PaxFormat::InRecords => {
                let pieces = records.pieces(entry.file_bytes, self.limits.sparse_pieces_max);
                pieces.map_err(|error| self.error(error))?
            }
            PaxFormat::InData => {
                let limits = (
                    self.limits.metadata_bytes_max,
                    self.limits.sparse_pieces_max,
                );
                let (taken, pieces) =
                    sparse::in_data(self.stream, self.data_bytes, entry.file_bytes, limits)?;
                self.data_bytes -= taken;
                pieces
            }
        };
        entry.pieces = Some(pieces);
        Ok(())
    }

    /// Notes how many bytes of data follow a header.
    fn expect_data(&mut self, typeflag: u8, size: i64) -> Result<(), UnpackError> {
        let size = u64::try_from(size)
            .map_err(|_| tar_error(self.stream, "an entry has a negative size"))?;
        self.data_bytes = if is_header_only(typeflag) { 0 } else { size };
        self.padding_bytes = self.data_bytes.wrapping_neg() % BLOCK_BYTES as u64;
        Ok(())
    }

    /// False if the stream ends inside the padding: the archive ends there.
    fn skip_to_header(&mut self) -> Result<bool, UnpackError> {
        let mut left = self.data_bytes + self.padding_bytes;
        while left > 0 {
            let available = self.stream.available()?.len();
            if available == 0 {
                if left > self.padding_bytes {
                    return Err(tar_error(self.stream, "ends inside a file"));
                }
                return Ok(false);
            }
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
            self.stream.consume(taken);
            left -= taken as u64;
        }
        self.data_bytes = 0;
        self.padding_bytes = 0;
        Ok(true)
    }

    /// `None` at the end: two zero blocks, or the end of the stream before or after one.
    fn read_header_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, UnpackError> {
        let Some(block) = self.read_block()? else {
            return Ok(None);
        };
        if block != [0; BLOCK_BYTES] {
            return Ok(Some(block));
        }
        match self.read_block()? {
            Some(second) if second != [0; BLOCK_BYTES] => Err(tar_error(
                self.stream,
                "a header follows a single zero block",
            )),
            _ => Ok(None),
        }
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, UnpackError> {
        let mut block = [0; BLOCK_BYTES];
        match read_up_to(self.stream, &mut block)? {
            0 => Ok(None),
            BLOCK_BYTES => Ok(Some(block)),
            _ => Err(tar_error(self.stream, "ends inside a header")),
        }
    }

    fn read_metadata(&mut self) -> Result<Vec<u8>, UnpackError> {
        Bound::MetadataBytes.check(self.data_bytes, self.limits.metadata_bytes_max)?;
        let mut body = vec![0; usize::try_from(self.data_bytes).unwrap_or(usize::MAX)];
        if read_up_to(self.stream, &mut body)? < body.len() {
            return Err(tar_error(self.stream, "ends inside an extended header"));
        }
        self.data_bytes = 0;
        Ok(body)
    }

    fn error(&self, error: Malformed) -> UnpackError {
        error.found_in(self.stream)
    }
}

/// Types that have no data, whatever their size field says.
const fn is_header_only(typeflag: u8) -> bool {
    matches!(typeflag, b'1'..=b'6')
}

#[cfg(test)]
mod tests {
    use super::super::super::stream::SliceStream;
    use super::*;

    const LIMITS: Limits = Limits {
        metadata_bytes_max: 1 << 20,
        metadata_headers_max: 64,
        sparse_pieces_max: 1000,
    };

    /// Name, type and data of every entry, with the stream cut into pieces of `step` bytes.
    fn entries(bytes: &[u8], step: usize) -> Vec<(Vec<u8>, u8, Vec<u8>)> {
        let mut stream = SliceStream {
            bytes,
            position: 0,
            step,
        };
        let mut reader = Reader::new(&mut stream, LIMITS);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            let mut data = Vec::new();
            reader
                .read_data(&entry, |_, bytes| {
                    data.extend_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
            entries.push((entry.name, entry.typeflag, data));
        }
        entries
    }

    #[test]
    fn borders_of_buffers_do_not_matter() {
        let mut builder = tar::Builder::new(Vec::new());
        for (index, name) in [
            "short".to_owned(),
            "long/".repeat(50),
            "longer/".repeat(100),
        ]
        .iter()
        .enumerate()
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(index as u64 * 700);
            header.set_mode(0o644);
            builder
                .append_pax_extensions([("comment", &b"any"[..])])
                .unwrap();
            builder
                .append_data(
                    &mut header,
                    name.trim_end_matches('/'),
                    &vec![b'x'; index * 700][..],
                )
                .unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let whole = entries(&bytes, usize::MAX >> 1);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[2].2.len(), 1400);
        for step in [1, 7, 511, 512, 513, 4096] {
            assert_eq!(entries(&bytes, step), whole, "{step}");
        }
    }
}
