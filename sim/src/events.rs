//! What is to come, in order of time and, at equal times, in the order it was scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parapull_engine::OpId;

/// Something the world has scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coming {
    /// A pull is asked for.
    Request {
        pull: usize,
    },
    /// The next caller of a pull comes.
    Call {
        pull: usize,
        index: u32,
    },
    /// A caller changes its mind.
    Cancel {
        pull: usize,
    },
    /// Other limits are told.
    Limits {
        change: usize,
    },
    /// The daemon is told to stop.
    Shutdown,
    /// The answer to a request begins.
    FirstByte {
        op: OpId,
    },
    /// A portion was read from the local store.
    LocalRead {
        op: OpId,
    },
    /// A spool write was taken by the disk.
    Stored {
        op: OpId,
    },
    /// A stalled body goes on.
    StallOver {
        op: OpId,
    },
    /// A connection that was slow to close is closed.
    Closed {
        op: OpId,
    },
    /// Some connections carry nothing from here on.
    ClogBegins {
        clog: usize,
    },
    /// A lane that stood still goes on.
    LaneResumes {
        op: OpId,
    },
    /// The callers of a pull leave, or come back.
    Leave {
        absence: usize,
    },
    Return {
        absence: usize,
    },
    /// The node sleeps, and wakes at the same moment of everything but its clock.
    Sleep {
        sleep: usize,
    },
    /// A fact that came late is told.
    Told {
        slot: u64,
    },
    /// A cancelled op ends, unless it has ended.
    CancelDue {
        op: OpId,
    },
    /// A lane's write was taken by the disk.
    Written {
        op: OpId,
    },
    /// A lane that waits tells how far it is.
    LaneReport {
        op: OpId,
    },
    /// A link, clone or drop is done.
    Done {
        op: OpId,
    },
}

/// The schedule.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<(u64, u64, Coming)>>,
    count: u64,
}

impl Events {
    pub(crate) fn push(&mut self, at: u64, coming: Coming) {
        self.heap.push(Reverse((at, self.count, coming)));
        self.count += 1;
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Forgets what concerns ops and facts of a daemon that is gone.
    pub(crate) fn forget_daemon(&mut self) {
        self.heap.retain(|Reverse((_, _, coming))| match coming {
            Coming::Request { .. }
            | Coming::Cancel { .. }
            | Coming::Limits { .. }
            | Coming::Shutdown
            | Coming::ClogBegins { .. }
            | Coming::Leave { .. }
            | Coming::Return { .. }
            | Coming::Sleep { .. } => true,
            Coming::Call { .. }
            | Coming::FirstByte { .. }
            | Coming::LocalRead { .. }
            | Coming::Stored { .. }
            | Coming::StallOver { .. }
            | Coming::Closed { .. }
            | Coming::LaneResumes { .. }
            | Coming::Told { .. }
            | Coming::CancelDue { .. }
            | Coming::Written { .. }
            | Coming::LaneReport { .. }
            | Coming::Done { .. } => false,
        });
    }

    /// Takes the next one if it is due.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Coming> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, coming))| coming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_scheduling_at_equal_times() {
        let mut events = Events::default();
        events.push(5, Coming::Shutdown);
        events.push(3, Coming::Request { pull: 1 });
        events.push(5, Coming::Request { pull: 0 });
        assert_eq!(events.next(), Some(3));
        assert_eq!(events.pop_due(2), None);
        assert_eq!(events.pop_due(5), Some(Coming::Request { pull: 1 }));
        assert_eq!(events.pop_due(5), Some(Coming::Shutdown));
        assert_eq!(events.pop_due(5), Some(Coming::Request { pull: 0 }));
    }
}
