//! How fetches end: failed, cancelled or done, and what their connections do then.

use parapull_engine::{Class, FetchError, Input, OpId};
use parapull_scenario::{Canary, ConnectionFaultKind};

use super::{NANOS_PER_MILLI, Stage};
use crate::events::Coming;
use crate::world::{Violation, World};

impl World<'_> {
    pub(super) fn fail_fetch(&mut self, op: OpId, error: FetchError, retry_after_ms: Option<u64>) {
        let received = self.fetches.get(&op).map_or(0, |fetch| fetch.kept);
        // What is said to a hedge is not said about the range that goes on without it.
        if let Some(fetch) = self.fetches.get(&op).filter(|fetch| !fetch.hedge) {
            let key = (fetch.blob, fetch.source, fetch.position);
            let told = retry_after_ms.filter(|_| error.class() == Class::Retry);
            self.promises.failed(key, self.clock(), told);
        }
        let input = Input::RangeFailed {
            op,
            error,
            received,
            retry_after_ms,
        };
        self.end_fetch(op, input);
    }

    /// What came until now is kept; the rest is not waited for.
    pub(in crate::world) fn cancel_fetch(&mut self, op: OpId) -> Result<(), Violation> {
        let done = self.link.stop(self.now, op);
        match self.fetches.get(&op).map(|fetch| fetch.stage) {
            Some(Stage::Receiving(_)) if done > 0 => self.keep(op, done)?,
            Some(Stage::Storing(portion)) => self.keep(op, portion)?,
            _ => {}
        }
        let received = self.fetches.get(&op).map_or(0, |fetch| fetch.kept);
        self.end_fetch(op, Input::OpCancelled { op, received });
        Ok(())
    }

    pub(super) fn end_fetch(&mut self, op: OpId, end: Input) {
        self.link.stop(self.now, op);
        let fetch = self.fetches.remove(&op);
        if let Some(fetch) = &fetch {
            self.cover_race(fetch, &end);
        }
        if !self.lies(Canary::LostCompletion) {
            self.inbox.push_back(end);
        }
        if let Some(ConnectionFaultKind::SlowClose { ms }) =
            fetch.and_then(|fetch| fetch.connection)
        {
            let at = self.now + u64::from(ms) * NANOS_PER_MILLI;
            self.events.push(at, Coming::Closed { op });
        } else {
            self.close_connection(op);
        }
    }

    pub(in crate::world) fn close_connection(&mut self, op: OpId) {
        if let Some(next) = self.registry.disconnect(op) {
            self.ask(next);
        }
    }
}
