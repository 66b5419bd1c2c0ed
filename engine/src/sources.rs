//! Sources: which host a chunk is asked from, and what a host's answers teach about it.
//!
//! A blob's hosts are asked in their order. One that asked to be left alone, or that failed too often in a row, is passed
//! over while another one is left; one that has given a blob up for good is not asked for that blob again.

use crate::blob::Blob;
use crate::engine::Engine;
use crate::error::{Class, FetchError};
use crate::host::Host;
use crate::id::{ByteRange, HostId, OpId, SourceId};
use crate::op::{Fetch, OpKind};
use crate::rng::{self, Purpose};
use crate::snapshot::HoldReason;
use crate::timers::Deadline;

/// Where a blob is read from first after its bytes turned out wrong.
///
/// Where some were here and others were fetched, either may be wrong, so the source is not asked again first; if all were
/// here, none has been asked yet.
pub(crate) fn after_wrong_bytes(blob: &Blob) -> SourceId {
    if (0..blob.chunk_count()).all(|chunk| blob.is_local(chunk)) {
        return blob.first_source;
    }
    let last = match blob.source {
        SourceId::LOCAL => blob.first_source,
        source => source,
    };
    let count = u16::try_from(blob.hosts.len()).unwrap_or(u16::MAX);
    SourceId((last.0 + 1) % count)
}

impl Engine {
    /// Where the missing bytes of a chunk are to be asked from now, or what holds it.
    pub(crate) fn source_for(&self, blob: &Blob, chunk: u32) -> Result<SourceId, HoldReason> {
        if blob.is_local(chunk) {
            return Ok(SourceId::LOCAL);
        }
        let (source, host) = self.preferred(blob).ok_or(HoldReason::RetryAfter)?;
        host.map_or(Ok(()), |host| host.may_ask(self.now))
            .map(|()| source)
    }

    /// The source that is to be asked next, whether or not its host bears another connection, and what is known of the
    /// host; nothing while every host wants to be left alone.
    pub(crate) fn preferred(&self, blob: &Blob) -> Option<(SourceId, Option<&Host>)> {
        let now = self.now;
        let mut avoided = None;
        for source in blob.sources() {
            let Some(host) = self.hosts.get(&blob.host(source)) else {
                return Some((source, None));
            };
            if host.is_held(now) {
                continue;
            }
            if !host.is_avoided(now) {
                return Some((source, Some(host)));
            }
            avoided = avoided.or(Some((source, Some(host))));
        }
        avoided
    }

    pub(crate) fn host_mut(&mut self, id: HostId) -> &mut Host {
        self.stirred = true;
        let rules = &self.config.hosts;
        self.hosts.entry(id).or_insert_with(|| Host::new(rules))
    }

    /// Whether the host a blob would be read from is known to refuse ranges.
    pub(crate) fn is_whole_only(&self, hosts: &[HostId]) -> bool {
        let first = hosts.first().and_then(|host| self.hosts.get(host));
        first.is_some_and(|host| host.refuses_ranges(self.now))
    }

