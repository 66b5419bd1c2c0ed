//! A rate shared among portions of work, each with a cap of its own: bytes on a link, core time on cores.

use std::collections::BTreeMap;

use parapull_engine::OpId;

use super::fair;

/// A shared rate. Units are whatever `capacity` counts per second.
#[derive(Debug)]
pub(crate) struct Pool {
    capacity: u64,
    flows: BTreeMap<OpId, Flow>,
    now: u64,
    stale: bool,
    saturated: bool,
    used: u128,
}

/// One portion in progress.
#[derive(Debug)]
struct Flow {
    cap: u64,
    rate: u64,
    amount: u64,
    /// Units times nanoseconds that are left, so that nothing is lost to rounding between two looks.
    left: u128,
}

impl Pool {
    pub(crate) const fn new(capacity: u64) -> Self {
        Self {
            capacity,
            flows: BTreeMap::new(),
            now: 0,
            stale: false,
            saturated: false,
            used: 0,
        }
    }

    /// Begins a portion; one that runs already under the same cap goes on at its rate.
    pub(crate) fn start(&mut self, now: u64, op: OpId, amount: u64, cap: u64) {
        self.advance(now);
        let left = u128::from(amount) * NANOS_PER_SECOND;
        if let Some(flow) = self.flows.get_mut(&op)
            && flow.cap == cap
        {
            (flow.amount, flow.left) = (amount, left);
            return;
        }
        let flow = Flow {
            cap,
            rate: 0,
            amount,
            left,
        };
        self.flows.insert(op, flow);
        self.stale = true;
    }

    /// Ends a portion early or late; returns what of it is done.
    pub(crate) fn stop(&mut self, now: u64, op: OpId) -> u64 {
        self.advance(now);
        let Some(flow) = self.flows.remove(&op) else {
            return 0;
        };
        self.stale = true;
        let left = u64::try_from(flow.left.div_ceil(NANOS_PER_SECOND)).unwrap_or(u64::MAX);
        flow.amount.saturating_sub(left)
    }

    /// A portion that is done, if there is one. It stays until it is started anew or stopped.
    pub(crate) fn finished(&mut self, now: u64) -> Option<OpId> {
        self.advance(now);
        self.flows
            .iter()
            .find(|(_, flow)| flow.left == 0)
            .map(|(op, _)| *op)
    }

    /// When the next portion will be done.
    pub(crate) fn next(&mut self) -> Option<u64> {
        self.plan();
        self.flows
            .values()
            .map(|flow| flow.left.div_ceil(u128::from(flow.rate)))
            .min()
            .map(|nanos| {
                self.now
                    .saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))
            })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether somebody gets less than its cap.
    pub(crate) fn is_saturated(&mut self) -> bool {
        self.plan();
        self.saturated
    }

    /// Units served so far.
    pub(crate) fn used(&self) -> u64 {
        u64::try_from(self.used / NANOS_PER_SECOND).unwrap_or(u64::MAX)
    }

    fn advance(&mut self, now: u64) {
        if now == self.now {
            return;
        }
        self.plan();
        let nanos = u128::from(now - self.now);
        for flow in self.flows.values_mut() {
            let done = flow.left.min(u128::from(flow.rate) * nanos);
            flow.left -= done;
            self.used += done;
        }
        self.now = now;
    }

    fn plan(&mut self) {
        if !self.stale {
            return;
        }
        self.stale = false;
        let caps: Vec<u64> = self.flows.values().map(|flow| flow.cap).collect();
        let rates = fair::max_min(&caps, self.capacity);
        self.saturated = rates.iter().zip(&caps).any(|(rate, cap)| rate < cap);
        for (flow, rate) in self.flows.values_mut().zip(rates) {
            flow.rate = rate;
        }
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_share_and_the_rest_of_one_goes_faster() {
        let mut pool = Pool::new(100);
        pool.start(0, OpId(1), 100, 1_000);
        pool.start(0, OpId(2), 50, 1_000);
        assert_eq!(pool.next(), Some(1_000_000_000));
        assert_eq!(pool.finished(1_000_000_000), Some(OpId(2)));
        assert_eq!(pool.stop(1_000_000_000, OpId(2)), 50);
        assert_eq!(pool.next(), Some(1_500_000_000));
    }

    #[test]
    fn a_cap_leaves_the_rest_unused() {
        let mut pool = Pool::new(100);
        pool.start(0, OpId(1), 10, 10);
        assert!(!pool.is_saturated());
        assert_eq!(pool.next(), Some(1_000_000_000));
        assert_eq!(pool.stop(500_000_000, OpId(1)), 5);
        assert_eq!(pool.used(), 5);
    }
}
