//! One layer: unpacked once, wanted in one or more places.

use alloc::collections::BTreeSet;

use crate::id::{BlobId, OpId};
use crate::input::PullLayer;
use crate::output::Place;
use crate::time::Instant;

/// A tree to be made, or made.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) blob: BlobId,
    /// Size of the blob in bytes.
    pub(crate) size: u64,
    /// Places the blob can be read from.
    pub(crate) sources: u16,
    pub(crate) state: LayerState,
    /// Links that want it and are not done.
    pub(crate) wanted: BTreeSet<Place>,
    /// Its tree depends on its parents, so it is unpacked over this place's.
    pub(crate) over: Option<Place>,
    /// Until when it is kept staged without anyone wanting it.
    pub(crate) expires: Option<Instant>,
    /// Uncompressed bytes its lane has written.
    pub(crate) produced: u64,
    /// Entries its lane has written.
    pub(crate) entries: u64,
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// No lane has taken it.
    Waiting,
    /// A lane unpacks it.
    Unpacking(OpId),
    /// Its tree is staged.
    Staged,
    /// Its tree is being linked into a place.
    Leaving(OpId),
    /// Its tree became a place's; only clones can be had.
    Consumed,
    /// Its tree is being dropped.
    Dropping(OpId),
}

impl Layer {
    pub(crate) const fn new(layer: &PullLayer, state: LayerState) -> Self {
        Self {
            blob: layer.blob,
            size: layer.size,
            sources: layer.sources,
            state,
            wanted: BTreeSet::new(),
            over: None,
            expires: None,
            produced: 0,
            entries: 0,
        }
    }
}
