//! The registry: when it answers, and with what.
//!
//! It models latency, range support, limits on requests and connections, redirects and faults. Bytes in flight are the
//! link's business; a sick registry is source 0, its mirrors are healthy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parapull_engine::{BlobId, ByteRange, FetchError, FetchMode, OpId, SourceId};
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, RangeSupport, Redirect};
use parapull_scenario::{ConnectionFault, ConnectionFaultKind, RegistryProfile, Scenario};

use crate::coverage::{Coverage, Point};
use crate::draw::{self, Purpose};
use crate::plan::Plan;
use crate::world::coverage::fault_point;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) blob: BlobId,
    /// The bytes the body will carry: the range asked for, or the whole blob.
    pub(crate) body: ByteRange,
    pub(crate) mode: FetchMode,
    pub(crate) source: SourceId,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With the body.
    Body(Body),
    /// With the whole blob although a range was asked for.
    Refused,
    /// With an error.
    Failed {
        error: FetchError,
        retry_after_ms: Option<u64>,
    },
}

/// How a body comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    /// Most bytes per second, beside what the connection allows.
    pub(crate) cap: Option<u64>,
    /// After so many bytes of the body something happens.
    pub(crate) cut: Option<(u64, Cut)>,
    /// The byte at this offset of the blob is wrong.
    pub(crate) corrupt: Option<u64>,
}

/// What happens to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It ends.
    Lost,
    /// Nothing more comes, for so long or for ever.
    Stall { nanos: Option<u64> },
}

/// The registry's state.
#[derive(Debug)]
pub(crate) struct Registry {
    profile: RegistryProfile,
    faults: Vec<(Fault, u32)>,
    connection_faults: Vec<(ConnectionFault, u32)>,
    seed: u64,
    round_trip_nanos: u64,
    /// The second that is counted, and the requests in it.
    second: (u64, u32),
    connections: BTreeSet<OpId>,
    queue: VecDeque<OpId>,
    asked: BTreeMap<(BlobId, u64), u64>,
    redirected: BTreeSet<BlobId>,
    pub(crate) requests: u64,
    pub(crate) faults_met: u64,
    pub(crate) coverage: Coverage,
}

