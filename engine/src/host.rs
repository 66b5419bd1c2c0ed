//! One host and what was learned of it: how many connections it bears, when it wants to be left alone, whether it fails,
//! whether it serves ranges.
//!
//! Which host is asked for which bytes is decided in [`crate::sources`].

use crate::config::HostRules;
use crate::pace::Pace;
use crate::rate::RequestRate;
use crate::snapshot::HoldReason;
use crate::time::Instant;

/// A host that blobs are read from. It is remembered as long as the engine lives.
#[derive(Debug)]
pub(crate) struct Host {
    /// Fetches open at it.
    pub(crate) open: u64,
    /// Connections it was seen to bear; the configured limit when nothing else is known.
    ceiling: u64,
    /// Fetches that came to a good end since the ceiling last moved.
    successes: u64,
    /// Until then the ceiling is not raised.
    raise_at: Instant,
    /// How long it is not raised after the next time too many connections were seen.
    raise_ms: u64,
    rate: RequestRate,
    /// It asked not to be asked before.
    held_until: Instant,
    /// Failures in a row.
    failures: u32,
    /// It failed too often in a row: it is avoided until then, and on probation until it succeeds.
    cooling_until: Option<Instant>,
    /// Blobs in a row whose ranges it refused.
    refusals: u32,
    /// Until then it is asked for whole blobs.
    whole_until: Instant,
    /// When it last sent anything.
    pub(crate) heard_at: Instant,
    /// What its first bytes take when nothing is in their way.
    first_byte_nanos: u64,
    /// What its ranges usually take.
    pub(crate) pace: Pace,
    /// When time alone lets it be asked again, if that is watched.
    pub(crate) timer: Option<Instant>,
}

impl Host {
    pub(crate) const fn new(rules: &HostRules) -> Self {
        Self {
            open: 0,
            ceiling: rules.connections_max as u64,
            successes: 0,
            raise_at: Instant::ZERO,
            raise_ms: rules.raise_ms,
            rate: RequestRate::per_second(rules.requests_per_second_max),
            held_until: Instant::ZERO,
            failures: 0,
            cooling_until: None,
            refusals: 0,
            whole_until: Instant::ZERO,
            heard_at: Instant::ZERO,
            first_byte_nanos: 0,
            pace: Pace::new(),
            timer: None,
        }
    }

    /// Whether one more request may be made now, or what holds it.
    pub(crate) fn may_ask(&self, now: Instant) -> Result<(), HoldReason> {
        if self.is_held(now) {
            Err(HoldReason::RetryAfter)
        } else if self.open >= self.ceiling {
            Err(HoldReason::HostConnections)
        } else if self.rate.ready_at(now) > now {
            Err(HoldReason::HostRequests)
        } else {
            Ok(())
        }
    }

    /// Whether it asked to be left alone.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_until > now
    }

    /// Whether another host should be asked if there is one: it cools down, or it is on probation and its one request runs.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        self.cooling_until
            .is_some_and(|until| until > now || self.open > 0)
    }

    /// Whether it is known to refuse ranges.
    pub(crate) fn refuses_ranges(&self, now: Instant) -> bool {
        self.whole_until > now
    }

    /// The next moment at which time alone lets it be asked, if there is one.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        [
            Some(self.held_until),
            self.cooling_until,
            Some(self.rate.ready_at(now)),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    pub(crate) fn asked(&mut self, now: Instant) {
        self.open += 1;
        self.rate.take(now);
    }

    /// A fetch sent its first byte; `nanos` after it was asked for.
    pub(crate) const fn spoke(&mut self, nanos: u64) {
        self.pace.spoke(nanos);
        // The least time is what the host takes; the rest is queues, so it follows those slowly.
        self.first_byte_nanos = if self.first_byte_nanos == 0 || nanos < self.first_byte_nanos {
            nanos
        } else {
            self.first_byte_nanos + (nanos - self.first_byte_nanos) / 8
        };
    }

    /// How long a request may be silent before it counts as one too many, `times` it has been.
    pub(crate) fn patience_nanos(&self, rules: &HostRules, times: u32) -> u64 {
        let least = rules.silence_ms.saturating_mul(NANOS_PER_MILLI);
        let doubled = least.saturating_mul(1 << times.min(5));
        doubled.max(
            self.first_byte_nanos
                .saturating_mul(FIRST_BYTES_OF_PATIENCE),
        )
    }

    pub(crate) const fn succeeded(&mut self, now: Instant, rules: &HostRules) {
        self.failures = 0;
        self.cooling_until = None;
        let max = rules.connections_max as u64;
        if self.ceiling >= max || now.0 < self.raise_at.0 {
            return;
        }
        self.successes += 1;
        if self.successes >= self.ceiling {
            self.ceiling += 1;
            self.successes = 0;
        }
    }

    /// A range was served as a range.
    pub(crate) const fn served_range(&mut self) {
        self.refusals = 0;
        self.whole_until = Instant::ZERO;
    }

    /// The ranges of a blob were refused. One may be an accident; the second blob in a row settles it for a while.
    pub(crate) const fn refused_ranges(&mut self, now: Instant, rules: &HostRules) {
        self.refusals += 1;
        if self.refusals >= REFUSALS_MIN {
            self.whole_until = now.after_millis(rules.ranges_memory_ms);
        }
    }

    /// A request failed in a way that speaks against the host, not against what was asked for.
    pub(crate) const fn failed(&mut self, now: Instant, rules: &HostRules) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= rules.failures_max {
            self.cool(now, rules);
        }
    }

    pub(crate) const fn cool(&mut self, now: Instant, rules: &HostRules) {
        self.cooling_until = Some(now.after_millis(rules.cool_down_ms));
    }

    /// It said that it is asked too much: nothing for so long, and half as much at once afterwards.
    pub(crate) fn hold(&mut self, now: Instant, ms: u64) {
        if !self.is_held(now) {
            self.lower(self.open.div_ceil(2));
        }
        if mutant!(HostHoldForgotten) {
            return;
        }
        self.held_until = self.held_until.max(now.after_millis(ms));
        self.raise_at = self.raise_at.max(self.held_until);
    }

    /// More connections were opened than it serves: `speaking` of them.
    pub(crate) fn crowd(&mut self, now: Instant, speaking: u64, rules: &HostRules) {
        self.lower(speaking);
        if now >= self.raise_at {
            self.raise_at = now.after_millis(self.raise_ms);
            self.raise_ms = self
                .raise_ms
                .saturating_mul(2)
                .min(rules.raise_ms.saturating_mul(RAISE_FACTOR_MAX));
        }
    }

    fn lower(&mut self, connections: u64) {
        self.ceiling = self.ceiling.min(connections.max(1));
        self.successes = 0;
    }
}

