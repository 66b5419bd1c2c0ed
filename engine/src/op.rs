//! Outstanding actions and what each of them holds.

use crate::budget::Permit;
use crate::id::{BlobId, HostId, ImageId, SourceId};
use crate::layer::TreeId;
use crate::output::{Place, Tree};
use crate::time::Instant;
use crate::widening::Pace;

/// An action that has not been closed.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) kind: OpKind,
    /// `CancelOp` was emitted.
    pub(crate) cancelling: bool,
}

/// What an op is about, with its permits.
#[derive(Debug)]
pub(crate) enum OpKind {
    Fetch(Fetch),
    Lane(Lane),
    Clone {
        place: Place,
        layer: TreeId,
        /// How often the layer had been made when the clone was asked for.
        made: u32,
    },
    Link {
        place: Place,
        layer: TreeId,
        tree: Tree,
    },
    DropClone {
        place: Place,
    },
    DropStaged {
        layer: TreeId,
    },
    DropBytes {
        blob: BlobId,
        /// The first byte dropped; 0 drops everything.
        from: u64,
        bytes: u64,
    },
}

/// A fetch in flight.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) blob: BlobId,
    /// Where it reads from.
    pub(crate) source: SourceId,
    /// The host that is; nothing for the local store.
    pub(crate) host: Option<HostId>,
    pub(crate) asked_at: Instant,
    /// It has sent something.
    pub(crate) spoke: bool,
    /// Next look at whether it is one connection too many.
    pub(crate) silence_at: Option<Instant>,
    /// How often its chunk was asked for over one connection too many.
    pub(crate) crowdings: u32,
    /// Cancelled because it is one: its end is no failure.
    pub(crate) crowded: bool,
    /// The chunk asked for; in a whole read the one being filled.
    pub(crate) chunk: u32,
    /// Bytes of that chunk that were present when it was asked for.
    pub(crate) base: u64,
    /// Cumulative bytes this op had kept when `chunk` began to be filled.
    pub(crate) before: u64,
    /// Cumulative bytes this op has kept.
    pub(crate) kept: u64,
    /// Cumulative bytes this op has read away.
    pub(crate) discarded: u64,
    /// In a whole read: credit granted in all.
    pub(crate) granted: u64,
    pub(crate) total: Permit,
    pub(crate) image: (ImageId, Permit),
    /// Next progress check, and what was kept or read away at the last one.
    pub(crate) stall: Option<(Instant, u64)>,
    /// Cancelled for want of progress: its end counts as a failure to retry.
    pub(crate) stalled: bool,
}

/// A lane at work.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) layer: TreeId,
    pub(crate) total: Permit,
    pub(crate) image: (ImageId, Permit),
    pub(crate) threads: Permit,
    /// Threads it was told to use; `threads` follows when it says so.
    pub(crate) threads_told: u32,
    /// Until when its image was charged for its time.
    pub(crate) charged_until: Instant,
    /// Threads it last said it uses.
    pub(crate) threads_said: u32,
    /// What its reports say it is held by.
    pub(crate) pace: Pace,
}
