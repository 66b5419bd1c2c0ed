//! Widening: the lane that the pull will wait for gets the threads that cores would leave idle, and gives them back when
//! another lane needs them.
//!
//! Only a lane of [`UnpackOrder::LongestPath`] that its own work holds up is widened, and only for as many bytes as repay
//! the beginning. How many threads help is the configuration's to say; this file does not know what a lane does with them.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::config::UnpackOrder;
use crate::engine::Engine;
use crate::id::OpId;
use crate::input::Waiting;
use crate::op::{Lane, OpKind};
use crate::output::Action;

/// What a lane's reports say it is held by.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Reports that it is held by its own work; halved by each that says otherwise.
    busy: u32,
    /// Reports in a row that it is not.
    idle: u32,
    /// How often it was widened.
    widened: u32,
}

/// A lane and the threads it should have.
#[derive(Clone, Copy, Debug)]
struct WideShare {
    op: OpId,
    threads: u32,
}

impl Pace {
    fn note(&mut self, waiting: Waiting) {
        if waiting == Waiting::Cpu {
            self.busy = (self.busy + 1).min(self.busy_needed());
            self.idle = 0;
        } else {
            self.busy /= 2;
            self.idle = (self.idle + 1).min(IDLE_REPORTS);
        }
    }

    /// Twice as many for each time it was widened before, so that a lane between two states is left in one of them.
    const fn busy_needed(&self) -> u32 {
        let doubled = if self.widened < DOUBLINGS_MAX {
            self.widened
        } else {
            DOUBLINGS_MAX
        };
        BUSY_REPORTS << doubled
    }

    const fn is_busy(&self) -> bool {
        self.busy >= self.busy_needed()
    }

    const fn is_idle(&self) -> bool {
        self.idle >= IDLE_REPORTS
    }

    /// Begins to count anew, under another number of threads.
    const fn resized(&mut self, wider: bool) {
        (self.busy, self.idle) = (0, 0);
        if wider {
            self.widened = self.widened.saturating_add(1);
        }
    }
}

impl Engine {
    pub(crate) fn note_pace(&mut self, id: OpId, waiting: Waiting) {
        let Some(OpKind::Lane(lane)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            return;
        };
        let before = (lane.pace.is_busy(), lane.pace.is_idle());
        lane.pace.note(waiting);
        let turned = before != (lane.pace.is_busy(), lane.pace.is_idle());
        self.work_may_start |= turned && self.config.widens();
    }

    /// Takes back what wide lanes should not have any more.
    pub(crate) fn narrow_lanes(&mut self) {
        for WideShare { op, threads } in self.wide_shares() {
            let Some(OpKind::Lane(lane)) = self.ops.get_mut(&op).map(|op| &mut op.kind) else {
                continue;
            };
            // One that has not answered yet might answer for an earlier number while it uses more.
            if threads >= lane.threads_told || lane.threads_said != lane.threads_told {
                continue;
            }
            lane.threads_told = threads;
            lane.pace.resized(false);
            self.act(Action::ResizeLane { op, threads });
        }
    }

    /// Gives lanes what they should have and do not, as far as there are permits.
    pub(crate) fn widen_lanes(&mut self) {
        for WideShare { op, threads } in self.wide_shares() {
            let free = u32::try_from(self.budgets.threads.free()).unwrap_or(u32::MAX);
            let Some(lane) = self.lane(op) else { continue };
            let told = lane.threads_told;
            let is_settled = lane.threads_said == told && u64::from(told) == lane.threads.amount();
            let threads = threads.min(told.saturating_add(free));
            let helps = threads > told && threads >= self.wide_threads_min();
            if !is_settled || !helps || !self.is_worth_widening(lane) {
                continue;
            }
            let taken = u64::from(threads - told);
            let taken = if mutant!(WideUnpaid) { 0 } else { taken };
            let permit = self.budgets.threads.try_take(taken);
            let Some(OpKind::Lane(lane)) = self.ops.get_mut(&op).map(|op| &mut op.kind) else {
                continue;
            };
            if let Some(permit) = permit {
                lane.threads.join(permit);
            }
            lane.threads_told = threads;
            lane.pace.resized(true);
            self.act(Action::ResizeLane { op, threads });
        }
    }

