//! One image: its links, its own limits, and how it ends.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::budget::Budget;
use crate::id::{ChainId, OpId};
use crate::layer::TreeId;
use crate::output::{Outcome, PullStats};
use crate::time::Instant;

/// A pull in progress.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) links: Vec<Link>,
    pub(crate) fetches: Budget,
    pub(crate) unpacks: Budget,
    pub(crate) stats: PullStats,
    /// Callers waiting for any of its layers.
    pub(crate) callers: u32,
    /// When something last came of it.
    pub(crate) heard_at: Instant,
    /// When it is looked at for progress.
    pub(crate) progress_at: Option<Instant>,
    /// When it ends because nobody waits.
    pub(crate) grace: Option<Instant>,
    /// Layers it let go of whose bytes or trees are not gone yet.
    pub(crate) releasing: BTreeSet<TreeId>,
    /// Set once it is decided how it ends; it then only waits for its ops to close.
    pub(crate) ending: Option<Outcome>,
}

/// A layer in its place.
#[derive(Debug)]
pub(crate) struct Link {
    /// What it is made from; a tree of its own once the shared one turned out to depend on parents.
    pub(crate) tree: TreeId,
    pub(crate) chain: ChainId,
    pub(crate) state: LinkState,
    /// Its clone turned out to depend on what lies below, and goes.
    pub(crate) needs_parents: bool,
    pub(crate) callers: u32,
}

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Its layer is not staged, nobody waits, or its parent is not linked.
    Pending,
    /// A tree of its own is being made.
    Cloning(OpId),
    /// A tree of its own is staged.
    Cloned,
    /// Its clone is being dropped.
    Dropping(OpId),
    /// Being put in its place.
    Linking(OpId),
    /// In its place.
    Done,
}

impl Image {
    /// The first layer that is not linked.
    pub(crate) fn next_link(&self) -> Option<u32> {
        let index = self
            .links
            .iter()
            .position(|link| link.state != LinkState::Done)?;
        u32::try_from(index).ok()
    }

    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(index as usize)
    }

    pub(crate) fn link_mut(&mut self, index: u32) -> Option<&mut Link> {
        self.links.get_mut(index as usize)
    }

    pub(crate) const fn is_live(&self) -> bool {
        self.ending.is_none()
    }
}
