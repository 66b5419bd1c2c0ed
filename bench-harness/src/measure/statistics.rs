//! Samples in seven numbers.

use serde::{Deserialize, Serialize};

/// The order statistics of a set of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub n: usize,
    /// Smallest sample.
    pub min: f64,
    /// 25th percentile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// 75th percentile.
    pub p75: f64,
    /// 90th percentile.
    pub p90: f64,
    /// Largest sample.
    pub max: f64,
}

impl Summary {
    /// Summarises `samples`; `None` without any, or when one is not a number.
    ///
    /// A percentile `p` is read at position `p (n − 1)` of the sorted samples, linearly between neighbours (type 7 of
    /// Hyndman and Fan, 1996; the default of R and NumPy).
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() || samples.iter().any(|sample| sample.is_nan()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            n: sorted.len(),
            min: percentile(&sorted, 0),
            p25: percentile(&sorted, 25),
            p50: percentile(&sorted, 50),
            p75: percentile(&sorted, 75),
            p90: percentile(&sorted, 90),
            max: percentile(&sorted, 100),
        })
    }
}

impl Summary {
    /// Applies `change` to every statistic.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            n: self.n,
            min: change(self.min),
            p25: change(self.p25),
            p50: change(self.p50),
            p75: change(self.p75),
            p90: change(self.p90),
            max: change(self.max),
        }
    }
}

/// Exact in the position: the rank is a whole number of hundredths.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let hundredths = percent * (sorted.len() - 1);
    let (below, rest) = (hundredths / 100, hundredths % 100);
    let low = sorted[below];
    let high = sorted[(below + 1).min(sorted.len() - 1)];
    if rest == 0 {
        low
    } else {
        low + (high - low) * rest as f64 / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_between_ranks() {
        for (samples, expected) in [
            (vec![3.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]),
            (vec![2.0, 1.0], [1.0, 1.25, 1.5, 1.75, 1.9, 2.0]),
            (
                vec![5.0, 1.0, 4.0, 2.0, 3.0],
                [1.0, 2.0, 3.0, 4.0, 4.6, 5.0],
            ),
            (
                vec![10.0, 20.0, 30.0, 40.0],
                [10.0, 17.5, 25.0, 32.5, 37.0, 40.0],
            ),
        ] {
            let found = Summary::of(&samples).unwrap();
            let numbers = [
                found.min, found.p25, found.p50, found.p75, found.p90, found.max,
            ];
            for (number, expected) in numbers.iter().zip(expected) {
                assert!(
                    (number - expected).abs() < 1e-12,
                    "{samples:?}: {numbers:?}"
                );
            }
            assert_eq!(found.n, samples.len());
        }
    }

    #[test]
    fn refuses_what_cannot_be_ordered() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }
}
