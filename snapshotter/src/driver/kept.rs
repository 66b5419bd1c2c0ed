//! Trees that an earlier run of the process finished: offered to the first pull that wants them, dropped after a while.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::names::LayerName;
use crate::digest::Digest;
use crate::store::KeptLayer;
use crate::unpack::Staged;

/// Trees nobody has asked for since the start.
#[derive(Debug)]
pub(super) struct Kept {
    /// By the digest of the uncompressed layer, and whether it was a bottom one.
    trees: BTreeMap<(Digest, bool), Staged>,
    /// Trees of layers that were kept more than once.
    surplus: Vec<Staged>,
    ttl: Duration,
    since: Instant,
}

impl Kept {
    /// What was found at the start, to be offered for as long as the engine keeps a tree nobody wants.
    pub(super) fn new(found: Vec<KeptLayer>, ttl_ms: u64) -> Self {
        let mut kept = Self {
            trees: BTreeMap::new(),
            surplus: Vec::new(),
            ttl: Duration::from_millis(ttl_ms),
            since: Instant::now(),
        };
        for layer in found {
            let key = (layer.diff_id, layer.bottom);
            kept.surplus.extend(kept.trees.insert(key, layer.staged));
        }
        kept
    }

    /// How long a tree nobody wants is kept.
    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// When the rest is dropped; never when nothing is left.
    pub(super) fn expires(&self) -> Option<Instant> {
        let any = !self.trees.is_empty() || !self.surplus.is_empty();
        any.then(|| self.since + self.ttl)
    }

    /// The tree of a layer, which is the asker's from here on.
    pub(super) fn take(&mut self, name: LayerName) -> Option<Staged> {
        self.trees.remove(&(name.diff_id, name.is_bottom))
    }

    /// The directories of all that is left, which is forgotten.
    pub(super) fn drain(&mut self) -> Vec<PathBuf> {
        let trees = std::mem::take(&mut self.trees).into_values();
        trees
            .chain(self.surplus.drain(..))
            .filter_map(|staged| staged.root.parent().map(PathBuf::from))
            .collect()
    }
}
