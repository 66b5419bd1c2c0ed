//! What can go wrong outside, already classified, and which class it is.

use core::fmt;

/// Why a fetch failed, as the shell saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FetchError {
    /// The connection could not be made, was reset, or ended before the range did.
    Connection,
    /// No byte, or too few of them, for too long.
    Stalled,
    /// 5xx, 408.
    Server,
    /// 429, or 503 with `Retry-After`.
    RateLimited,
    /// 401 or 403 although the credentials were renewed.
    Unauthorized,
    /// 404 or 410.
    NotFound,
    /// The answer to a ranged request makes no sense (wrong `Content-Range`, 416, 400): read the blob whole.
    RangeUnusable,
    /// Anything that a repetition cannot mend: TLS trust, a malformed reply, an impossible length.
    Protocol,
}

/// Why a lane failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LaneError {
    /// A digest does not match, or the stream does not decode: other bytes may mend it.
    Corrupt,
    /// The image itself is unusable: a hostile path, an unknown entry, a bound exceeded.
    BadImage,
    /// The disk is full or fails.
    Disk,
}

/// Why a link or clone failed; the staged tree stays intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LinkError {
    /// The tree depends on what lies below and must be unpacked over it.
    NeedsParents,
    /// What was to be linked or cloned is gone.
    SourceGone,
    /// The disk or the store refused.
    Disk,
}

/// Why a layer, and with it a pull, ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LayerError {
    /// Its bytes could not be had.
    Fetch(FetchError),
    /// Its bytes could not become a tree.
    Lane(LaneError),
    /// Its tree could not take its place.
    Link(LinkError),
    /// The blob is larger than the spool, so it can never be stored.
    SpoolTooSmall,
    /// Nothing of the whole pull came for too long.
    NoProgress,
    /// The pull was cancelled, or another layer of it failed.
    Cancelled,
}

/// What to do about a failed request; decided here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wait, then ask again.
    Retry,
    /// Ask again without ranges.
    Degrade,
    /// Give up (or, for a blob, try the next source).
    Fatal,
}

impl FetchError {
    /// The class of this error.
    pub const fn class(self) -> Class {
        match self {
            Self::Connection | Self::Stalled | Self::Server | Self::RateLimited => Class::Retry,
            Self::RangeUnusable => Class::Degrade,
            Self::Unauthorized | Self::NotFound | Self::Protocol => Class::Fatal,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection lost",
            Self::Stalled => "no progress",
            Self::Server => "server error",
            Self::RateLimited => "rate limited",
            Self::Unauthorized => "not authorized",
            Self::NotFound => "not found",
            Self::RangeUnusable => "unusable answer to a ranged request",
            Self::Protocol => "protocol error",
        })
    }
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "corrupt content",
            Self::BadImage => "unusable layer",
            Self::Disk => "disk error",
        })
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeedsParents => "the tree depends on its parents",
            Self::SourceGone => "the unpacked tree is gone",
            Self::Disk => "disk error",
        })
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => write!(f, "fetch: {error}"),
            Self::Lane(error) => write!(f, "unpack: {error}"),
            Self::Link(error) => write!(f, "link: {error}"),
            Self::NoProgress => f.write_str("no progress"),
            Self::SpoolTooSmall => f.write_str("the blob is larger than the spool"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl core::error::Error for FetchError {}
impl core::error::Error for LaneError {}
impl core::error::Error for LinkError {}
impl core::error::Error for LayerError {}
