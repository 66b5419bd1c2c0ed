//! One layer: unpacked once, wanted in one or more places.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::id::{BlobId, ByteRange, HostId, LayerId, OpId};
use crate::input::{Have, PullLayer};
use crate::output::{Place, Tree};
use crate::time::Instant;

/// What one lane makes: a layer for whoever wants it, or a layer over the parents of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TreeId {
    pub(crate) layer: LayerId,
    /// Its tree depends on its parents, so it is made for this place and serves no other.
    pub(crate) over: Option<Place>,
}

impl TreeId {
    /// The tree of a layer that serves every place.
    pub(crate) const fn shared(layer: LayerId) -> Self {
        Self { layer, over: None }
    }

    /// How the outside calls it.
    pub(crate) const fn name(self) -> Tree {
        match self.over {
            None => Tree::Original,
            Some(place) => Tree::Own(place),
        }
    }
}

/// A tree to be made, or made.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) blob: BlobId,
    /// Size of the blob in bytes.
    pub(crate) size: u64,
    /// Hosts the blob can be read from.
    pub(crate) hosts: Vec<HostId>,
    /// What of the blob lies in a local store.
    pub(crate) local: Vec<ByteRange>,
    pub(crate) state: LayerState,
    /// Links that want it and are not done.
    pub(crate) wanted: BTreeSet<Place>,
    /// How often a lane has staged it.
    pub(crate) made: u32,
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
    /// Its tree became a place's, or always was one's; only clones can be had.
    Consumed,
    /// It was never made here: it is to be found where it belongs.
    Absent,
    /// Its tree is being dropped.
    Dropping(OpId),
}

impl Layer {
    pub(crate) fn new(layer: &PullLayer, state: LayerState) -> Self {
        Self {
            blob: layer.blob,
            size: layer.size,
            hosts: Vec::new(),
            local: Vec::new(),
            state,
            wanted: BTreeSet::new(),
            made: 0,
            expires: None,
            produced: 0,
            entries: 0,
        }
    }

    /// The same layer, made once more for one place over its parents.
    pub(crate) fn again_over(&self, place: Place) -> Self {
        Self {
            blob: self.blob,
            size: self.size,
            hosts: self.hosts.clone(),
            local: self.local.clone(),
            state: LayerState::Waiting,
            wanted: BTreeSet::from([place]),
            made: 0,
            expires: None,
            produced: 0,
            entries: 0,
        }
    }

    /// Notes where its blob can be had, when it is asked for and not being read.
    pub(crate) fn place(&mut self, wanted: &PullLayer) {
        self.hosts.clone_from(&wanted.hosts);
        self.local = match &wanted.have {
            Have::LocalBlob => alloc::vec![ByteRange::new(0, wanted.size)],
            Have::Ranges(ranges) => ranges.clone(),
            Have::Nothing | Have::Staged | Have::Elsewhere | Have::InPlace | Have::Linked => {
                Vec::new()
            }
        };
    }
}
