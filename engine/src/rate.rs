//! Request rates as integers: a token bucket that remembers one instant.
//!
//! The generic cell rate algorithm (ITU-T I.371): instead of counting tokens it keeps the moment at which the bucket
//! would be full again, so nothing is refilled and nothing is rounded away.

use crate::time::Instant;

/// A token bucket for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestRate {
    /// Time in which one token comes back; 0 when requests are not limited.
    interval_nanos: u64,
    /// What may be owed to the bucket at most: all tokens but one.
    debt_nanos_max: u64,
    /// When the bucket is full again.
    full_at: Instant,
}

impl RequestRate {
    /// So many requests a second, a quarter of a second's worth of them at once; 0 is no limit.
    pub(crate) const fn per_second(requests: u32) -> Self {
        if requests == 0 {
            return Self {
                interval_nanos: 0,
                debt_nanos_max: 0,
                full_at: Instant::ZERO,
            };
        }
        let interval_nanos = NANOS_PER_SECOND.div_ceil(requests as u64);
        let burst = requests as u64 / 4;
        let burst = if burst == 0 { 1 } else { burst };
        Self {
            interval_nanos,
            debt_nanos_max: (burst - 1) * interval_nanos,
            full_at: Instant::ZERO,
        }
    }

    /// The first moment, not before `now`, at which a request may be made.
    pub(crate) fn ready_at(&self, now: Instant) -> Instant {
        Instant(self.full_at.0.saturating_sub(self.debt_nanos_max)).max(now)
    }

    /// Counts a request that is made at `now`, ready or not.
    pub(crate) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval_nanos;
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_limit_is_always_ready() {
        let mut rate = RequestRate::per_second(0);
        for _ in 0..1_000 {
            rate.take(Instant::ZERO);
        }
        assert_eq!(rate.ready_at(Instant::ZERO), Instant::ZERO);
    }

    #[test]
    fn a_burst_passes_and_then_one_token_at_a_time() {
        let mut rate = RequestRate::per_second(8);
        for _ in 0..2 {
            assert_eq!(rate.ready_at(Instant::ZERO), Instant::ZERO);
            rate.take(Instant::ZERO);
        }
        assert_eq!(rate.ready_at(Instant::ZERO), Instant::from_millis(125));
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_its_rate_and_one_burst(
            requests in 1u32..500,
            pauses in proptest::collection::vec(0u64..300_000_000, 1..300),
        ) {
            let mut rate = RequestRate::per_second(requests);
            let mut now = Instant::ZERO;
            let mut taken: Vec<u64> = Vec::new();
            for pause in pauses {
                now = rate.ready_at(now + pause);
                rate.take(now);
                taken.push(now.0);
            }
            let burst = u64::from(requests / 4).max(1);
            for (first, start) in taken.iter().enumerate() {
                let within = taken[first..].iter().filter(|at| **at < start + NANOS_PER_SECOND).count();
                prop_assert!(within as u64 <= u64::from(requests) + burst, "{within} of {requests}");
            }
        }

        #[test]
        fn a_bucket_left_alone_is_ready_again_after_one_interval(requests in 1u32..10_000, count in 0u64..100) {
            let mut rate = RequestRate::per_second(requests);
            for _ in 0..count {
                let at = rate.ready_at(Instant::ZERO);
                rate.take(at);
            }
            let wait = rate.ready_at(Instant::ZERO).0;
            prop_assert!(wait <= count * NANOS_PER_SECOND.div_ceil(u64::from(requests)));
        }
    }
}