    /// A fetch has sent something.
    pub(crate) fn note_bytes(&mut self, id: OpId) {
        let now = self.now;
        let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) else {
            return;
        };
        let first = (!fetch.spoke).then(|| now.nanos_since(fetch.asked_at));
        fetch.spoke = true;
        if first.is_some() {
            fetch.first = Some((now, fetch.kept));
        }
        let (host, silence) = (fetch.host, fetch.silence_at.take());
        if let Some(at) = silence {
            self.timers.stop(at, Deadline::Silence(id));
        }
        if first.is_some() {
            self.watch_from_first_byte(id);
        }
        let Some(host) = host else { return };
        let host = self.host_mut(host);
        host.heard_at = now;
        if let Some(nanos) = first {
            host.spoke(nanos);
        }
    }

    /// A fetch came to a good end.
    pub(crate) fn note_success(&mut self, fetch: &Fetch, ranged: bool) {
        let (now, rules) = (self.now, self.config.hosts);
        let Some(host) = fetch.host else { return };
        let host = self.host_mut(host);
        host.succeeded(now, &rules);
        if ranged {
            host.served_range();
            let nanos = now.nanos_since(fetch.asked_at);
            if host.pace.served(fetch.granted, nanos)
                && let Some(id) = fetch.host
            {
                self.on_pace_known(id);
            }
            self.note_tempo(fetch);
        }
    }

    /// A host refused the ranges of a blob.
    pub(crate) fn note_refusal(&mut self, host: Option<HostId>) {
        let (now, rules) = (self.now, self.config.hosts);
        if let Some(host) = host {
            self.host_mut(host).refused_ranges(now, &rules);
        }
    }

    /// A closed fetch failed: what that says about its host. What becomes of its chunk is decided in [`crate::refetch`].
    pub(crate) fn note_failure(
        &mut self,
        fetch: &Fetch,
        error: FetchError,
        retry_after_ms: Option<u64>,
    ) {
        let (now, rules, timing) = (self.now, self.config.hosts, self.config.timing);
        let Some(id) = fetch.host else { return };
        if error == FetchError::RateLimited {
            let draw = rng::keyed(
                self.config.seed,
                Purpose::HostHold,
                [u64::from(id.0), now.0, 0],
            );
            let jitter = rng::up_to(draw, timing.backoff_ms_min).max(1);
            let host = self.host_mut(id);
            match retry_after_ms.filter(|_| !mutant!(RetryAfterIgnored)) {
                Some(ms) if ms > timing.retry_after_ms_max => host.cool(now, &rules),
                told => host.hold(now, told.unwrap_or(jitter)),
            }
            self.recut_due |= self.config.limits.chooses_chunks();
            return;
        }
        if error.class() != Class::Retry {
            return;
        }
        let speaking = self.speaking(id);
        let refused = error == FetchError::Connection && !fetch.spoke && speaking > 0;
        let host = self.host_mut(id);
        if refused {
            host.crowd(now, speaking, &rules);
        } else if !mutant!(CoolDownOff) {
            host.failed(now, &rules);
        }
    }

    /// Looks at a fetch that has sent nothing for long: where its host sends to others, there are too many of them.
    pub(crate) fn on_silence(&mut self, id: OpId) {
        let (now, rules) = (self.now, self.config.hosts);
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let (OpKind::Fetch(fetch), false) = (&mut op.kind, op.cancelling) else {
            return;
        };
        fetch.silence_at = None;
        let (asked_at, crowdings, blob, chunk) =
            (fetch.asked_at, fetch.crowdings, fetch.blob, fetch.chunk);
        let Some((host_id, host)) = fetch
            .host
            .and_then(|id| self.hosts.get(&id).map(|host| (id, host)))
        else {
            return;
        };
        let due = asked_at + host.patience_nanos(&rules, crowdings);
        if due > now || host.heard_at <= asked_at {
            let at = due.max(now.after_millis(rules.silence_ms.max(1)));
            return self.watch_silence(id, at);
        }
        let speaking = self.speaking(host_id);
        self.host_mut(host_id).crowd(now, speaking, &rules);
        if let Some(blob) = self.blobs.get_mut(&blob) {
            let chunk = blob.chunk_mut(chunk);
            chunk.crowdings = chunk.crowdings.saturating_add(1);
        }
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) {
            fetch.crowded = true;
        }
        self.cancel(id);
    }

    pub(crate) fn watch_silence(&mut self, id: OpId, at: crate::time::Instant) {
        if let Some(OpKind::Fetch(fetch)) = self.ops.get_mut(&id).map(|op| &mut op.kind) {
            fetch.silence_at = Some(at);
            self.timers.start(at, Deadline::Silence(id));
        }
    }

    /// Fetches at a host that have sent something.
    fn speaking(&self, id: HostId) -> u64 {
        let speaks = |kind: &OpKind| matches!(kind, OpKind::Fetch(fetch) if fetch.host == Some(id) && fetch.spoke);
        self.ops.values().filter(|op| speaks(&op.kind)).count() as u64
    }

    /// Keeps one deadline for each host that only time lets be asked again, while there is any work.
    pub(crate) fn watch_hosts(&mut self) {
        let working = !self.images.is_empty();
        for (id, host) in &mut self.hosts {
            let at = host.next_change(self.now).filter(|_| working);
            if at == host.timer {
                continue;
            }
            if let Some(old) = host.timer {
                self.timers.stop(old, Deadline::Host(*id));
            }
            if let Some(at) = at {
                self.timers.start(at, Deadline::Host(*id));
            }
            host.timer = at;
        }
    }

    pub(crate) fn on_host_ready(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.timer = None;
        }
    }
}

impl Blob {
    /// The sources that have not given this blob up, in the order in which they are asked.
    pub(crate) fn sources(&self) -> impl Iterator<Item = SourceId> {
        let count = u16::try_from(self.hosts.len()).unwrap_or(u16::MAX);
        (0..count)
            .map(move |turn| SourceId((self.first_source.0 + turn) % count))
            .filter(|source| !self.lost.contains(source))
    }

    pub(crate) fn host(&self, source: SourceId) -> HostId {
        self.hosts[usize::from(source.0)]
    }

    /// Requests for a chunk that failed at a source.
    pub(crate) fn failed_attempts(&self, chunk: u32, source: SourceId) -> u32 {
        self.failures.get(&(chunk, source)).copied().unwrap_or(0)
    }

    /// Counts a failed request for a chunk; returns how many there were at this source.
    pub(crate) fn count_failure(&mut self, chunk: u32, source: SourceId) -> u32 {
        let count = self.failures.entry((chunk, source)).or_default();
        *count += 1;
        *count
    }

    /// Whether all that is missing of a chunk (or of the blob, when it is read whole) lies in the local store.
    pub(crate) fn is_local(&self, chunk: u32) -> bool {
        if self.local.is_empty() {
            return false;
        }
        let missing = self.missing(chunk);
        let wanted = match self.mode {
            crate::blob::Mode::Whole(_) => ByteRange::new(missing.start, self.size),
            crate::blob::Mode::Ranged | crate::blob::Mode::Settling(_) => missing,
        };
        self.local
            .iter()
            .any(|range| range.start <= wanted.start && wanted.end <= range.end)
    }
}
