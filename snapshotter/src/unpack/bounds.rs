//! How large a layer may turn out to be before it is taken for an attack.

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
    pub path_bytes_max: usize,
    /// Bytes of names and values of one entry's extended attributes. Default 65,536, the limit of the kernel's
    /// attribute list (`XATTR_LIST_MAX`).
    pub xattr_bytes_max: usize,
    /// Bytes of one extended header, long name or sparse map. Default 1 MiB, as Go's `archive/tar`
    /// (`maxSpecialFileSize`).
    pub metadata_bytes_max: u64,
    /// Extended headers in front of one entry. Default 64. They are held one at a time.
    pub metadata_headers_max: u32,
    /// Uncompressed bytes of the stream, and as much again of logical file sizes (holes of sparse files count).
    /// Default 1 TiB.
    pub uncompressed_bytes_max: u64,
    /// Uncompressed bytes per compressed byte, once more than `expansion_free_bytes` came out. Default 40,000: DEFLATE
    /// cannot exceed 1,032 and zstd's run-length blocks reach about 32,000.
    pub expansion_ratio_max: u64,
    /// Uncompressed bytes for which the ratio is not looked at. Default 64 MiB.
    pub expansion_free_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries_max: 10_000_000,
            path_bytes_max: 4096,
            xattr_bytes_max: 64 << 10,
            metadata_bytes_max: 1 << 20,
            metadata_headers_max: 64,
            uncompressed_bytes_max: 1 << 40,
            expansion_ratio_max: 40_000,
            expansion_free_bytes: 64 << 20,
        }
    }
}
