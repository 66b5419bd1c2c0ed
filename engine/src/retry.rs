//! Whether and when to ask again: pure, so that manifest, config and token requests follow the same rule.

use crate::config::Timing;
use crate::error::{Class, FetchError};
use crate::rng::{self, Purpose};

/// What to do after a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again after this many milliseconds.
    After {
        /// The delay.
        ms: u64,
        /// Whether the registry asked for it.
        told: bool,
    },
    /// Ask again at once, without ranges.
    Degrade,
    /// Give this source up.
    GiveUp,
}

/// Decides about the request that just failed for the `attempt`-th time (1 = the first).
///
/// Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015): uniformly up to
/// `backoff_ms_min · 2^(attempt-1)`, at most `backoff_ms_max`, so that a fleet does not return in step. `Retry-After` is
/// obeyed as it stands, up to `retry_after_ms_max`; beyond that waiting is worse than an error a person can see.
pub(crate) fn verdict(
    timing: &Timing,
    error: FetchError,
    attempt: u32,
    retry_after_ms: Option<u64>,
    draw: u64,
) -> Verdict {
    match error.class() {
        Class::Degrade if mutant!(NoDegrade) => return Verdict::GiveUp,
        Class::Degrade => return Verdict::Degrade,
        Class::Fatal => return Verdict::GiveUp,
        Class::Retry if attempt >= timing.attempts_max && !mutant!(EndlessRetry) => {
            return Verdict::GiveUp;
        }
        Class::Retry => {}
    }
    match retry_after_ms.filter(|_| !mutant!(RetryAfterIgnored)) {
        Some(ms) if ms > timing.retry_after_ms_max => Verdict::GiveUp,
        Some(ms) => Verdict::After { ms, told: true },
        None => {
            let doublings = attempt.saturating_sub(1).min(30);
            let bound = timing
                .backoff_ms_min
                .saturating_mul(1 << doublings)
                .min(timing.backoff_ms_max);
            Verdict::After {
                ms: rng::up_to(draw, bound).max(1),
                told: false,
            }
        }
    }
}

/// What to do after a failed request outside the engine (manifest, config, token); `key` tells requests apart.
pub fn request_verdict(
    timing: &Timing,
    seed: u64,
    key: u64,
    error: FetchError,
    attempt: u32,
    retry_after_ms: Option<u64>,
) -> Verdict {
    let draw = rng::keyed(seed, Purpose::RequestBackoff, [key, u64::from(attempt), 0]);
    verdict(timing, error, attempt, retry_after_ms, draw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_within_its_bounds_and_only_so_often(
            attempt in 1u32..40,
            attempts_max in 1u32..40,
            draw in any::<u64>(),
            told_ms in proptest::option::of(0u64..200_000),
        ) {
            let timing = Timing { attempts_max, ..timing() };
            match (verdict(&timing, FetchError::RateLimited, attempt, told_ms, draw), told_ms) {
                (Verdict::After { ms, told: true }, Some(asked)) => prop_assert_eq!(ms, asked),
                (Verdict::After { ms, told: false }, None) => {
                    prop_assert!((1..=timing.backoff_ms_max).contains(&ms));
                }
                (Verdict::GiveUp, asked) => {
                    let too_long = asked.is_some_and(|ms| ms > timing.retry_after_ms_max);
                    prop_assert!(too_long || attempt >= attempts_max);
                }
                (other, _) => prop_assert!(false, "{other:?}"),
            }
        }
    }

    fn timing() -> Timing {
        Timing::default()
    }

    #[test]
    fn backs_off_within_doubling_bounds() {
        for (attempt, bound) in [(1, 200), (2, 400), (3, 800), (6, 6_400), (7, 10_000)] {
            let longest = verdict(&timing(), FetchError::Connection, attempt, None, u64::MAX);
            assert_eq!(
                longest,
                Verdict::After {
                    ms: bound,
                    told: false
                }
            );
            let shortest = verdict(&timing(), FetchError::Connection, attempt, None, 0);
            assert_eq!(shortest, Verdict::After { ms: 1, told: false });
        }
    }

    #[test]
    fn gives_up_after_the_last_attempt() {
        assert_eq!(
            verdict(&timing(), FetchError::Server, 8, None, 0),
            Verdict::GiveUp
        );
    }

    #[test]
    fn obeys_retry_after_up_to_its_cap() {
        let ask = |ms| verdict(&timing(), FetchError::RateLimited, 1, Some(ms), u64::MAX);
        assert_eq!(ask(0), Verdict::After { ms: 0, told: true });
        assert_eq!(
            ask(60_000),
            Verdict::After {
                ms: 60_000,
                told: true
            }
        );
        assert_eq!(ask(60_001), Verdict::GiveUp);
    }

    #[test]
    fn does_not_repeat_what_repetition_cannot_mend() {
        for error in [
            FetchError::NotFound,
            FetchError::Unauthorized,
            FetchError::Protocol,
        ] {
            assert_eq!(verdict(&timing(), error, 1, None, 0), Verdict::GiveUp);
        }
        assert_eq!(
            verdict(&timing(), FetchError::RangeUnusable, 1, None, 0),
            Verdict::Degrade
        );
    }
}