impl Registry {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            profile: scenario.registry.clone(),
            faults: scenario
                .faults
                .faults
                .iter()
                .map(|fault| (fault.clone(), 0))
                .collect(),
            connection_faults: scenario
                .mishaps
                .connections
                .iter()
                .map(|fault| (*fault, 0))
                .collect(),
            seed: scenario.seed,
            round_trip_nanos: u64::from(scenario.host.round_trip_us) * NANOS_PER_MICRO,
            second: (0, 0),
            connections: BTreeSet::new(),
            queue: VecDeque::new(),
            asked: BTreeMap::new(),
            redirected: BTreeSet::new(),
            requests: 0,
            faults_met: 0,
            coverage: Coverage::default(),
        }
    }

    /// Bytes per second of one connection.
    pub(crate) fn connection_cap(&self) -> u64 {
        self.profile
            .connection_bytes_per_second
            .map_or(u64::MAX, std::num::NonZeroU64::get)
    }

    /// Takes a connection; `false` puts the op in line for one.
    pub(crate) fn connect(&mut self, op: OpId) -> bool {
        let max = self
            .profile
            .connections_max
            .map_or(usize::MAX, |max| max.get() as usize);
        if self.connections.len() < max {
            self.connections.insert(op);
            return true;
        }
        self.queue.push_back(op);
        false
    }

    /// Gives a connection, or a place in line, back; returns who is next.
    pub(crate) fn disconnect(&mut self, op: OpId) -> Option<OpId> {
        self.queue.retain(|waiting| *waiting != op);
        if !self.connections.remove(&op) {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.connections.insert(next);
        Some(next)
    }

    /// Counts a connection at every fault of connections; returns the first one it meets.
    pub(crate) fn meet_connecting(&mut self) -> Option<ConnectionFaultKind> {
        let mut met = None;
        for (fault, count) in &mut self.connection_faults {
            *count += 1;
            if met.is_none() && fault.times.includes(*count) {
                met = Some(fault.kind);
            }
        }
        met
    }

    /// Forgets every connection: the daemon that held them is gone.
    pub(crate) fn disconnect_all(&mut self) {
        self.connections.clear();
        self.queue.clear();
    }

    pub(crate) const fn round_trip_nanos(&self) -> u64 {
        self.round_trip_nanos
    }

    /// Time from a request to the first byte of its answer.
    pub(crate) fn first_byte_nanos(&mut self, request: &Request) -> u64 {
        let asked = self
            .asked
            .entry((request.blob, request.body.start))
            .or_default();
        *asked += 1;
        let parts = [u64::from(request.blob.0), request.body.start, *asked];
        let drawn = draw::keyed(self.seed, Purpose::FirstByte, parts) % 1_000;
        let permille = u32::try_from(drawn).unwrap_or(0);
        let one_way = self.round_trip_nanos
            + u64::from(self.profile.first_byte_ms_at(permille)) * NANOS_PER_MILLI;
        let redirects = matches!(self.profile.redirect, Redirect::SecondOrigin { .. });
        if redirects && self.redirected.insert(request.blob) {
            one_way * 2
        } else {
            one_way
        }
    }

    /// Decides how a request is answered; called once for each, at its first byte.
    pub(crate) fn answer(&mut self, now: u64, request: &Request, plan: &Plan) -> Answer {
        self.requests += 1;
        if request.source == SICK
            && let Some(answer) = self.too_many(now)
        {
            return answer;
        }
        let fault = self.meet(request, plan);
        let ranged = request.mode == FetchMode::Ranged;
        let size = plan.blob(request.blob).compressed_bytes;
        let whole_by_chance = request.body == ByteRange::new(0, size);
        if let Some(kind) = fault {
            self.faults_met += 1;
            self.coverage.sometimes(fault_point(kind));
            return faulty(kind, ranged);
        }
        match self.profile.ranges {
            _ if !ranged => Answer::Body(Body::default()),
            RangeSupport::IgnoredWith200 => Answer::Refused,
            RangeSupport::Refused416
            | RangeSupport::WrongContentRange
            | RangeSupport::NoContentRange => failed(FetchError::RangeUnusable),
            RangeSupport::ShortenedTo { .. } if !whole_by_chance => {
                failed(FetchError::RangeUnusable)
            }
            RangeSupport::Honoured
            | RangeSupport::NoAcceptRangesHeader
            | RangeSupport::ShortenedTo { .. } => Answer::Body(Body::default()),
        }
    }

    fn too_many(&mut self, now: u64) -> Option<Answer> {
        let max = self.profile.requests_per_second_max?.get();
        let second = now / NANOS_PER_SECOND;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        if self.second.1 > max {
            self.coverage.sometimes(Point::RateLimited);
        }
        (self.second.1 > max).then_some(Answer::Failed {
            error: FetchError::RateLimited,
            retry_after_ms: self
                .profile
                .retry_after_seconds
                .map(|seconds| u64::from(seconds) * 1_000),
        })
    }

    /// Counts a request at every fault it fits; returns the first one it meets.
    fn meet(&mut self, request: &Request, plan: &Plan) -> Option<FaultKind> {
        if request.source != SICK {
            return None;
        }
        let mut met = None;
        for (fault, count) in &mut self.faults {
            if !fits(fault, request, plan) {
                continue;
            }
            *count += 1;
            if met.is_none() && fault.times.includes(*count) {
                met = Some(fault.kind);
            }
        }
        met
    }
}

