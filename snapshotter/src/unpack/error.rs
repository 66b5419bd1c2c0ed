//! Why a layer could not be unpacked, in classes by which the caller decides what to do.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;

use super::overlay::display;

/// Why a layer could not be unpacked. Nothing of it is left on disk.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The compressed bytes are not the ones that the manifest names.
    #[error(
        "verify the layer: its compressed bytes have digest {actual}, the manifest says {expected}"
    )]
    CompressedDigest {
        /// From the manifest.
        expected: Digest,
        /// Of the bytes received.
        actual: Digest,
    },
    /// There are fewer or more compressed bytes than the descriptor says.
    #[error(
        "verify the layer: it has {actual} compressed bytes or more, the manifest says {expected}"
    )]
    CompressedSize {
        /// From the manifest.
        expected: u64,
        /// Bytes received when the difference was found.
        actual: u64,
    },
    /// The uncompressed bytes are not the ones that the image configuration names.
    #[error(
        "verify the layer: its uncompressed bytes have digest {actual}, the image configuration says {expected}"
    )]
    DiffId {
        /// From the image configuration.
        expected: Digest,
        /// Of the bytes decompressed.
        actual: Digest,
    },
    /// The bytes are not a gzip or zstd stream.
    #[error("decompress the layer at compressed byte {offset}: {reason}")]
    Decompress {
        /// Compressed bytes consumed when the fault was found.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The uncompressed bytes are not a tar archive.
    #[error("read the layer's tar archive at byte {offset}: {reason}")]
    Tar {
        /// Uncompressed bytes consumed when the fault was found.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An entry is hostile, impossible or of a kind that images cannot have.
    #[error("unpack {path:?}: {reason}")]
    BadEntry {
        /// The entry's path, as far as it can be shown.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The layer is larger than [`Bounds`](super::Bounds) allow.
    #[error(
        "unpack {path:?}: more than {limit} {what}; raise {key} if the image is meant to be like that"
    )]
    Bound {
        /// The entry at which it was found, or the last one before it; empty before the first.
        path: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The setting that allows more.
        key: &'static str,
    },
    /// The file system refused.
    #[error("{operation} {path:?}: {source}")]
    Disk {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The path inside the layer.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system has no room for the layer; told in the kernel's words, which people and tools look for.
    #[error(
        "unpack the layer: No space left on device for {directory}: {free_bytes} bytes are free, {reserve_bytes} of them \
         reserved (disk_reserve), and {more_bytes} or more are to come; remove images or enlarge the disk",
        directory = directory.display()
    )]
    Full {
        /// Where it is unpacked.
        directory: PathBuf,
        /// Bytes free.
        free_bytes: u64,
        /// Bytes that stay free.
        reserve_bytes: u64,
        /// Bytes that are still to be written at least.
        more_bytes: u64,
    },
    /// The lane was cancelled.
    #[error("unpack the layer: cancelled")]
    Cancelled,
    /// The bytes could not be had.
    #[error("read the layer's bytes: {0}")]
    Source(#[source] io::Error),
    /// A defect of this program: a stage panicked.
    #[error("unpack the layer: the {stage} stage panicked: {message}")]
    Panicked {
        /// Which stage.
        stage: &'static str,
        /// The panic's message.
        message: String,
    },
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The bytes are not what they should be: fetching them again may help.
    Corrupt,
    /// The image is hostile or unsupported: fetching it again does not help.
    BadImage,
    /// The file system is full, read-only, broken or not permitted.
    Disk,
    /// The lane was told to stop.
    Cancelled,
    /// The bytes could not be had; the source knows why.
    Source,
    /// A defect of this program.
    Defect,
}

impl UnpackError {
    /// The class by which to decide what to do.
    pub const fn class(&self) -> Class {
        match self {
            Self::CompressedDigest { .. }
            | Self::CompressedSize { .. }
            | Self::DiffId { .. }
            | Self::Decompress { .. }
            | Self::Tar { .. } => Class::Corrupt,
            Self::BadEntry { .. } | Self::Bound { .. } => Class::BadImage,
            Self::Disk { .. } | Self::Full { .. } => Class::Disk,
            Self::Cancelled => Class::Cancelled,
            Self::Source(_) => Class::Source,
            Self::Panicked { .. } => Class::Defect,
        }
    }

    /// Says at which entry a bound was exceeded, unless that is said.
    pub(super) fn at_entry(self, name: &[u8]) -> Self {
        match self {
            Self::Bound {
                path,
                what,
                limit,
                key,
            } if path.is_empty() => Self::Bound {
                path: display(name),
                what,
                limit,
                key,
            },
            other => other,
        }
    }

    pub(super) fn of_source(error: io::Error) -> Self {
        let cancelled = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Cancelled>());
        if cancelled.is_some() {
            Self::Cancelled
        } else {
            Self::Source(error)
        }
    }
}

/// What a source's reader returns, inside an [`io::Error`], when the lane is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        Self::other(cancelled)
    }
}

/// Why a sink could not apply an entry.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The entry is at fault.
    #[error("unpack {path:?}: {reason}")]
    BadEntry {
        /// The entry's path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system is at fault.
    #[error("{operation} {path:?}: {source}")]
    Disk {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The path inside the layer.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SinkError {
    pub(super) fn bad(path: &[u8], reason: impl Into<String>) -> Self {
        Self::BadEntry {
            path: display(path),
            reason: reason.into(),
        }
    }

    pub(super) fn disk(operation: &'static str, path: &[u8], errno: rustix::io::Errno) -> Self {
        Self::Disk {
            operation,
            path: display(path),
            source: errno.into(),
        }
    }
}

impl From<SinkError> for UnpackError {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::BadEntry { path, reason } => Self::BadEntry { path, reason },
            SinkError::Disk {
                operation,
                path,
                source,
            } => Self::Disk {
                operation,
                path,
                source,
            },
        }
    }
}
