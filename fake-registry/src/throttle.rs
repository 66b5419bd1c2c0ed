//! Paces bytes and counts requests on tokio's clock, so that virtual time works as well as real time.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lateness that may be caught up within a body: timers wake to the millisecond or later on a busy machine, and without it
/// each wake-up would cost rate.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A rate that all who hold the bucket share, first come, first served.
#[derive(Debug)]
pub struct TokenBucket {
    bytes_per_second: NonZeroU64,
    /// When everything reserved so far will have passed.
    free_at: Mutex<Instant>,
}

impl TokenBucket {
    /// A bucket that is empty from now.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Begins a body: time in which nobody wanted bytes is gone.
    pub fn begin(&self) {
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = now.max(*free_at);
    }

    /// Reserves `bytes` and says when the last of them has passed.
    pub fn reserve(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        *free_at = earliest.max(*free_at) + transmission(bytes, self.bytes_per_second);
        *free_at
    }

    /// The rate.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second.get()
    }
}

fn transmission(bytes: u64, bytes_per_second: NonZeroU64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// A limit of requests per second with a burst of one second's worth.
#[derive(Debug)]
pub(crate) struct RequestLimit {
    requests_per_second: NonZeroU32,
    /// When an empty limit would be full again.
    full_at: Mutex<Instant>,
}

impl RequestLimit {
    pub(crate) fn new(requests_per_second: NonZeroU32) -> Self {
        Self {
            requests_per_second,
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Counts a request, or says that it is one too many.
    pub(crate) fn admit(&self) -> bool {
        let now = Instant::now();
        let each = Duration::from_secs(1) / self.requests_per_second.get();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + each;
        let admitted = next <= now + Duration::from_secs(1);
        if admitted {
            *full_at = next;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_and_idleness_earns_no_burst() {
        let bucket = TokenBucket::new(NonZeroU64::new(1_000_000).unwrap());
        let start = Instant::now();
        for _ in 0..100 {
            tokio::time::sleep_until(bucket.reserve(10_000)).await;
        }
        let taken = start.elapsed();
        assert!(
            (Duration::from_millis(995)..=Duration::from_millis(1_005)).contains(&taken),
            "{taken:?}"
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
        bucket.begin();
        assert_eq!(
            bucket.reserve(1_000_000) - Instant::now(),
            Duration::from_secs(1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn late_wakes_within_a_body_are_caught_up() {
        let bucket = TokenBucket::new(NonZeroU64::new(1_000_000).unwrap());
        let start = Instant::now();
        bucket.begin();
        for _ in 0..100 {
            tokio::time::sleep_until(bucket.reserve(10_000) + Duration::from_millis(7)).await;
        }
        let taken = start.elapsed();
        assert!((1_000..1_020).contains(&taken.as_millis()), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_holds_so_many_requests() {
        let limit = RequestLimit::new(NonZeroU32::new(5).unwrap());
        let admitted = (0..10).filter(|_| limit.admit()).count();
        assert_eq!(admitted, 5);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let admitted = (0..10).filter(|_| limit.admit()).count();
        assert_eq!(admitted, 2);
    }
}
