//! The engine's time in production.

use std::time::Duration;

use parapull_engine::Instant;

/// Nanoseconds since the driver started; monotonic, and it stands still while the machine sleeps.
///
/// It is the runtime's clock, so that where a test moves that one by itself, deadlines and facts stay in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct MonotonicClock {
    start: tokio::time::Instant,
}

impl MonotonicClock {
    pub(super) fn start() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }

    pub(super) fn now(self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The tokio instant at which the engine's `at` is reached.
    pub(super) fn deadline(self, at: Instant) -> tokio::time::Instant {
        self.start + Duration::from_nanos(at.0)
    }
}
