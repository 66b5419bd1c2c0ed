//! Max-min fair shares of one resource: nobody can get more without taking it from somebody who has less.
//!
//! Pure: caps in, rates out. The same planner serves connections on a link and lanes on cores.

/// The rate of each of `caps` when together they may have `capacity`.
///
/// Progressive filling: the smallest caps are served in full as long as an equal share of the rest covers them; what is
/// left is split evenly. Every rate is at least 1, so that everything ends.
pub(crate) fn max_min(caps: &[u64], capacity: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..caps.len()).collect();
    order.sort_by_key(|&index| (caps[index], index));
    let mut rates = vec![0; caps.len()];
    let mut left = capacity;
    for (served, &index) in order.iter().enumerate() {
        let share = left / (caps.len() - served) as u64;
        let rate = caps[index].min(share);
        rates[index] = rate.max(1);
        left -= rate;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_small_caps_first() {
        for (caps, capacity, rates) in [
            (vec![10, 10], 100, vec![10, 10]),
            (vec![100, 100], 100, vec![50, 50]),
            (vec![100, 10, 100], 100, vec![45, 10, 45]),
            (vec![5], 3, vec![3]),
            (vec![], 3, vec![]),
        ] {
            assert_eq!(max_min(&caps, capacity), rates, "{caps:?} of {capacity}");
        }
    }

    proptest! {
        #[test]
        fn wastes_nothing_and_exceeds_nothing(caps in proptest::collection::vec(1u64..1_000_000, 1..40), capacity in 1_000u64..10_000_000) {
            let rates = max_min(&caps, capacity);
            let total: u64 = rates.iter().sum();
            prop_assert!(total <= capacity);
            prop_assert!(rates.iter().zip(&caps).all(|(rate, cap)| rate <= cap));
            let demand: u64 = caps.iter().sum();
            prop_assert!(total + caps.len() as u64 >= demand.min(capacity));
            // Whoever stays below its cap has as much as anybody.
            let most = rates.iter().max().copied().unwrap_or(0);
            prop_assert!(rates.iter().zip(&caps).all(|(rate, cap)| rate == cap || rate + 1 >= most));
        }
    }
}