fn fits(fault: &Fault, request: &Request, plan: &Plan) -> bool {
    let target = match fault.target {
        FaultTarget::AnyLayer => true,
        FaultTarget::Layer(index) => plan.is_at(request.blob, index),
        FaultTarget::Digest(_)
        | FaultTarget::Config
        | FaultTarget::Manifest
        | FaultTarget::Token
        | FaultTarget::Ping => false,
    };
    let carries = |offset: u64| request.body.start <= offset && offset < request.body.end;
    let carried = match fault.kind {
        FaultKind::CorruptByte { offset } => carries(offset),
        FaultKind::WholeBodyForRange | FaultKind::WrongRange => request.mode == FetchMode::Ranged,
        FaultKind::ResetAfter { .. }
        | FaultKind::TruncatedAfter { .. }
        | FaultKind::Status { .. }
        | FaultKind::StallAfter { .. }
        | FaultKind::Trickle { .. }
        | FaultKind::WrongContentLength { .. } => true,
    };
    target && carried && fault.offset.is_none_or(carries)
}

fn faulty(kind: FaultKind, ranged: bool) -> Answer {
    let body = Body::default();
    match kind {
        FaultKind::ResetAfter { bytes } | FaultKind::TruncatedAfter { bytes } => {
            Answer::Body(Body {
                cut: Some((bytes, Cut::Lost)),
                ..body
            })
        }
        FaultKind::StallAfter { bytes, stall_ms } => {
            let nanos = stall_ms.map(|ms| u64::from(ms) * NANOS_PER_MILLI);
            Answer::Body(Body {
                cut: Some((bytes, Cut::Stall { nanos })),
                ..body
            })
        }
        FaultKind::CorruptByte { offset } => Answer::Body(Body {
            corrupt: Some(offset),
            ..body
        }),
        FaultKind::Trickle { bytes_per_second } => Answer::Body(Body {
            cap: Some(bytes_per_second.max(1)),
            ..body
        }),
        FaultKind::WholeBodyForRange if ranged => Answer::Refused,
        FaultKind::WholeBodyForRange => Answer::Body(body),
        FaultKind::WrongRange if ranged => failed(FetchError::RangeUnusable),
        FaultKind::WrongRange => Answer::Body(body),
        FaultKind::WrongContentLength { .. } => failed(FetchError::Protocol),
        FaultKind::Status {
            code,
            retry_after_seconds,
        } => Answer::Failed {
            error: classify(code, retry_after_seconds.is_some(), ranged),
            retry_after_ms: retry_after_seconds.map(|seconds| u64::from(seconds) * 1_000),
        },
    }
}

/// The class of a status, as the engine's errors define it.
pub(crate) fn classify(code: u16, told_when: bool, ranged: bool) -> FetchError {
    match code {
        429 => FetchError::RateLimited,
        503 if told_when => FetchError::RateLimited,
        500..=599 | 408 => FetchError::Server,
        401 | 403 => FetchError::Unauthorized,
        404 | 410 => FetchError::NotFound,
        400 | 416 if ranged => FetchError::RangeUnusable,
        _ => FetchError::Protocol,
    }
}

const fn failed(error: FetchError) -> Answer {
    Answer::Failed {
        error,
        retry_after_ms: None,
    }
}

/// The source whose limits and faults the scenario describes; its mirrors have none.
pub(crate) const SICK: SourceId = SourceId(0);
const NANOS_PER_MICRO: u64 = 1_000;
const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_the_classes_of_the_engine() {
        for (code, told, ranged, error) in [
            (500, false, true, FetchError::Server),
            (503, true, true, FetchError::RateLimited),
            (429, false, true, FetchError::RateLimited),
            (403, false, true, FetchError::Unauthorized),
            (404, false, true, FetchError::NotFound),
            (416, false, true, FetchError::RangeUnusable),
            (416, false, false, FetchError::Protocol),
            (418, false, true, FetchError::Protocol),
        ] {
            assert_eq!(classify(code, told, ranged), error, "{code}");
        }
    }
}
