//! Limits as objects: the only door to "may I start?".

/// A counted resource: fetches, lanes, threads, bytes of window or of spool.
///
/// Lowering the maximum never takes a permit back; `used` then drains.
#[derive(Debug)]
pub(crate) struct Budget {
    used: u64,
    max: u64,
}

/// A share of a [`Budget`], owned by the op or blob that uses it.
///
/// It is not `Clone`: what is taken once can be put back once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is dropped is lost to its budget; put it back"]
pub(crate) struct Permit(u64);

impl Budget {
    pub(crate) const fn new(max: u64) -> Self {
        Self { used: 0, max }
    }

    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// What is left; 0 while a lowered maximum drains.
    pub(crate) const fn free(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }

    pub(crate) const fn set_max(&mut self, max: u64) {
        self.max = max;
    }

    /// Takes `amount` if it is free.
    pub(crate) const fn try_take(&mut self, amount: u64) -> Option<Permit> {
        if amount > self.free() {
            return None;
        }
        self.used += amount;
        Some(Permit(amount))
    }

    /// Takes `amount` even if it is not free; whoever calls knows why it must be had.
    pub(crate) const fn take_past(&mut self, amount: u64) -> Permit {
        self.used += amount;
        Permit(amount)
    }

    /// Takes what work already holds of `from`'s budget over, even past the own maximum: its payer changes.
    pub(crate) fn take_over(&mut self, from: &mut Self, amount: u64) {
        assert!(
            amount <= from.used,
            "invariant 1 (permits): more handed over than taken"
        );
        from.used -= amount;
        self.used += amount;
    }

    /// Takes a permit back.
    pub(crate) fn put(&mut self, permit: Permit) {
        assert!(
            permit.0 <= self.used,
            "invariant 1 (permits): more returned than taken"
        );
        self.used -= permit.0;
    }
}

impl Permit {
    pub(crate) const fn none() -> Self {
        Self(0)
    }

    pub(crate) const fn amount(&self) -> u64 {
        self.0
    }

    /// Adds another permit of the same budget to this one.
    pub(crate) fn join(&mut self, other: Self) {
        self.0 += other.0;
    }

    /// Splits `amount` off.
    pub(crate) fn split(&mut self, amount: u64) -> Self {
        assert!(
            amount <= self.0,
            "invariant 1 (permits): split more than held"
        );
        self.0 -= amount;
        Self(amount)
    }

    /// Takes all of it, leaving nothing.
    pub(crate) fn take(&mut self) -> Self {
        self.split(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_free() {
        let mut budget = Budget::new(3);
        let two = budget.try_take(2).unwrap();
        assert_eq!(budget.try_take(2), None);
        let one = budget.try_take(1).unwrap();
        budget.put(two);
        budget.put(one);
        assert_eq!((budget.used(), budget.free()), (0, 3));
    }

    #[test]
    fn drains_under_a_lowered_maximum() {
        let mut budget = Budget::new(3);
        let mut held = budget.try_take(3).unwrap();
        budget.set_max(1);
        assert_eq!((budget.used(), budget.free()), (3, 0));
        budget.put(held.split(2));
        assert_eq!(budget.free(), 0);
        budget.put(held);
        assert_eq!(budget.free(), 1);
    }

    #[test]
    #[should_panic(expected = "invariant 1")]
    fn notices_a_permit_that_was_never_taken() {
        Budget::new(1).put(Permit(1));
    }
}
