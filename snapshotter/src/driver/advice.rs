//! The engine's retry rule for requests outside it: manifests, configurations, tokens.

use std::time::Duration;

use parapull_engine::{Timing, Verdict, request_verdict};

use super::failure::fetch_error;
use crate::registry::{FetchError, RetryAdvice};

/// Asks the engine's pure retry function.
#[derive(Clone, Copy, Debug)]
pub struct Advice {
    /// Attempts and backoff.
    pub timing: Timing,
    /// Where the jitter comes from.
    pub seed: u64,
}

impl Advice {
    /// How long to wait after the `attempt`-th attempt (1 = the first) at something local that is tried until it succeeds.
    pub fn pause(&self, attempt: u32) -> Duration {
        let timing = Timing {
            attempts_max: u32::MAX,
            ..self.timing
        };
        let failed = parapull_engine::FetchError::Connection;
        match request_verdict(&timing, self.seed, LOCAL, failed, attempt, None) {
            Verdict::After { ms, .. } => Duration::from_millis(ms),
            Verdict::Degrade | Verdict::GiveUp => Duration::from_millis(timing.backoff_ms_max),
        }
    }
}

impl RetryAdvice for Advice {
    fn after(&self, attempt: u32, error: &FetchError) -> Option<Duration> {
        let retry_after_ms = error
            .retry_after()
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let verdict = request_verdict(
            &self.timing,
            self.seed,
            0,
            fetch_error(error),
            attempt,
            retry_after_ms,
        );
        match verdict {
            Verdict::After { ms, .. } => Some(Duration::from_millis(ms)),
            Verdict::Degrade | Verdict::GiveUp => None,
        }
    }
}

/// Keeps local attempts out of step with requests to registries.
const LOCAL: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_backoff_and_never_end() {
        let timing = Timing {
            attempts_max: 1,
            ..Timing::default()
        };
        let pauses = |attempt| (0..200).map(move |seed| Advice { timing, seed }.pause(attempt));
        let longest = Duration::from_millis(timing.backoff_ms_max);
        assert!(pauses(1).all(|pause| pause <= Duration::from_millis(timing.backoff_ms_min)));
        for attempt in [20, u32::MAX] {
            assert!(pauses(attempt).all(|pause| pause <= longest));
            assert!(pauses(attempt).any(|pause| pause > longest / 2));
        }
    }
}
