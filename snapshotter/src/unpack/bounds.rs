//! How large a layer may turn out to be before it is taken for an attack.

use std::path::Path;

use super::error::UnpackError;
use super::room::Room;

/// Limits on what one layer may unpack to.
///
/// The defaults let every image pass that a registry serves in earnest; the uncompressed size is the one that a
/// caller should set, from the free space of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Tar entries. Default 10,000,000: what an ext4 of 160 GB has inodes for. A lane remembers directories only,
    /// about 200 bytes each.
    pub entries_max: u64,
    /// Bytes of a path, after cleaning and with symlinks resolved. Default 4096 (`PATH_MAX`), as containerd is held to.
    pub path_bytes_max: u64,
    /// Bytes of names and values of one entry's extended attributes. Default 65,536, the limit of the kernel's
    /// attribute list (`XATTR_LIST_MAX`).
    pub xattr_bytes_max: u64,
    /// Bytes of one extended header, long name or sparse map. Default 1 MiB, as Go's `archive/tar`
    /// (`maxSpecialFileSize`).
    pub metadata_bytes_max: u64,
    /// Extended headers in front of one entry. Default 64. They are held one at a time.
    pub metadata_headers_max: u32,
    /// Pieces of one sparse file, 16 bytes of memory each. Default 1,000,000, as Go; most forms cannot hold more in 1 MiB.
    pub sparse_pieces_max: u64,
    /// Uncompressed bytes of the stream, and as much again of logical file sizes (holes of sparse files count).
    /// Default 1 TiB.
    pub uncompressed_bytes_max: u64,
    /// Uncompressed bytes per compressed byte, once more than `expansion_free_bytes` came out. Default 40,000: DEFLATE
    /// cannot exceed 1,032 and zstd's run-length blocks reach about 32,000.
    pub expansion_ratio_max: u64,
    /// Uncompressed bytes for which the ratio is not looked at. Default 64 MiB.
    pub expansion_free_bytes: u64,
    /// Bytes that stay free on the file system. Default: what [`Room`] takes for enough.
    pub reserve_bytes: Option<u64>,
    /// The file system that has to have room. Default: nobody looks.
    pub room: Option<Room>,
}

impl Bounds {
    /// The same for a layer that is unpacked below `directory`, as long as there is room.
    #[must_use]
    pub fn within(mut self, directory: &Path) -> Self {
        self.room = Some(Room::of(directory, self.reserve_bytes));
        self
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries_max: 10_000_000,
            path_bytes_max: 4096,
            xattr_bytes_max: 64 << 10,
            metadata_bytes_max: 1 << 20,
            metadata_headers_max: 64,
            sparse_pieces_max: 1_000_000,
            uncompressed_bytes_max: 1 << 40,
            expansion_ratio_max: 40_000,
            expansion_free_bytes: 64 << 20,
            reserve_bytes: None,
            room: None,
        }
    }
}

/// A bound that a layer may exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Entries,
    PathBytes,
    XattrBytes,
    MetadataBytes,
    SparsePieces,
    UncompressedBytes,
    FileBytes,
    ExpansionRatio,
}

impl Bound {
    /// The error of a layer that has more than `limit`; which entry it was is said by whoever knows.
    pub(super) const fn exceeded(self, limit: u64) -> UnpackError {
        let (what, key) = self.words();
        UnpackError::Bound {
            path: String::new(),
            what,
            limit,
            key,
        }
    }

    /// Passes what is within the limit.
    pub(super) const fn check(self, count: u64, limit: u64) -> Result<(), UnpackError> {
        if count > limit {
            return Err(self.exceeded(limit));
        }
        Ok(())
    }

    /// What there is too much of, and the setting that allows more.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Entries => ("entries in the layer", "max_entries"),
            Self::PathBytes => ("bytes in its name or target", "max_path"),
            Self::XattrBytes => ("bytes of extended attributes", "max_xattrs"),
            Self::MetadataBytes => ("bytes in an extended header", "max_metadata"),
            Self::SparsePieces => ("pieces in a sparse file", "max_sparse_pieces"),
            Self::UncompressedBytes => ("uncompressed bytes in the layer", "max_uncompressed"),
            Self::FileBytes => (
                "bytes in the layer's files, holes counted",
                "max_uncompressed",
            ),
            Self::ExpansionRatio => ("uncompressed bytes for a compressed one", "max_expansion"),
        }
    }
}
