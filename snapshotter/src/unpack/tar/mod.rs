//! Tar archives as Go's `archive/tar` reads them, because what containerd accepts is what images contain.
//!
//! The reader pulls from a `ByteStream` and yields one [`Entry`] at a time, with every extended header already
//! applied to it. The typed views of header blocks are `tar-core`'s; its parser is not used, since the two disagree
//! on real archives: precedence of GNU and PAX names, repeated extended headers, malformed PAX records, negative
//! times, binary owners and devices, signed checksums, a lone zero block, PAX sizes of sparse files.
//!
//! Nothing here knows about layers: whiteouts, paths and limits of images are judged by whoever applies the entries.

mod header;
mod pax;
mod reader;
mod sparse;

pub(super) use reader::{Entry, Limits, Reader};

use super::bounds::Bound;
use super::error::UnpackError;
use super::sink::Time;
use super::stream::ByteStream;

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It is no archive.
    Reason(String),
    /// It has more of something than it may.
    Exceeds(Bound, u64),
}

impl Malformed {
    fn new(reason: impl Into<String>) -> Self {
        Self::Reason(reason.into())
    }

    /// The error at the place to which the stream was read.
    fn found_in(self, stream: &dyn ByteStream) -> UnpackError {
        match self {
            Self::Reason(reason) => UnpackError::Tar {
                offset: stream.position(),
                reason,
            },
            Self::Exceeds(bound, limit) => bound.exceeded(limit),
        }
    }
}

/// A moment that may lie before 1970: seconds and the nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

impl Moment {
    pub(super) const fn at(seconds: i64) -> Self {
        Self {
            seconds,
            nanoseconds: 0,
        }
    }

    /// The moment as a file can have it: containerd puts what lies before 1970, or so late that its nanoseconds
    /// do not fit 63 bits (2262), at 1970.
    pub(super) fn bounded(self) -> Time {
        let nanoseconds = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        if (0..=i128::from(i64::MAX)).contains(&nanoseconds) {
            Time {
                seconds: self.seconds,
                nanoseconds: self.nanoseconds,
            }
        } else {
            Time::default()
        }
    }
}