    /// The lanes that are wide or should be, with the threads each of them should have: awaited ones first, then those
    /// that are wide already, then the longest.
    ///
    /// Every other lane counts as if it had all of its threads, and so does one layer that could start.
    fn wide_shares(&self) -> Vec<WideShare> {
        let mut shares = Vec::new();
        if !self.config.widens() {
            // Limits may have changed while lanes were wide.
            let over = self.lanes().filter(|(_, lane)| lane.pace.widened > 0);
            let threads = self.threads_per_lane();
            shares.extend(over.map(|(op, _)| WideShare { op, threads }));
            return shares;
        }
        let narrow = self.threads_per_lane();
        let (mut lanes, mut candidates) = (u32::from(self.lane_wants_thread()), Vec::new());
        for (op, lane) in self.lanes() {
            lanes += 1;
            let is_wide = lane.threads_told > narrow;
            if is_wide && !lane.pace.is_idle() || self.is_worth_widening(lane) {
                let awaited = self.is_awaited(&self.layers[&lane.layer]);
                let rank = (awaited, is_wide, self.lane_remaining(lane), Reverse(op));
                candidates.push((Reverse(rank), op));
            } else if is_wide {
                shares.push(WideShare {
                    op,
                    threads: narrow,
                });
            }
        }
        if mutant!(WideKept) {
            lanes = lanes.min(1);
        }
        candidates.sort_unstable();
        let raw = self.config.limits.raw();
        let mut spare = self
            .helping_threads()
            .saturating_sub(lanes.saturating_mul(narrow));
        for (_, op) in candidates {
            let extra = spare.min(raw.wide_threads_max.saturating_sub(narrow));
            let threads = if narrow + extra < self.wide_threads_min() {
                narrow
            } else {
                spare -= extra;
                narrow + extra
            };
            shares.push(WideShare { op, threads });
        }
        shares
    }

    fn is_worth_widening(&self, lane: &Lane) -> bool {
        lane.pace.is_busy() && self.lane_remaining(lane) >= self.config.limits.raw().wide_bytes_min
    }

    fn threads_per_lane(&self) -> u32 {
        self.config.limits.raw().threads_per_lane_max
    }

    /// Threads of all lanes together that are of use while one is wide. Of a wide lane some only pass bytes on, so one more
    /// than there are cores keeps all of them busy.
    fn helping_threads(&self) -> u32 {
        let raw = self.config.limits.raw();
        raw.cores.saturating_add(1).min(raw.threads_max)
    }

    /// The least number of threads that is more than any lane has, and with which one is faster.
    fn wide_threads_min(&self) -> u32 {
        HELPING_THREADS_MIN.max(self.threads_per_lane().saturating_add(1))
    }

    fn lane(&self, op: OpId) -> Option<&Lane> {
        match &self.ops.get(&op)?.kind {
            OpKind::Lane(lane) => Some(lane),
            _ => None,
        }
    }

    /// That lanes use the threads they hold (invariant 1), and that none keeps what another needs (invariant 10).
    pub(crate) fn check_threads(&self) {
        for (op, lane) in self.lanes() {
            assert!(
                u64::from(lane.threads_told) <= lane.threads.amount(),
                "invariant 1 (permits): {op:?} uses threads that it does not hold"
            );
        }
        let narrow = self.threads_per_lane();
        let is_returning = |lane: &Lane| u64::from(lane.threads_told) < lane.threads.amount();
        let is_settled = |lane: &Lane| lane.threads_said == lane.threads_told;
        let wants = self.lane_wants_thread();
        assert!(
            !wants
                || self.lanes().any(|(_, lane)| is_returning(lane))
                || !self
                    .lanes()
                    .any(|(_, lane)| lane.threads_told > 1 && is_settled(lane)),
            "invariant 10 (work): a layer waits for a thread that a lane could spare"
        );
        let is_wide = |lane: &Lane| lane.pace.widened > 0 && lane.threads_told > narrow;
        let may_change = self
            .lanes()
            .all(|(_, lane)| lane.threads_told <= narrow || is_settled(lane));
        if !may_change || !self.lanes().any(|(_, lane)| is_wide(lane)) {
            return;
        }
        let counted = self.lanes().map(|(_, lane)| lane.threads_told.max(narrow));
        let all = counted.fold(u32::from(wants) * narrow, u32::saturating_add);
        assert!(
            self.config.widens() && all <= self.helping_threads(),
            "invariant 10 (work): a lane is wide while others need its threads"
        );
    }
}

impl crate::config::Config {
    /// Whether any lane may be widened.
    fn widens(&self) -> bool {
        let raw = self.limits.raw();
        self.scheduling.unpack_order == UnpackOrder::LongestPath
            && raw.wide_threads_max > raw.threads_per_lane_max
    }
}

/// Reports come every 20 ms or half chunk: 80 ms of work without a wait are more than one burst of arrivals.
const BUSY_REPORTS: u32 = 4;
/// At most 64 reports are asked for, 1.3 s.
const DOUBLINGS_MAX: u32 = 4;
/// A second in which a wide lane was never held by its own work: it would be as fast with fewer threads, and spend less
/// time of the cores.
const IDLE_REPORTS: u32 = 50;
/// A lane decodes on several threads from four on: two that decode, one that hashes, one that makes files.
const HELPING_THREADS_MIN: u32 = 4;
