//! Room: which bytes may be charged to the window or the spool, and how they are charged and given back.

use crate::blob::{Blob, Mode};
use crate::config::UnpackOrder;
use crate::engine::Engine;
use crate::id::BlobId;
use crate::image::LinkState;
use crate::layer::LayerState;
use crate::output::{Destination, Place};
use crate::snapshot::HoldReason;

impl Engine {
    /// Whether the next chunk may be charged.
    ///
    /// The window's three rules: nothing beyond the window; a layer's share only; and layers without a lane leave one
    /// piece for every lane there may be. A whole read without a lane must fit at once, because it would hold its
    /// connection while it waits for credit.
    pub(crate) fn room(&self, blob: &Blob) -> Result<(), HoldReason> {
        let piece = blob.missing(blob.next).len();
        if blob.destination == Destination::Spool {
            let charged = blob.charge.amount() > 0 || blob.next > 0;
            let fits = charged || self.may_store(blob);
            return if fits { Ok(()) } else { Err(HoldReason::Spool) };
        }
        if piece > self.budgets.window.free() {
            return Err(HoldReason::Window);
        }
        if blob.charge.amount() + piece > self.config.limits.raw().layer_window_bytes_max {
            return Err(HoldReason::LayerWindow);
        }
        if blob.laned {
            return Ok(());
        }
        if self.limits_are_changing() {
            return Err(HoldReason::LimitsChanging);
        }
        let fits = match blob.mode {
            Mode::Ranged => piece <= self.laneless_free() || mutant!(LookAheadUnbounded),
            Mode::Whole(_) | Mode::Settling(_) => self.whole_fits(blob),
        };
        if fits { Ok(()) } else { Err(HoldReason::Lane) }
    }

    /// Whether a blob may be charged to the spool.
    ///
    /// Where layers are unpacked in the order of their chain, a blob is stored only after those below it in some image,
    /// or the spool would fill with layers that wait for one that finds no room. Images that end, and layers that must
    /// be unpacked again, can still leave it so: when nothing runs, the blob that comes next in a chain is stored past
    /// the spool.
    fn may_store(&self, blob: &Blob) -> bool {
        let layer = &self.layers[&blob.layer];
        let in_order = self.config.scheduling.unpack_order != UnpackOrder::Chain
            || layer.wanted.iter().any(|place| self.is_next_stored(*place));
        let fits = blob.size <= self.budgets.spool.free() || mutant!(SpoolUnbounded);
        fits && in_order || self.ops.is_empty() && self.parent_is_linked(layer)
    }

    /// Whether all layers below a place are linked, unpacked or stored.
    fn is_next_stored(&self, place: Place) -> bool {
        let below = self.images[&place.image]
            .links
            .iter()
            .take(place.index as usize);
        below
            .filter(|link| link.state != LinkState::Done)
            .all(|link| {
                let Some(layer) = self.layers.get(&link.tree) else {
                    return true;
                };
                let stored = self.blobs.get(&layer.blob).is_some_and(|blob| {
                    blob.layer == link.tree && (blob.charge.amount() > 0 || blob.size == 0)
                });
                stored || layer.state != LayerState::Waiting || layer.wanted.contains(&place)
            })
    }

    /// Whether all that is missing of a blob without a lane may be charged at once.
    pub(crate) fn whole_fits(&self, blob: &Blob) -> bool {
        let uncharged = blob.size.saturating_sub(blob.charge.amount());
        blob.destination == Destination::Spool
            || uncharged <= self.laneless_free().min(self.budgets.window.free())
                && blob.size <= self.config.limits.raw().layer_window_bytes_max
    }

    /// What layers without a lane may still be charged for.
    pub(crate) fn laneless_free(&self) -> u64 {
        self.config
            .limits
            .laneless_bytes_max()
            .saturating_sub(self.budgets.laneless)
    }

    /// What must be free for layers without a lane before a blob that has none is read on, in bytes.
    pub(crate) fn laneless_need(&self, blob: &Blob) -> u64 {
        match blob.mode {
            Mode::Ranged => blob.missing(blob.next).len(),
            Mode::Whole(_) | Mode::Settling(_) => blob.size.saturating_sub(blob.charge.amount()),
        }
    }

    /// Charges the next chunk, which [`Self::room`] has let pass.
    pub(crate) fn charge(&mut self, id: BlobId, chunk: u32) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let piece = blob.missing(chunk).len();
        let permit = match blob.destination {
            Destination::Window => self.budgets.window.try_take(piece),
            Destination::Spool if blob.charge.amount() > 0 => Some(crate::budget::Permit::none()),
            Destination::Spool => Some(self.budgets.spool.take_past(blob.size)),
        };
        assert!(
            permit.is_some(),
            "invariant 6 (window): charged without room"
        );
        if let Some(permit) = permit {
            if blob.destination == Destination::Window && !blob.laned {
                self.budgets.laneless += permit.amount();
            }
            blob.charge.join(permit);
        }
        blob.next = chunk + 1;
    }

    /// Returns `bytes` of a blob's charge to the window; a spool is charged until its file is dropped.
    pub(crate) fn uncharge(&mut self, id: BlobId, bytes: u64) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        if blob.destination == Destination::Spool {
            return;
        }
        if !blob.laned {
            self.budgets.laneless -= bytes;
        }
        self.budgets.window.put(blob.charge.split(bytes));
    }

    /// Returns all a blob is charged for.
    pub(crate) fn uncharge_all(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let permit = blob.charge.take();
        match blob.destination {
            Destination::Spool => self.budgets.spool.put(permit),
            Destination::Window => {
                if !blob.laned {
                    self.budgets.laneless -= permit.amount();
                }
                self.budgets.window.put(permit);
            }
        }
    }
}