/// A request is silent when it takes so many times what first bytes usually take.
const FIRST_BYTES_OF_PATIENCE: u64 = 4;
/// Blobs in a row that must be refused before a host is known to refuse ranges.
const REFUSALS_MIN: u32 = 2;
/// The pause before more connections are tried grows up to so many times its first length.
const RAISE_FACTOR_MAX: u64 = 10;
const NANOS_PER_MILLI: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: HostRules = HostRules {
        connections_max: 16,
        requests_per_second_max: 0,
        failures_max: 3,
        cool_down_ms: 1_000,
        silence_ms: 100,
        raise_ms: 500,
        ranges_memory_ms: 10_000,
    };

    fn host(open: u64) -> Host {
        Host {
            open,
            ..Host::new(&RULES)
        }
    }

    #[test]
    fn halves_when_told_to_slow_down_and_recovers_by_one() {
        let mut host = host(8);
        host.hold(Instant::ZERO, 1_000);
        host.hold(Instant::ZERO, 1_000);
        assert_eq!(host.ceiling, 4);
        assert_eq!(host.may_ask(Instant::ZERO), Err(HoldReason::RetryAfter));
        let later = Instant::from_millis(1_000);
        for _ in 0..4 {
            host.succeeded(later, &RULES);
        }
        assert_eq!(host.ceiling, 5);
    }

    #[test]
    fn learns_how_many_connections_are_served_and_tries_more_ever_later() {
        let mut host = host(16);
        host.crowd(Instant::ZERO, 1, &RULES);
        host.open = 1;
        assert_eq!(
            host.may_ask(Instant::ZERO),
            Err(HoldReason::HostConnections)
        );
        host.succeeded(Instant::from_millis(499), &RULES);
        assert_eq!(host.ceiling, 1);
        host.succeeded(Instant::from_millis(500), &RULES);
        assert_eq!(host.ceiling, 2);
        host.crowd(Instant::from_millis(600), 1, &RULES);
        host.succeeded(Instant::from_millis(1_500), &RULES);
        assert_eq!(host.ceiling, 1);
    }

    #[test]
    fn cools_down_after_failures_in_a_row_and_is_probed_by_one_request() {
        let mut host = host(0);
        for _ in 0..3 {
            assert!(!host.is_avoided(Instant::ZERO));
            host.failed(Instant::ZERO, &RULES);
        }
        assert!(host.is_avoided(Instant::ZERO));
        let later = Instant::from_millis(1_000);
        assert!(!host.is_avoided(later));
        host.asked(later);
        assert!(host.is_avoided(later), "one probe is enough");
        host.succeeded(later, &RULES);
        assert!(!host.is_avoided(later));
    }

    #[test]
    fn remembers_for_a_while_that_ranges_are_refused() {
        let mut host = host(0);
        host.refused_ranges(Instant::ZERO, &RULES);
        assert!(!host.refuses_ranges(Instant::ZERO));
        host.refused_ranges(Instant::ZERO, &RULES);
        assert!(host.refuses_ranges(Instant::from_millis(9_999)));
        assert!(!host.refuses_ranges(Instant::from_millis(10_000)));
    }
}
