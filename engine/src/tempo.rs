//! The tempo of a host: how long its first bytes take and how fast its connections are, learned from ranges that ended well.
//!
//! What chunks are made of it is decided in [`crate::plan`].

use crate::plan::START_BYTES;
use crate::time::Instant;

/// What was measured of a host's connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tempo {
    /// Smoothed; 0 while nothing was measured.
    bytes_per_second: u64,
    first_byte_nanos: u64,
    /// What chunks should have; nothing while nothing is known. It follows what is measured in large steps only.
    lasting_bytes: Option<u64>,
    /// What they should have at least, because the host said that it is asked too often.
    seldom_bytes: u64,
}

/// A range that was fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) asked_at: Instant,
    /// When it was first heard of, and with how many bytes.
    pub(crate) first: (Instant, u64),
    pub(crate) ended_at: Instant,
    pub(crate) bytes: u64,
}

impl Tempo {
    pub(crate) const fn lasting_bytes(&self) -> Option<u64> {
        self.lasting_bytes
    }

    /// What chunks must have for a host that `connections` are open at to be asked no more often than `requests_per_second`
    /// allows, and no more often than it has shown to bear.
    pub(crate) fn seldom_bytes(&self, requests_per_second: u32, connections: u64) -> u64 {
        if requests_per_second == 0 {
            return self.seldom_bytes;
        }
        let total = match self.bytes_per_second {
            0 => TOTAL_BYTES_PER_SECOND_ASSUMED,
            rate => rate.saturating_mul(connections),
        };
        self.seldom_bytes
            .max(total.div_ceil(requests_per_second.into()))
    }

    /// Learns from a range. Whether chunks should have another size now.
    pub(crate) fn learn(&mut self, fetched: &Fetched) -> bool {
        let (heard_at, before) = fetched.first;
        let nanos = fetched.ended_at.nanos_since(heard_at);
        let bytes = fetched.bytes.saturating_sub(before);
        if nanos == 0 || bytes < SAMPLE_BYTES_MIN {
            return self.grow(fetched.bytes);
        }
        let rate = per(bytes, NANOS_PER_SECOND, nanos).max(1);
        // What had arrived when it was first heard of took its time as well.
        let first_byte = heard_at.nanos_since(fetched.asked_at).saturating_sub(per(
            before,
            NANOS_PER_SECOND,
            rate,
        ));
        if self.bytes_per_second == 0 {
            (self.bytes_per_second, self.first_byte_nanos) = (rate, first_byte);
        } else {
            self.bytes_per_second = smooth(self.bytes_per_second, rate).max(1);
            self.first_byte_nanos = smooth(self.first_byte_nanos, first_byte);
        }
        let trip = per(
            self.bytes_per_second,
            self.first_byte_nanos,
            NANOS_PER_SECOND,
        );
        self.aim(trip.saturating_mul(FIRST_BYTES_PER_CHUNK))
    }

    /// The host said that it is asked too often: chunks of twice the size from here on.
    pub(crate) fn slow_down(&mut self) {
        let now = self.lasting_bytes.unwrap_or(START_BYTES);
        self.seldom_bytes = self.seldom_bytes.max(now).saturating_mul(2);
    }

    /// A range was over before it could be measured: the next ones may be twice as large, until one can.
    fn grow(&mut self, bytes: u64) -> bool {
        let now = self.lasting_bytes.unwrap_or(START_BYTES);
        self.bytes_per_second == 0 && bytes >= now / 2 && self.aim(now.saturating_mul(2))
    }

    fn aim(&mut self, bytes: u64) -> bool {
        let differs = self.lasting_bytes.is_none_or(|now| {
            bytes >= now.saturating_mul(STEP_MIN) || bytes.saturating_mul(STEP_MIN) <= now
        });
        if differs {
            self.lasting_bytes = Some(bytes.max(1));
        }
        differs
    }
}

/// Three parts of what was and one of what is: four ranges tell more than the last one.
const fn smooth(was: u64, is: u64) -> u64 {
    was - was / 4 + is / 4
}

