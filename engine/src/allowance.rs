//! The allowance of hedges: how many bytes may be brought twice. A bucket in integers that fetched bytes fill.

use crate::config::HedgeRules;

/// What may still be brought twice.
#[derive(Debug)]
pub(crate) struct Allowance {
    free: u64,
    bytes_max: u64,
    bytes_permille: u64,
    /// Thousandths of a byte that were earned.
    rest: u64,
    /// Bytes earned and spent in all, for the check.
    earned: u64,
    spent: u64,
}

impl Allowance {
    pub(crate) const fn new(rules: &HedgeRules) -> Self {
        Self {
            free: rules.burst_bytes,
            bytes_max: rules.burst_bytes,
            bytes_permille: rules.bytes_permille as u64,
            rest: 0,
            earned: 0,
            spent: 0,
        }
    }

    /// Whether so many bytes may be brought twice.
    pub(crate) fn covers(&self, bytes: u64) -> bool {
        bytes <= self.free || mutant!(HedgeUnbounded)
    }

    /// Bytes were fetched; what they earn beyond the most that is saved is lost.
    pub(crate) fn earn(&mut self, fetched: u64) {
        let thousandths = fetched
            .saturating_mul(self.bytes_permille)
            .saturating_add(self.rest);
        self.rest = thousandths % 1_000;
        self.earned = self.earned.saturating_add(thousandths / 1_000);
        self.put(thousandths / 1_000);
    }

    /// Sets bytes aside that a hedge may bring twice.
    pub(crate) const fn set_aside(&mut self, bytes: u64) {
        self.free = self.free.saturating_sub(bytes);
    }

    /// Takes back what was set aside for a hedge and did not come twice.
    pub(crate) fn put(&mut self, bytes: u64) {
        self.free = self.free.saturating_add(bytes).min(self.bytes_max);
    }

    /// Bytes came twice; they were set aside.
    pub(crate) const fn spend(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
    }

    /// That no more came twice, or is about to, than was earned and may be saved.
    pub(crate) fn check(&self, set_aside: u64) {
        assert!(
            self.spent.saturating_add(set_aside) <= self.bytes_max.saturating_add(self.earned),
            "invariant 14 (bytes): {} were brought twice and {set_aside} may be, of {} and {}",
            self.spent,
            self.bytes_max,
            self.earned
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: HedgeRules = HedgeRules {
        bytes_permille: 50,
        burst_bytes: 1_000,
        hedges_max: 4,
        slow_times: 3,
        slow_ms_min: 100,
    };

    #[test]
    fn saves_no_more_than_its_burst() {
        let mut allowance = Allowance::new(&RULES);
        allowance.earn(1 << 40);
        assert!(allowance.covers(1_000) && !allowance.covers(1_001));
    }

    #[test]
    fn what_is_set_aside_is_earned_anew_or_given_back() {
        let mut allowance = Allowance::new(&RULES);
        allowance.set_aside(1_000);
        assert!(!allowance.covers(1));
        allowance.earn(2_000);
        assert!(allowance.covers(100) && !allowance.covers(101));
        allowance.put(900);
        assert!(allowance.covers(1_000));
    }

    proptest! {
        #[test]
        fn thousandths_are_not_lost(fetched in proptest::collection::vec(0u64..100, 1..500)) {
            let mut allowance = Allowance::new(&RULES);
            allowance.set_aside(1_000);
            let mut sum = 0;
            for bytes in fetched {
                allowance.earn(bytes);
                sum += bytes;
            }
            let earned = sum * 50 / 1_000;
            prop_assert_eq!(allowance.earned, earned);
            prop_assert!(allowance.covers(earned.min(1_000)));
        }
    }
}
