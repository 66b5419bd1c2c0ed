//! Deadlines: who waits for time alone.

use alloc::collections::BTreeSet;

use crate::id::{BlobId, HostId, ImageId, LayerId, OpId};
use crate::time::{Instant, Timer, Wake};

/// What a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// A chunk may be asked for again; with whether the registry named the time.
    Retry {
        blob: BlobId,
        chunk: u32,
        told: bool,
    },
    /// A fetch must have progressed.
    Stall(OpId),
    /// A fetch must have sent something, or it may be one connection too many.
    Silence(OpId),
    /// A fetch has become slow.
    Hedge(OpId),
    /// An image must have got further.
    Progress(ImageId),
    /// Lanes have had their time to finish.
    Shutdown,
    /// A host may be asked again.
    Host(HostId),
    /// An image nobody waits for ends.
    Grace(ImageId),
    /// A staged layer nobody wants goes.
    Staging(LayerId),
}

impl Deadline {
    const fn timer(self) -> Timer {
        match self {
            Self::Retry { told: false, .. } => Timer::RetryBackoff,
            Self::Retry { told: true, .. } => Timer::RetryAfter,
            Self::Stall(_) => Timer::StallCheck,
            Self::Silence(_) => Timer::Silence,
            Self::Hedge(_) => Timer::Hedge,
            Self::Progress(_) => Timer::Progress,
            Self::Shutdown => Timer::ShutdownGrace,
            Self::Host(_) => Timer::HostReady,
            Self::Grace(_) => Timer::CancelGrace,
            Self::Staging(_) => Timer::StagingTtl,
        }
    }
}

/// All deadlines, earliest first; equal ones in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Instant, Deadline)>,
}

impl Timers {
    pub(crate) fn start(&mut self, at: Instant, deadline: Deadline) {
        self.set.insert((at, deadline));
    }

    pub(crate) fn stop(&mut self, at: Instant, deadline: Deadline) {
        self.set.remove(&(at, deadline));
    }

    /// Takes the earliest deadline that `now` has reached.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Deadline> {
        let (at, _) = *self.set.first()?;
        if at > now {
            return None;
        }
        self.set.pop_first().map(|(_, deadline)| deadline)
    }

    pub(crate) fn next(&self) -> Option<Wake> {
        self.set.first().map(|(at, deadline)| Wake {
            at: *at,
            why: deadline.timer(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Instant, Deadline)> {
        self.set.iter()
    }
}
