//! Holds: why nothing of a layer runs although it is wanted, for people to see.
//!
//! A reason is told when it differs from the last one told for the same layer, so a pull tells few. Reasons are looked at
//! where something was touched, and of all held layers when something in common runs out or comes free; whoever asks for a
//! [`crate::Snapshot`] gets those of this very moment.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::engine::Engine;
use crate::layer::{Layer, LayerState, TreeId};
use crate::output::Event;
use crate::snapshot::HoldReason;

/// What was told of holds.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// The last reason told for a layer.
    told: BTreeMap<TreeId, HoldReason>,
    /// Layers that something happened to since the last look.
    pub(crate) touched: Vec<TreeId>,
    /// What had run out at the last look.
    shortage: [bool; 5],
    /// How often each reason was told.
    counts: BTreeMap<HoldReason, u64>,
}

impl Holds {
    /// How often each reason was told.
    pub(crate) fn counts(&self) -> Vec<(HoldReason, u64)> {
        let counts = self.counts.iter();
        counts.map(|(reason, count)| (*reason, *count)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl Engine {
    /// Why a layer does not get further, if nothing of it runs: it has no lane and nothing of it arrives, or its lane has
    /// read all there is and nothing is on its way.
    pub(crate) fn hold_of(&self, id: TreeId, layer: &Layer) -> HoldReason {
        let blob = self.blobs.get(&layer.blob).filter(|blob| blob.layer == id);
        let arrives = blob.is_some_and(|blob| !blob.open.is_empty());
        match layer.state {
            _ if layer.wanted.is_empty() || arrives => HoldReason::Nothing,
            LayerState::Waiting => match (self.lane_hold(id, layer), blob) {
                (HoldReason::Bytes, Some(blob)) => self.fetch_hold(blob),
                (reason, _) => reason,
            },
            LayerState::Unpacking(_) => blob
                .filter(|blob| !blob.is_complete() && blob.frontier_bytes() == blob.released)
                .map_or(HoldReason::Nothing, |blob| self.fetch_hold(blob)),
            _ => HoldReason::Nothing,
        }
    }

    /// Tells what holds layers, where that has changed.
    pub(crate) fn tell_holds(&mut self) {
        let mut looked = core::mem::take(&mut self.holds.touched);
        let budgets = &self.budgets;
        let shortage = [
            budgets.fetches.free() == 0,
            budgets.window.free() == 0,
            !self.unpacks_free(),
            budgets.threads.free() == 0,
            self.limits_are_changing(),
        ];
        if shortage != self.holds.shortage {
            self.holds.shortage = shortage;
            looked.extend(self.holds.told.keys());
        }
        looked.sort_unstable();
        looked.dedup();
        for id in &looked {
            let Some(layer) = self.layers.get(id) else {
                self.holds.told.remove(id);
                continue;
            };
            let why = self.hold_of(*id, layer);
            if why == HoldReason::Nothing || self.holds.told.get(id) == Some(&why) {
                continue;
            }
            self.holds.told.insert(*id, why);
            *self.holds.counts.entry(why).or_default() += 1;
            let layer = id.layer;
            self.tell(Event::Held { layer, why });
        }
        looked.clear();
        self.holds.touched = looked;
    }

    /// That whatever has not been started has a reason (invariant 10); of fetches the queue is asked.
    pub(crate) fn check_holds(&self) {
        for (id, layer) in self.layers.iter() {
            if layer.state == LayerState::Waiting && !layer.wanted.is_empty() {
                assert!(
                    self.lane_hold(*id, layer) != HoldReason::Nothing,
                    "invariant 10 (work): {id:?} could be unpacked and is not"
                );
            }
        }
        assert!(
            self.holds
                .told
                .keys()
                .all(|id| self.layers.contains_key(id)),
            "invariant 7 (terminal): a hold is remembered of a layer that is gone"
        );
    }
}
