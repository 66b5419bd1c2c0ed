//! Answers: what the engine wants done, what it wants known, and when it wants to be called again.

use crate::error::LayerError;
use crate::id::{BlobId, ByteRange, ImageId, LayerId, OpId, SourceId, SpanId};
use crate::time::Wake;

/// One answer. After every input the driver takes answers until `Idle`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Do this.
    Action(Action),
    /// Let people know.
    Event(Event),
    /// Nothing more until an input comes or `wake` is reached.
    Idle {
        /// The next moment at which time alone changes something.
        wake: Option<Wake>,
    },
}

/// Something to do. Each carries the id under which its end is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Action {
    /// Read bytes of a blob.
    FetchRange {
        /// Reported back.
        op: OpId,
        /// The blob.
        blob: BlobId,
        /// The span the range lies in.
        span: SpanId,
        /// The bytes wanted. A `Whole` read starts at byte 0 and keeps only what is missing from `range`.
        range: ByteRange,
        /// Whether to ask for the range or for everything.
        mode: FetchMode,
        /// Where to read from.
        source: SourceId,
        /// 1 for the first attempt.
        attempt: u32,
        /// Bytes it may keep before it is granted more; the whole range for `Ranged`.
        credit: u64,
        /// Where the bytes go.
        to: Destination,
        /// Whether another fetch of these bytes is open. Each offset is kept from whichever op brings it first; both tell
        /// of all they brought.
        #[cfg_attr(
            feature = "serde",
            serde(default, skip_serializing_if = "core::ops::Not::not")
        )]
        hedge: bool,
    },
    /// Let a whole read keep more bytes.
    GrantCredit {
        /// The fetch.
        op: OpId,
        /// Additional bytes.
        bytes: u64,
    },
    /// Unpack a layer; its blob's bytes come through the window, or lie in the spool.
    StartLane {
        /// Reported back.
        op: OpId,
        /// The layer.
        layer: LayerId,
        /// The blob it is read from.
        blob: BlobId,
        /// Threads it may use.
        threads: u32,
        /// Unpack over the parents of this place, because the tree depends on them. What it stages is then the place's
        /// own tree ([`Tree::Own`]) and nobody else's.
        over: Option<Place>,
    },
    /// Let a lane use another number of threads from its next buffer on.
    ResizeLane {
        /// The lane.
        op: OpId,
        /// Threads it may use.
        threads: u32,
    },
    /// Put a staged layer in its place; its parent is linked.
    LinkLayer {
        /// Reported back.
        op: OpId,
        /// The place.
        place: Place,
        /// The layer.
        layer: LayerId,
        /// Which staged tree to use.
        tree: Tree,
    },
    /// Make a second tree of a layer, for the place given.
    CloneLayer {
        /// Reported back.
        op: OpId,
        /// The place the clone is for.
        place: Place,
        /// The layer.
        layer: LayerId,
    },
    /// Forget a staged tree.
    DropStaged {
        /// Reported back.
        op: OpId,
        /// The layer.
        layer: LayerId,
        /// Which of its trees.
        tree: Tree,
    },
    /// Forget fetched bytes that no lane will read.
    DropBytes {
        /// Reported back.
        op: OpId,
        /// The blob.
        blob: BlobId,
        /// From where on; everything present behind it goes.
        range: ByteRange,
    },
    /// End an op early. It closes with its ordinary end or with `OpCancelled`.
    CancelOp {
        /// The op.
        op: OpId,
    },
}

impl Action {
    /// The op this action starts or is about.
    pub const fn op(&self) -> OpId {
        match *self {
            Self::FetchRange { op, .. }
            | Self::GrantCredit { op, .. }
            | Self::StartLane { op, .. }
            | Self::ResizeLane { op, .. }
            | Self::LinkLayer { op, .. }
            | Self::CloneLayer { op, .. }
            | Self::DropStaged { op, .. }
            | Self::DropBytes { op, .. }
            | Self::CancelOp { op } => op,
        }
    }
}

/// A layer's place: one index of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Place {
    /// The image.
    pub image: ImageId,
    /// Index in the request, 0 = its first layer.
    pub index: u32,
}

/// Which tree of a layer is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Tree {
    /// The one its lane staged for whoever wants it.
    Original,
    /// The place's own: a clone, or a tree unpacked over its parents.
    Own(Place),
    /// The one that is in place already over the same parents, for another image. There is nothing staged; if it is not
    /// there any more, the link ends with `SourceGone`.
    Linked,
}

/// How a blob is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FetchMode {
    /// With a `Range` header.
    Ranged,
    /// As one stream from byte 0.
    Whole,
}

/// Where fetched bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Destination {
    /// Memory, until the lane has inflated them.
    Window,
    /// A file, until the layer is unpacked.
    Spool,
}

/// Something people outside want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// A layer is linked; whoever waits for it may be answered.
    LayerReady {
        /// Its place.
        place: Place,
    },
    /// A layer will not become ready.
    LayerFailed {
        /// Its place.
        place: Place,
        /// Why.
        error: LayerError,
    },
    /// A pull is over; nothing mentions the image any more, except work it shared with a live one.
    PullFinished {
        /// The image.
        image: ImageId,
        /// How it ended.
        outcome: Outcome,
        /// What it took.
        stats: PullStats,
    },
    /// A blob is read as one stream because its ranges cannot be used.
    Degraded {
        /// The blob.
        blob: BlobId,
    },
    /// A range is asked for again.
    Retrying {
        /// The blob.
        blob: BlobId,
        /// First byte of the range.
        start: u64,
        /// The attempt that is to come.
        attempt: u32,
    },
    /// The daemon ends, and a staged tree of this layer is left where it lies.
    LayerKept {
        /// The layer.
        layer: LayerId,
    },
    /// A blob's bytes did not match their digest; it is fetched once more, whole.
    NewLife {
        /// The blob.
        blob: BlobId,
    },
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// Every layer is linked.
    Ready,
    /// The layer at this index failed.
    Failed {
        /// Index of the layer.
        index: u32,
        /// Why.
        error: LayerError,
    },
    /// It was cancelled, or nobody waited for it any more.
    Cancelled,
}

/// What a pull took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PullStats {
    /// Bytes kept by fetches from hosts that this image paid for.
    pub bytes_fetched: u64,
    /// Bytes read from a local store instead.
    pub bytes_local: u64,
    /// Bytes fetched for nothing: corrupt lives, dropped look-ahead, layers that turned up where they belong meanwhile.
    pub bytes_retried: u64,
    /// Bytes that came twice because a slow range was asked for a second time.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "is_zero"))]
    pub bytes_hedged: u64,
    /// Requests for blobs, the local store left out.
    pub requests: u64,
    /// Requests that repeated an earlier one.
    pub retries: u64,
    /// Requests for the rest of a slow range that was under way.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "is_zero"))]
    pub hedges: u64,
}

#[cfg(feature = "serde")]
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}
