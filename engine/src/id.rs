//! Names of things: small integers that are never reused.
//!
//! Whoever creates a thing names it: the shell numbers images, blobs and layers, the engine numbers ops.
//! Digests and references stay outside.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// One image being pulled.
    ImageId(u32)
}
id! {
    /// One compressed digest; what is fetched.
    BlobId(u32)
}
id! {
    /// One (diffID, sink format, bottom layer or not); what is unpacked once.
    LayerId(u32)
}
id! {
    /// One layer over all that lies below it, as OCI's chain id names it: equal ones are the same layer over the same parents.
    ChainId(u32)
}
id! {
    /// One outstanding action. Emitted in exactly one action, closed by exactly one input.
    OpId(u64)
}
id! {
    /// One place a blob can be read from: an index into the hosts of its layer, mirrors before the origin; or
    /// [`SourceId::LOCAL`].
    SourceId(u16)
}
id! {
    /// One origin that blobs are read from, in whichever images.
    HostId(u32)
}
id! {
    /// One span of a blob: a contiguous range that one decoder reads in order.
    SpanId(u32)
}

impl SourceId {
    /// The local store: bytes that are on this node already.
    pub const LOCAL: Self = Self(u16::MAX);
}

/// A half-open range of bytes of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte; never below `start`.
    pub end: u64,
}

impl ByteRange {
    /// The range `[start, end)`.
    ///
    /// # Panics
    /// When `end` lies before `start`.
    pub const fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "a byte range ends before it starts");
        Self { start, end }
    }

    /// Number of bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it covers nothing.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
