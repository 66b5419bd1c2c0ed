//! Whole reads that wait for credit while they hold what others need: they give it back.
//!
//! A whole read keeps its connection while it waits for the window. What the window is full of may be chunks that failed
//! and wait for a connection, because a host came to bear fewer of them or limits were lowered. Then nobody gets further,
//! unless the whole read closes: it reads on from the byte reached when there is room, and reads away what lies before.

use crate::blob::{Blob, Mode};
use crate::engine::Engine;
use crate::id::{HostId, OpId};
use crate::op::OpKind;
use crate::snapshot::HoldReason;

/// What a chunk waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Permit,
    Connection(HostId),
}

impl Engine {
    /// Closes one whole read that waits for the window while it holds what a charged chunk waits for, if nothing else
    /// would ever move.
    pub(crate) fn yield_starved(&mut self) {
        if self.queue.waits_for_window.is_none() || self.anything_moves() {
            return;
        }
        let wanted = self.blobs.values().find_map(|blob| self.wants(blob));
        let Some(wanted) = wanted else { return };
        let held = |op: &OpId| match wanted {
            Wanted::Permit => true,
            Wanted::Connection(host) => {
                matches!(&self.ops[op].kind, OpKind::Fetch(fetch) if fetch.host == Some(host))
            }
        };
        let open = self.blobs.values().filter_map(|blob| match blob.mode {
            Mode::Whole(op) => op,
            Mode::Ranged | Mode::Settling(_) => None,
        });
        let in_the_way = open.filter(held).min();
        if let Some(op) = in_the_way {
            self.cancel(op);
        }
    }

    /// Whether some fetch may bring bytes or ends, or some lane has bytes to read.
    fn anything_moves(&self) -> bool {
        let fetches = self.ops.values().any(|op| match &op.kind {
            OpKind::Fetch(fetch) => op.cancelling || fetch.kept < fetch.granted,
            OpKind::DropBytes { .. } => true,
            _ => false,
        });
        let reads = |blob: &Blob| blob.laned && blob.frontier_bytes() > blob.released;
        fetches || self.blobs.values().any(reads)
    }

    /// What the first charged chunk of a blob waits for that a whole read may hold.
    fn wants(&self, blob: &Blob) -> Option<Wanted> {
        if blob.ending || blob.consumed || matches!(blob.mode, Mode::Settling(_)) {
            return None;
        }
        let chunk = *blob.due.first()?;
        match self.permits_free(blob, chunk).err()? {
            HoldReason::Fetches | HoldReason::FetchesPerImage => Some(Wanted::Permit),
            HoldReason::HostConnections => {
                let (source, _) = self.preferred(blob)?;
                Some(Wanted::Connection(blob.host(source)))
            }
            _ => None,
        }
    }
}
