//! Deadlines: who waits for time alone.
//!
//! Every fetch has two, which nearly always lie equally far ahead of the moment they are started, so they come in order and
//! stand in rows; a tree holds the rest.

use alloc::collections::BTreeSet;

use crate::ascending::Ascending;
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
    stalls: Ascending<(Instant, OpId)>,
    silences: Ascending<(Instant, OpId)>,
    /// The others, and those of fetches that came out of order.
    others: BTreeSet<(Instant, Deadline)>,
}

impl Timers {
    pub(crate) fn start(&mut self, at: Instant, deadline: Deadline) {
        let in_row = match deadline {
            Deadline::Stall(op) => self.stalls.push((at, op)),
            Deadline::Silence(op) => self.silences.push((at, op)),
            _ => false,
        };
        if !in_row {
            self.others.insert((at, deadline));
        }
    }

    pub(crate) fn stop(&mut self, at: Instant, deadline: Deadline) {
        let in_row = match deadline {
            Deadline::Stall(op) => self.stalls.remove(&(at, op)),
            Deadline::Silence(op) => self.silences.remove(&(at, op)),
            _ => false,
        };
        if !in_row {
            self.others.remove(&(at, deadline));
        }
    }

    /// Takes the earliest deadline that `now` has reached.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Deadline> {
        let (at, deadline) = self.first()?;
        if at > now {
            return None;
        }
        self.stop(at, deadline);
        Some(deadline)
    }

    pub(crate) fn next(&self) -> Option<Wake> {
        self.first().map(|(at, deadline)| Wake {
            at,
            why: deadline.timer(),
        })
    }

    fn first(&self) -> Option<(Instant, Deadline)> {
        let mut first = self.others.first().copied();
        if let Some((at, op)) = self.stalls.first() {
            first = Some(earlier(first, (*at, Deadline::Stall(*op))));
        }
        if let Some((at, op)) = self.silences.first() {
            first = Some(earlier(first, (*at, Deadline::Silence(*op))));
        }
        first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Whether a deadline is being waited for.
    pub(crate) fn holds(&self, at: Instant, deadline: Deadline) -> bool {
        let in_row = match deadline {
            Deadline::Stall(op) => self.stalls.contains(&(at, op)),
            Deadline::Silence(op) => self.silences.contains(&(at, op)),
            _ => false,
        };
        in_row || self.others.contains(&(at, deadline))
    }
}

/// The earlier one of two; the order of deadlines decides only between those of the same instant.
fn earlier(one: Option<(Instant, Deadline)>, other: (Instant, Deadline)) -> (Instant, Deadline) {
    match one {
        Some(one) if one.0 < other.0 => one,
        Some(one) if one.0 == other.0 => one.min(other),
        Some(_) | None => other,
    }
}
