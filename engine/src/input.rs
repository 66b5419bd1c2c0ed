//! Facts: what the outside tells the engine.

use alloc::vec::Vec;

use crate::error::{FetchError, LaneError, LinkError};
use crate::id::{BlobId, ByteRange, ChainId, HostId, ImageId, LayerId, OpId};
use crate::limits::Limits;

/// Something that happened.
///
/// Byte counts are cumulative per op, so a lost or merged report does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// An image is wanted. The shell chose an `ImageId` never used before.
    PullRequested(Pull),
    /// A caller waits for a layer of an image; links are made only for layers someone waits for.
    LayerAwaited {
        /// The image.
        image: ImageId,
        /// Index of the layer, 0 = the first of the request.
        index: u32,
    },
    /// A caller that waited for a layer went away.
    LayerLeft {
        /// The image.
        image: ImageId,
        /// Index of the layer.
        index: u32,
    },
    /// An image is not wanted any more; it ends at once.
    PullCancelled {
        /// The image.
        image: ImageId,
    },
    /// Other limits from here on; running work is never cancelled for them.
    LimitsChanged(Limits),
    /// The wake that `Idle` asked for has come; any other input at a later time serves as well.
    TimerReached,
    /// No new pulls; everything that runs is cancelled.
    ShutdownRequested,

    /// A fetch has delivered `bytes` in total.
    RangeProgressed {
        /// The fetch.
        op: OpId,
        /// Bytes kept so far; for a whole read only those that were missing.
        bytes: u64,
        /// Bytes a whole read has read away so far because they were here. They cost no credit, but they are progress.
        discarded: u64,
    },
    /// A fetch has delivered all it was asked for and is closed.
    RangeFetched {
        /// The fetch.
        op: OpId,
    },
    /// A fetch failed and is closed.
    RangeFailed {
        /// The fetch.
        op: OpId,
        /// Why.
        error: FetchError,
        /// Bytes kept before it failed, cumulative.
        received: u64,
        /// What the registry asked for, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The registry answered a ranged request with the whole blob. The op stays open as a whole read from byte 0,
    /// has given its credit back, and reads on when it is granted new credit.
    RangesRefused {
        /// The fetch.
        op: OpId,
    },

    /// A lane has got further.
    LaneAdvanced {
        /// The lane.
        op: OpId,
        /// Compressed bytes it does not hold any more, cumulative.
        released: u64,
        /// Uncompressed bytes, cumulative.
        produced: u64,
        /// Tar entries, cumulative.
        entries: u64,
        /// What held it longest since its last report.
        waiting: Waiting,
    },
    /// A lane runs on this many threads.
    LaneResized {
        /// The lane.
        op: OpId,
        /// Threads in use.
        threads: u32,
    },
    /// A lane is done: both digests hold, every byte is released, the tree is staged.
    LaneFinished {
        /// The lane.
        op: OpId,
        /// Uncompressed bytes in all.
        produced: u64,
        /// Tar entries in all.
        entries: u64,
    },
    /// A lane failed and left nothing behind.
    LaneFailed {
        /// The lane.
        op: OpId,
        /// Why.
        error: LaneError,
    },

    /// A layer took its place; the staged tree is consumed.
    Linked {
        /// The link.
        op: OpId,
    },
    /// A second tree of a layer is staged for one link.
    Cloned {
        /// The clone.
        op: OpId,
    },
    /// A link or clone failed; staging stays intact.
    LinkFailed {
        /// The link or clone.
        op: OpId,
        /// Why.
        error: LinkError,
    },
    /// A staged tree is gone.
    Dropped {
        /// The drop.
        op: OpId,
    },
    /// Fetched bytes are gone.
    BytesDropped {
        /// The drop.
        op: OpId,
    },
    /// A cancelled op ended without doing what it was asked for.
    OpCancelled {
        /// The op.
        op: OpId,
        /// Bytes a fetch had kept, cumulative; 0 for other ops.
        received: u64,
    },
}

/// An image to pull.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pull {
    /// Its id, never used before.
    pub image: ImageId,
    /// Its layers, bottom first. Layers below the first one wanted need not be listed.
    pub layers: Vec<PullLayer>,
    /// Its share relative to other images; at least 1.
    pub weight: u32,
}

/// One layer of an image to pull.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PullLayer {
    /// Its compressed blob.
    pub blob: BlobId,
    /// Size of the blob in bytes, from the descriptor.
    pub size: u64,
    /// Its tree; two blobs may hold the same one.
    pub layer: LayerId,
    /// The layer with everything below it; two images with the same chain share what is linked there.
    pub chain: ChainId,
    /// The hosts the blob can be read from, in the order in which they are asked; at least one. A [`SourceId`] is an
    /// index into them.
    ///
    /// [`SourceId`]: crate::SourceId
    pub hosts: Vec<HostId>,
    /// What is already here.
    pub have: Have,
}

/// What of a layer is already here when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Have {
    /// Nothing.
    Nothing,
    /// Its blob lies complete in a local store, unverified: it is read from [`SourceId::LOCAL`](crate::SourceId::LOCAL).
    LocalBlob,
    /// These ranges of its blob lie in a local store, unverified, ascending and disjoint. A chunk that lies wholly within
    /// one of them is read from there.
    Ranges(Vec<ByteRange>),
    /// Its tree is unpacked, verified and staged.
    Staged,
    /// Its tree is in place over other parents, so that it can be cloned.
    Elsewhere,
    /// It is in place over the same parents, but not known to be this image's: its link will find it there.
    InPlace,
    /// It is linked in this image.
    Linked,
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Waiting {
    /// Compressed bytes. It has released every contiguous byte it was given.
    #[default]
    Input,
    /// A core.
    Cpu,
    /// The disk.
    Disk,
}
