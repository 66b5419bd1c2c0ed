//! The engine's own time: it has a zero, can be written in a test and replays.
//!
//! No clock is read here; every `Instant` comes in with an input.

use core::fmt;
use core::ops::Add;

/// Nanoseconds since an epoch the driver chose; monotonic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant(pub u64);

impl Instant {
    /// The epoch.
    pub const ZERO: Self = Self(0);

    /// `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(NANOS_PER_MILLI))
    }

    /// Milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / NANOS_PER_MILLI
    }

    /// `ms` milliseconds later, saturating at the end of time (584 years).
    pub const fn after_millis(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(NANOS_PER_MILLI)))
    }

    /// Nanoseconds from `earlier` to `self`, 0 when `earlier` is later.
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Instant {
    type Output = Self;

    /// `nanos` nanoseconds later, saturating.
    fn add(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}s",
            self.0 / NANOS_PER_SECOND,
            self.0 % NANOS_PER_SECOND
        )
    }
}

/// When the engine wants to be called again although nothing happened, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Wake {
    /// The deadline; always later than the last input.
    pub at: Instant,
    /// What time alone will unblock.
    pub why: Timer,
}

/// Why a timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// A failed range waits out its jittered backoff.
    RetryBackoff,
    /// A failed range waits because the registry said for how long.
    RetryAfter,
    /// A fetch is checked for a minimum of progress.
    StallCheck,
    /// A fetch is checked for its first byte.
    Silence,
    /// A range becomes so slow that the rest of it may be asked for a second time.
    Hedge,
    /// A pull is checked for any progress.
    Progress,
    /// The daemon ends; lanes that still run are cancelled at the deadline.
    ShutdownGrace,
    /// A host may be asked again: it is not held any more, has cooled down, or its request rate allows it.
    HostReady,
    /// Nobody waits for an unfinished image; it is cancelled at the deadline.
    CancelGrace,
    /// A staged layer no image wants is dropped at the deadline.
    StagingTtl,
}

const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
