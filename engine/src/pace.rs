//! The pace of a host: how long ranges asked of it usually take. What is much slower than that is judged in
//! [`crate::hedge`].

/// What was seen of a host's answers: moving averages in integers, in which one answer counts for an eighth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    first_byte_nanos: u64,
    /// Time for one MiB once bytes come.
    nanos_per_mib: u64,
    /// Ranges that came to their end, counted up to [`SERVED_MIN`].
    served: u32,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            first_byte_nanos: 0,
            nanos_per_mib: 0,
            served: 0,
        }
    }

    /// A fetch sent its first byte; `nanos` after it was asked for.
    pub(crate) const fn spoke(&mut self, nanos: u64) {
        self.first_byte_nanos = blend(self.first_byte_nanos, nanos);
    }

    /// A range of so many bytes came in `nanos`, its first byte included. Whether that was the last one it took to know
    /// the host's pace.
    pub(crate) fn served(&mut self, bytes: u64, nanos: u64) -> bool {
        if bytes >= RATED_BYTES_MIN {
            let coming = u128::from(nanos.saturating_sub(self.first_byte_nanos));
            let nanos_per_mib = coming * u128::from(MIB) / u128::from(bytes);
            let nanos_per_mib = u64::try_from(nanos_per_mib).unwrap_or(u64::MAX);
            self.nanos_per_mib = blend(self.nanos_per_mib, nanos_per_mib);
        }
        let was_known = self.is_known();
        self.served = self.served.saturating_add(1).min(SERVED_MIN);
        self.is_known() && !was_known
    }

    /// What the first byte of a range usually takes; nothing while too little was seen.
    pub(crate) fn first_byte_nanos(&self) -> Option<u64> {
        self.is_known().then_some(self.first_byte_nanos)
    }

    /// What a range of so many bytes usually takes; nothing while too little was seen.
    pub(crate) fn range_nanos(&self, bytes: u64) -> Option<u64> {
        let coming = u128::from(bytes) * u128::from(self.nanos_per_mib) / u128::from(MIB);
        let coming = u64::try_from(coming).unwrap_or(u64::MAX);
        self.is_known()
            .then(|| self.first_byte_nanos.saturating_add(coming))
    }

    const fn is_known(&self) -> bool {
        self.served >= SERVED_MIN
    }
}

/// Moves an average towards what was seen; one that is far off does not carry it away.
const fn blend(average: u64, seen: u64) -> u64 {
    if average == 0 {
        return seen;
    }
    let most = average.saturating_mul(OUTLIER_TIMES_MAX);
    let seen = if seen > most { most } else { seen };
    // Rounded up, so that an average of a few nanoseconds can still grow.
    (average - average / WEIGHT).saturating_add(seen.div_ceil(WEIGHT))
}

/// One answer counts for this part of the average.
const WEIGHT: u64 = 8;
/// An answer counts for at most so many times the average: the pace follows a host that gets slower within a few
/// answers, and one connection that crawls does not make crawling usual.
const OUTLIER_TIMES_MAX: u64 = 4;
/// Ranges that must have come before a host's pace is known.
const SERVED_MIN: u32 = 4;
/// Smaller ranges say something about the first byte only.
const RATED_BYTES_MIN: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn pace(answers: &[(u64, u64)]) -> Pace {
        let mut pace = Pace::new();
        for (bytes, nanos) in answers {
            pace.spoke(20 * MILLI);
            pace.served(*bytes, *nanos);
        }
        pace
    }

    #[test]
    fn is_known_after_four_ranges_and_says_so_once() {
        let mut pace = Pace::new();
        let told: std::vec::Vec<bool> = (0..6).map(|_| pace.served(MIB, MILLI)).collect();
        assert_eq!(told, [false, false, false, true, false, false]);
        assert_eq!(Pace::new().range_nanos(MIB), None);
        assert_eq!(Pace::new().first_byte_nanos(), None);
    }

    #[test]
    fn a_range_takes_its_first_byte_and_its_length() {
        let pace = pace(&[(8 * MIB, 100 * MILLI); 8]);
        assert_eq!(pace.first_byte_nanos(), Some(20 * MILLI));
        assert_eq!(pace.range_nanos(8 * MIB), Some(100 * MILLI));
        assert_eq!(pace.range_nanos(2 * MIB), Some(40 * MILLI));
    }

    #[test]
    fn one_that_crawls_does_not_make_crawling_usual() {
        let mut pace = pace(&[(8 * MIB, 100 * MILLI); 8]);
        pace.served(8 * MIB, 100_000 * MILLI);
        let usual = pace.range_nanos(8 * MIB).unwrap();
        assert!(usual < 140 * MILLI, "{usual}");
    }

    #[test]
    fn follows_a_host_that_gets_slower() {
        let mut pace = pace(&[(8 * MIB, 100 * MILLI); 8]);
        for _ in 0..10 {
            pace.served(8 * MIB, 1_000 * MILLI);
        }
        let usual = pace.range_nanos(8 * MIB).unwrap();
        assert!((600 * MILLI..1_000 * MILLI).contains(&usual), "{usual}");
    }
}
