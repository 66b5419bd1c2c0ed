//! The SOCI project's zTOC, version 0.9 (`ztoc/fbs/ztoc.fbs`): a layer's table of contents and its checkpoints.

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

use crate::digest::Digest;
use crate::inflate::Checkpoint;

use super::checkpoints;
use super::flat::{OutOfBounds, Table};

/// What a zTOC holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ztoc {
    /// Bytes of the compressed layer.
    pub compressed_bytes: u64,
    /// Bytes of the tar archive.
    pub uncompressed_bytes: u64,
    /// The archive's entries; empty if nobody asked for them.
    pub entries: Vec<Entry>,
    /// Uncompressed bytes between two checkpoints.
    pub span_bytes: u64,
    /// Places at which the compressed layer can be entered.
    pub checkpoints: Vec<Checkpoint>,
    /// sha256 of the compressed bytes from each checkpoint to the next, as SOCI counts them; empty if nobody asked for them.
    pub span_digests: Vec<Digest>,
}

/// One entry of the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name as the archive has it.
    pub name: String,
    /// `reg`, `dir`, `symlink`, `hardlink`, `char`, `block` or `fifo`.
    pub kind: String,
    /// Where its data begins in the archive.
    pub offset: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// Target of a link.
    pub link: String,
    /// Permission bits.
    pub mode: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, RFC 3339.
    pub modified: String,
    /// Device numbers.
    pub device: (u64, u64),
    /// Extended records by key.
    pub records: Vec<(String, String)>,
}

/// Why bytes are no zTOC that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZtocError {
    /// An offset leads out of the file, or a text is none.
    #[error("it is no zTOC, or it is cut off")]
    Damaged,
    /// Of another version.
    #[error("its version is {version:?}; zTOCs of versions 0.9 and 1.x are read")]
    Version {
        /// The version it tells.
        version: String,
    },
    /// Of a layer that is not gzip.
    #[error("it is for a layer that is not compressed by gzip")]
    NotGzip,
    /// Checkpoints that make no sense.
    #[error("its checkpoints are wrong: {reason}")]
    Checkpoints {
        /// What is wrong with them.
        reason: &'static str,
    },
}

impl From<OutOfBounds> for ZtocError {
    fn from(_: OutOfBounds) -> Self {
        Self::Damaged
    }
}

impl Ztoc {
    /// Reads a zTOC; entries are left out, because nobody needs them to inflate.
    ///
    /// # Errors
    ///
    /// When it is damaged, of another version, or not for a gzip layer.
    pub fn read(bytes: &[u8]) -> Result<Self, ZtocError> {
        let root = Table::root(bytes)?;
        let version = String::from_utf8_lossy(root.text(VERSION)?).into_owned();
        if version.is_empty() {
            return Err(ZtocError::Damaged);
        }
        if version != WRITTEN_VERSION && !version.starts_with("1.") {
            return Err(ZtocError::Version { version });
        }
        let info = root.table(COMPRESSION_INFO)?.ok_or(ZtocError::Damaged)?;
        if info.byte(ALGORITHM, GZIP)? != GZIP {
            return Err(ZtocError::NotGzip);
        }
        let blob = info.vector(CHECKPOINTS)?.ok_or(ZtocError::Damaged)?;
        let (checkpoints, span_bytes) = checkpoints::decode(blob.bytes()?)?;
        let mut span_digests = Vec::new();
        if let Some(digests) = info.vector(SPAN_DIGESTS)? {
            for digest in digests.texts() {
                let digest = std::str::from_utf8(digest?).map_err(|_| ZtocError::Damaged)?;
                span_digests.push(digest.parse().map_err(|_| ZtocError::Damaged)?);
            }
        }
        let bytes = |field| {
            let bytes = root.long(field)?;
            u64::try_from(bytes).map_err(|_| ZtocError::Damaged)
        };
        Ok(Self {
            compressed_bytes: bytes(COMPRESSED_BYTES)?,
            uncompressed_bytes: bytes(UNCOMPRESSED_BYTES)?,
            entries: Vec::new(),
            span_bytes,
            checkpoints,
            span_digests,
        })
    }

