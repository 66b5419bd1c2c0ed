//! Threads: every lane gets its own while there are some, and gives one back when another layer could start. What cores
//! leave idle beyond that is [`crate::widening`]'s.

use core::cmp::Reverse;

use crate::engine::Engine;
use crate::id::OpId;
use crate::layer::LayerState;
use crate::op::{Lane, Op, OpKind};
use crate::output::Action;

impl Engine {
    pub(crate) fn admit_threads(&mut self) {
        if !self.work_may_start {
            return;
        }
        self.narrow_lanes();
        if self.lane_wants_thread() {
            self.take_back_thread();
            return;
        }
        while self.budgets.threads.free() > 0 {
            let Some(op) = self.lane_to_fill() else {
                break;
            };
            let permit = self.budgets.threads.try_take(1);
            let Some(OpKind::Lane(lane)) = self.ops.get_mut(&op).map(|op| &mut op.kind) else {
                return;
            };
            if let Some(permit) = permit {
                lane.threads.join(permit);
            }
            lane.threads_told += 1;
            let threads = lane.threads_told;
            self.act(Action::ResizeLane { op, threads });
        }
        self.widen_lanes();
    }

    pub(crate) fn on_lane_resized(&mut self, id: OpId, threads: u32) {
        assert!(
            id < self.next_op(),
            "invariant 5 (ops): {id:?} was never issued"
        );
        let Some(OpKind::Lane(lane)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            self.stale += 1;
            return;
        };
        lane.threads_said = threads;
        let surplus = lane
            .threads
            .amount()
            .saturating_sub(threads.max(lane.threads_told).into());
        let permit = lane.threads.split(surplus);
        if mutant!(ThreadLeak) {
            return;
        }
        self.budgets.threads.put(permit);
    }

    /// Whether a layer waits for nothing but a thread. One that waits for anything else must not take a thread back: it
    /// would be given away again at once, and taken back, for ever.
    pub(crate) fn lane_wants_thread(&self) -> bool {
        self.budgets.threads.free() == 0
            && self.unpacks_free()
            && self
                .layers
                .iter()
                .any(|(id, layer)| self.lane_payer(*id, layer).is_ok())
    }

    /// Tells the widest lane with the least left to do to get along with one thread less, one at a time.
    fn take_back_thread(&mut self) {
        let coming_back = |lane: &Lane| u64::from(lane.threads_told) < lane.threads.amount();
        if self.lanes().any(|(_, lane)| coming_back(lane)) {
            return;
        }
        let widest = self
            .lanes()
            // One that has not answered yet might answer for an earlier number while it uses more.
            .filter(|(_, lane)| lane.threads_told > 1 && lane.threads_said == lane.threads_told)
            .min_by_key(|(id, lane)| (Reverse(lane.threads_told), self.lane_remaining(lane), *id))
            .map(|(id, _)| id);
        let Some(op) = widest else { return };
        let Some(OpKind::Lane(lane)) = self.ops.get_mut(&op).map(|op| &mut op.kind) else {
            return;
        };
        lane.threads_told -= 1;
        let threads = lane.threads_told;
        self.act(Action::ResizeLane { op, threads });
    }

    /// The lane with the longest way to go that may have more threads.
    fn lane_to_fill(&self) -> Option<OpId> {
        let threads_max = self.config.limits.raw().threads_per_lane_max;
        self.lanes()
            .filter(|(_, lane)| {
                lane.threads_told < threads_max
                    && u64::from(lane.threads_told) == lane.threads.amount()
            })
            .max_by_key(|(id, lane)| {
                (
                    Reverse(lane.threads_told),
                    self.lane_remaining(lane),
                    Reverse(*id),
                )
            })
            .map(|(id, _)| id)
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = (OpId, &Lane)> {
        self.layers.values().filter_map(|layer| {
            let LayerState::Unpacking(id) = layer.state else {
                return None;
            };
            match self.ops.get(&id) {
                Some(Op {
                    kind: OpKind::Lane(lane),
                    cancelling: false,
                }) => Some((id, lane)),
                _ => None,
            }
        })
    }

    pub(crate) fn lane_remaining(&self, lane: &Lane) -> u64 {
        let blob = self.layers[&lane.layer].blob;
        self.blobs
            .get(&blob)
            .map_or(0, crate::blob::Blob::remaining)
    }
}
