//! The engine's time in production.

use std::time::{Duration, Instant as StdInstant};

use parapull_engine::Instant;

/// Nanoseconds since the driver started; monotonic, and it stands still while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct MonotonicClock {
    start: StdInstant,
}

impl MonotonicClock {
    pub(super) fn start() -> Self {
        Self {
            start: StdInstant::now(),
        }
    }

    pub(super) fn now(self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The tokio instant at which the engine's `at` is reached.
    pub(super) fn deadline(self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_nanos(at.0))
    }
}