    /// How many entries a zTOC lists.
    ///
    /// # Errors
    ///
    /// When it is damaged.
    pub fn count_entries(bytes: &[u8]) -> Result<usize, ZtocError> {
        let toc = Table::root(bytes)?.table(TOC)?;
        let entries = toc.map_or(Ok(None), |toc| toc.vector(ENTRIES))?;
        let Some(entries) = entries else {
            return Ok(0);
        };
        for entry in entries.tables() {
            entry?.text(NAME)?;
        }
        Ok(entries.length)
    }

    /// The zTOC as bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|entry| entry.write(&mut builder))
            .collect();
        let entries = builder.create_vector(&entries);
        let start = builder.start_table();
        builder.push_slot_always(slot(ENTRIES), entries);
        let toc = builder.end_table(start);
        let info = self.write_compression(&mut builder);
        let version = builder.create_string(WRITTEN_VERSION);
        let tool = builder.create_string(TOOL);
        let start = builder.start_table();
        builder.push_slot(slot(COMPRESSED_BYTES), self.compressed_bytes as i64, 0);
        builder.push_slot(slot(UNCOMPRESSED_BYTES), self.uncompressed_bytes as i64, 0);
        builder.push_slot_always(slot(VERSION), version);
        builder.push_slot_always(slot(BUILD_TOOL), tool);
        builder.push_slot_always(slot(TOC), toc);
        builder.push_slot_always(slot(COMPRESSION_INFO), info);
        let root = builder.end_table(start);
        builder.finish(root, None);
        builder.finished_data().to_vec()
    }

    fn write_compression(&self, builder: &mut FlatBufferBuilder<'_>) -> WIPOffset<Finished> {
        let blob = checkpoints::encode(&self.checkpoints, self.span_bytes);
        let blob = builder.create_vector(&blob);
        let digests: Vec<_> = self
            .span_digests
            .iter()
            .map(|digest| builder.create_string(&digest.to_string()))
            .collect();
        let digests = builder.create_vector(&digests);
        let span_last = self.checkpoints.len().saturating_sub(1) as i32;
        let start = builder.start_table();
        builder.push_slot_always(slot(SPAN_DIGESTS), digests);
        builder.push_slot_always(slot(CHECKPOINTS), blob);
        builder.push_slot(slot(SPAN_LAST), span_last, 0);
        builder.push_slot(slot(ALGORITHM), GZIP, GZIP);
        builder.end_table(start)
    }
}

type Finished = flatbuffers::TableFinishedWIPOffset;

impl Entry {
    fn write(&self, builder: &mut FlatBufferBuilder<'_>) -> WIPOffset<Finished> {
        let mut text = |text: &str| builder.create_string(text).as_union_value();
        let texts: [(usize, WIPOffset<UnionWIPOffset>); 4] = [
            (NAME, text(&self.name)),
            (KIND, text(&self.kind)),
            (LINK, text(&self.link)),
            (MODIFIED, text(&self.modified)),
        ];
        let records: Vec<_> = self
            .records
            .iter()
            .map(|(key, value)| {
                let (key, value) = (builder.create_string(key), builder.create_string(value));
                let start = builder.start_table();
                builder.push_slot_always(slot(0), key);
                builder.push_slot_always(slot(1), value);
                builder.end_table(start)
            })
            .collect();
        let records = builder.create_vector(&records);
        let start = builder.start_table();
        for (field, text) in texts {
            builder.push_slot_always(slot(field), text);
        }
        builder.push_slot_always(slot(RECORDS), records);
        for (field, number) in [
            (OFFSET, self.offset),
            (BYTES, self.bytes),
            (MODE, self.mode),
            (DEVICE_MAJOR, self.device.0),
            (DEVICE_MINOR, self.device.1),
        ] {
            builder.push_slot(slot(field), number as i64, 0);
        }
        builder.push_slot(slot(UID), self.uid, 0);
        builder.push_slot(slot(GID), self.gid, 0);
        builder.end_table(start)
    }
}