/// `amount * times / parts`, at most what fits.
fn per(amount: u64, times: u64, parts: u64) -> u64 {
    let product = u128::from(amount) * u128::from(times) / u128::from(parts.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// A chunk lasts so many times as long as its first byte takes, so five sixths of a connection's time bring bytes. The
/// window and the lanes want small pieces: simulated pulls took longer with chunks of half and of twice the size.
const FIRST_BYTES_PER_CHUNK: u64 = 5;
/// A range tells a rate only if so much of it came after it was first heard of.
const SAMPLE_BYTES_MIN: u64 = 64 << 10;
/// Chunks change their size when what is measured is so many times as large, or as small.
const STEP_MIN: u64 = 2;
/// 10 Gbit/s: what all connections to a host together are taken to bring while nothing was measured.
const TOTAL_BYTES_PER_SECOND_ASSUMED: u64 = 1_250_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A range over a connection of so many bytes per millisecond, heard of 20 ms after it was asked for at the latest.
    fn fetched(first_byte_ms: u64, bytes_per_ms: u64, bytes: u64) -> Fetched {
        let heard_ms = first_byte_ms.max(20);
        let before = bytes.min((heard_ms - first_byte_ms) * bytes_per_ms);
        let lasts_ms = first_byte_ms + bytes.div_ceil(bytes_per_ms);
        let ended_at = Instant::from_millis(lasts_ms.max(1));
        let heard_at = Instant::from_millis(heard_ms).min(ended_at);
        Fetched {
            asked_at: Instant::ZERO,
            first: (heard_at, before),
            ended_at,
            bytes,
        }
    }

    #[test]
    fn a_chunk_lasts_five_first_bytes() {
        for (first_byte_ms, bytes_per_ms) in
            [(20, 90_000), (100, 1_250), (2, 20_000), (30, 190_000)]
        {
            let mut tempo = Tempo::default();
            assert!(tempo.learn(&fetched(first_byte_ms, bytes_per_ms, 8_000_000)));
            let lasting = tempo.lasting_bytes().unwrap();
            let exact = 5 * first_byte_ms * bytes_per_ms;
            assert!(
                lasting.abs_diff(exact) <= exact / 20,
                "{lasting} for {exact}"
            );
        }
    }

    #[test]
    fn small_changes_cut_nothing_anew() {
        let mut tempo = Tempo::default();
        tempo.learn(&fetched(20, 90_000, 8_000_000));
        for rate in [80_000, 100_000, 70_000, 120_000] {
            assert!(!tempo.learn(&fetched(20, rate, 8_000_000)), "{rate}");
        }
        let slower = (0..20).filter(|_| tempo.learn(&fetched(20, 9_000, 8_000_000)));
        assert!(slower.count() >= 2, "it follows in steps");
    }

    #[test]
    fn what_is_too_short_to_be_measured_grows_until_it_is_not() {
        let mut tempo = Tempo::default();
        for mib in [8, 16] {
            let now = tempo.lasting_bytes().unwrap_or(START_BYTES);
            assert!(tempo.learn(&fetched(1, 1_000_000, now)));
            assert_eq!(tempo.lasting_bytes(), Some(mib << 20));
        }
        assert!(tempo.learn(&fetched(1, 1_000_000, 40 << 20)));
        let lasting = tempo.lasting_bytes().unwrap();
        assert!(
            lasting < 6 << 20,
            "one that can be measured settles it: {lasting}"
        );
        assert!(!tempo.learn(&fetched(1, 1_000_000, 1 << 20)));
    }

    #[test]
    fn a_host_with_a_stated_rate_is_asked_for_larger_chunks() {
        let mut tempo = Tempo::default();
        assert_eq!(tempo.seldom_bytes(0, 16), 0);
        assert_eq!(tempo.seldom_bytes(50, 16), 25_000_000);
        tempo.learn(&fetched(20, 10_000, 8_000_000));
        let seldom = tempo.seldom_bytes(50, 16);
        assert!(seldom.abs_diff(3_200_000) < 100_000, "{seldom}");
    }

    #[test]
    fn a_host_that_says_it_is_asked_too_often_gets_chunks_of_twice_the_size() {
        let mut tempo = Tempo::default();
        tempo.slow_down();
        assert_eq!(tempo.seldom_bytes(0, 16), 2 * START_BYTES);
        tempo.slow_down();
        assert_eq!(tempo.seldom_bytes(0, 16), 4 * START_BYTES);
    }

    proptest! {
        #[test]
        fn nothing_that_can_be_measured_breaks_it(
            ranges in proptest::collection::vec((0u64..u64::MAX / 4, 0u64..u64::MAX / 4, 0u64..u64::MAX / 4, any::<u64>(), any::<u64>()), 1..20),
        ) {
            let mut tempo = Tempo::default();
            for (asked, heard, ended, before, bytes) in ranges {
                let fetched = Fetched {
                    asked_at: Instant(asked),
                    first: (Instant(asked + heard), before),
                    ended_at: Instant(asked + heard + ended),
                    bytes,
                };
                tempo.learn(&fetched);
                prop_assert!(tempo.lasting_bytes() != Some(0));
                tempo.seldom_bytes(7, 1_000);
            }
        }
    }
}