/// Where a field's offset stands in a table's list of fields.
const fn slot(field: usize) -> flatbuffers::VOffsetT {
    (4 + 2 * field) as flatbuffers::VOffsetT
}

const WRITTEN_VERSION: &str = "0.9";
const TOOL: &str = "parapull";

// Fields of the root, in the schema's order.
const VERSION: usize = 0;
const BUILD_TOOL: usize = 1;
const COMPRESSED_BYTES: usize = 2;
const UNCOMPRESSED_BYTES: usize = 3;
const TOC: usize = 4;
const COMPRESSION_INFO: usize = 5;
// Of the table of contents.
const ENTRIES: usize = 0;
// Of the compression.
const ALGORITHM: usize = 0;
const SPAN_LAST: usize = 1;
const SPAN_DIGESTS: usize = 2;
const CHECKPOINTS: usize = 3;
const GZIP: u8 = 1;
// Of an entry; 8 and 9 are names of owner and group.
const NAME: usize = 0;
const KIND: usize = 1;
const OFFSET: usize = 2;
const BYTES: usize = 3;
const LINK: usize = 4;
const MODE: usize = 5;
const UID: usize = 6;
const GID: usize = 7;
const MODIFIED: usize = 10;
const DEVICE_MAJOR: usize = 11;
const DEVICE_MINOR: usize = 12;
const RECORDS: usize = 13;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Ztoc {
        let window = |bytes: usize| (0..bytes).map(|byte| (byte % 251) as u8).collect();
        let checkpoint = |bit, bytes_before: u64| Checkpoint {
            bit,
            bytes_before,
            window: window(bytes_before.min(32_768) as usize),
        };
        Ztoc {
            compressed_bytes: 3_000_000,
            uncompressed_bytes: 9_000_000,
            entries: vec![Entry {
                name: "etc/passwd".into(),
                kind: "reg".into(),
                offset: 512,
                bytes: 1_000,
                mode: 0o644,
                uid: 7,
                modified: "2026-01-02T03:04:05Z".into(),
                device: (1, 3),
                records: vec![("SCHILY.xattr.user.a".into(), "b".into())],
                ..Entry::default()
            }],
            span_bytes: 4 << 20,
            checkpoints: vec![
                checkpoint(80, 0),
                checkpoint(800_003, 20_000),
                checkpoint(1_600_008, 4_200_000),
            ],
            span_digests: [&b"a"[..], b"b", b"c"].map(Digest::of).to_vec(),
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let written = sample().write();
        let read = Ztoc::read(&written).unwrap();
        assert_eq!(read.checkpoints, sample().checkpoints);
        assert_eq!(
            read,
            Ztoc {
                entries: Vec::new(),
                ..sample()
            }
        );
        assert_eq!(Ztoc::count_entries(&written), Ok(1));
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        for (what, change) in [
            (
                "order",
                (|ztoc| ztoc.checkpoints.reverse()) as fn(&mut Ztoc),
            ),
            ("equal offsets", |ztoc| ztoc.checkpoints[1].bit = 80),
        ] {
            let mut ztoc = sample();
            change(&mut ztoc);
            let error = Ztoc::read(&ztoc.write()).unwrap_err();
            assert!(
                matches!(error, ZtocError::Checkpoints { .. }),
                "{what}: {error}"
            );
        }
        assert_eq!(Ztoc::read(b""), Err(ZtocError::Damaged));
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_an_error_or_another_index_never_a_panic(
            changes in prop::collection::vec((0_usize..20_000, any::<u8>()), 1..6),
            cut in 0_usize..200_000,
        ) {
            let mut bytes = sample().write();
            for (at, value) in changes {
                let length = bytes.len();
                // Most of the file is windows; what matters stands at both ends.
                let at = if at % 2 == 0 { at % 2_000 } else { length - 1 - at % 2_000 };
                bytes[at.min(length - 1)] = value;
            }
            bytes.truncate(cut.max(1));
            let _ = Ztoc::read(&bytes);
            let _ = Ztoc::count_entries(&bytes);
        }
    }
}
