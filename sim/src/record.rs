//! What was seen of a run: spans, counts, peaks. It is written by the world and read by reports, plots and the oracle.

use parapull_engine::{BlobId, ImageId, LayerError, LayerId, Limits, Outcome, Place, PullStats};
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::world::Violation;

/// What a stretch of time was spent waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Nothing was pulled.
    Idle,
    /// First bytes were waited for.
    Latency,
    /// Connections ran at their own cap, lanes waited for bytes.
    Connection,
    /// The link was full, lanes waited for bytes.
    Link,
    /// Lanes ran at the speed of their threads while cores were free and bytes were there.
    Lane,
    /// All cores were busy.
    Cpu,
    /// Writers were slowed down to the disk's pace.
    Disk,
    /// Everything was unpacked; links were made or callers waited for.
    Commit,
}

/// A stretch of time, in nanoseconds.
pub(crate) type Span = (u64, u64);

/// What was seen of one blob.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlobRecord {
    /// From the first request to the last byte.
    pub(crate) fetch: Option<Span>,
}

/// What was seen of one pull.
#[derive(Clone, Debug, Default)]
pub(crate) struct PullRecord {
    pub(crate) requested: Option<u64>,
    pub(crate) finished: Option<(u64, Outcome, PullStats)>,
    pub(crate) links: Vec<Option<u64>>,
    pub(crate) ready: Vec<Option<u64>>,
    pub(crate) failed: Vec<Option<LayerError>>,
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) pulls: Vec<PullRecord>,
    pub(crate) blobs: Vec<BlobRecord>,
    /// By layer: its lanes.
    pub(crate) lanes: Vec<Vec<Span>>,
    pub(crate) bounds: Vec<(Span, Bound)>,
    pub(crate) inputs: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    pub(crate) degraded: u64,
    pub(crate) new_lives: u64,
    pub(crate) faults_met: u64,
    pub(crate) local_faults: u64,
    pub(crate) coverage: Coverage,
    pub(crate) crashes: u64,
    pub(crate) link_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// Bytes kept by fetches.
    pub(crate) kept_bytes: u64,
    /// Bytes that fetches brought although they were there.
    pub(crate) hedged_bytes: u64,
    pub(crate) hedges: u64,
    /// Bytes of blobs that a lane read to a good end.
    pub(crate) unpacked_bytes: u64,
    /// Bytes that were dropped unread.
    pub(crate) dropped_bytes: u64,
    pub(crate) window_bytes_peak: u64,
    pub(crate) fetches_peak: usize,
    pub(crate) lanes_peak: usize,
    pub(crate) threads_peak: u64,
    pub(crate) allowed: Allowed,
}

/// The highest limits that ever were in force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    fetches: u64,
    lanes: u64,
    pub(crate) threads: u64,
    window_bytes: u64,
    pub(crate) spool_bytes: u64,
}

impl Record {
    pub(crate) fn new(plan: &Plan) -> Self {
        let pulls = plan
            .pulls
            .iter()
            .map(|layers| PullRecord {
                links: vec![None; layers.len()],
                ready: vec![None; layers.len()],
                failed: vec![None; layers.len()],
                ..PullRecord::default()
            })
            .collect();
        let mut record = Self {
            pulls,
            blobs: vec![BlobRecord::default(); plan.blobs.len()],
            lanes: vec![Vec::new(); plan.layers.len()],
            ..Self::default()
        };
        record.allow(&plan.config.limits);
        record
    }

    pub(crate) fn allow(&mut self, limits: &Limits) {
        let raw = limits.raw();
        let allowed = &mut self.allowed;
        allowed.fetches = allowed.fetches.max(raw.fetches_max.into());
        allowed.lanes = allowed.lanes.max(raw.unpacks_max.into());
        allowed.threads = allowed.threads.max(raw.threads_max.into());
        allowed.window_bytes = allowed.window_bytes.max(raw.window_bytes_max);
        allowed.spool_bytes = allowed.spool_bytes.max(raw.spool_bytes_max);
    }

    /// Adds a stretch of time; equal neighbours become one.
    pub(crate) fn spend(&mut self, from: u64, to: u64, bound: Bound) {
        if let Some(((_, end), last)) = self.bounds.last_mut()
            && *last == bound
        {
            *end = to;
            return;
        }
        self.bounds.push(((from, to), bound));
    }

    /// Whether no pull is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pulls
            .iter()
            .all(|pull| pull.requested.is_none() || pull.finished.is_some())
    }

    pub(crate) fn request(&mut self, now: u64, image: ImageId) {
        self.pulls[image.0 as usize].requested = Some(now);
    }

    pub(crate) fn fetch_begins(
        &mut self,
        now: u64,
        blob: BlobId,
        open: usize,
    ) -> Result<(), Violation> {
        let span = &mut self.blobs[blob.0 as usize].fetch;
        *span = Some(span.map_or((now, now), |(from, to)| (from, to)));
        self.fetches_peak = self.fetches_peak.max(open);
        within("fetches", open as u64, self.allowed.fetches)
    }

    pub(crate) fn fetched(
        &mut self,
        now: u64,
        blob: BlobId,
        bytes: u64,
        window_bytes: u64,
    ) -> Result<(), Violation> {
        let record = &mut self.blobs[blob.0 as usize];
        if let Some((_, to)) = &mut record.fetch {
            *to = now;
        }
        self.kept_bytes += bytes;
        self.window_bytes_peak = self.window_bytes_peak.max(window_bytes);
        within("window bytes", window_bytes, self.allowed.window_bytes)
    }

    pub(crate) fn lane_begins(
        &mut self,
        now: u64,
        layer: LayerId,
        open: usize,
    ) -> Result<(), Violation> {
        self.lanes[layer.0 as usize].push((now, now));
        self.lanes_peak = self.lanes_peak.max(open);
        within("lanes", open as u64, self.allowed.lanes)
    }

    /// A lane ended; one that came to a good end has read the whole blob.
    pub(crate) fn lane_ends(&mut self, now: u64, layer: LayerId, bytes: u64, good: bool) {
        if let Some((_, to)) = self.lanes[layer.0 as usize].last_mut() {
            *to = now;
        }
        if good {
            self.unpacked_bytes += bytes;
        }
    }

    pub(crate) fn threads(&mut self, threads: u64) {
        self.threads_peak = self.threads_peak.max(threads);
    }

    pub(crate) fn link(&mut self, now: u64, place: Place) {
        self.pulls[place.image.0 as usize].links[place.index as usize] = Some(now);
    }

    pub(crate) fn ready(&mut self, now: u64, place: Place) -> Result<(), Violation> {
        let pull = &mut self.pulls[place.image.0 as usize];
        let ready = &mut pull.ready[place.index as usize];
        if ready.is_some() || pull.finished.is_some() {
            return Err(Violation::Correctness(format!(
                "invariant 4 (ready once): {place:?} is ready again"
            )));
        }
        *ready = Some(now);
        Ok(())
    }

    pub(crate) fn failed(&mut self, place: Place, error: LayerError) -> Result<(), Violation> {
        let pull = &mut self.pulls[place.image.0 as usize];
        let failed = &mut pull.failed[place.index as usize];
        if failed.is_some() || pull.ready[place.index as usize].is_some() || pull.finished.is_some()
        {
            return Err(Violation::Correctness(format!(
                "{place:?} failed after it had ended"
            )));
        }
        *failed = Some(error);
        Ok(())
    }

    /// A pull is asked for anew after a crash: what is linked is ready, what failed is forgotten.
    pub(crate) fn restart(&mut self, pull: usize, now: u64, linked: u32) {
        let pull = &mut self.pulls[pull];
        pull.failed.fill(None);
        for ready in pull.ready.iter_mut().take(linked as usize) {
            ready.get_or_insert(now);
        }
    }

    pub(crate) fn finish(
        &mut self,
        now: u64,
        image: ImageId,
        outcome: Outcome,
        stats: PullStats,
    ) -> Result<(), Violation> {
        let finished = &mut self.pulls[image.0 as usize].finished;
        if finished.is_some() {
            return Err(Violation::Correctness(format!("{image:?} finished twice")));
        }
        *finished = Some((now, outcome, stats));
        Ok(())
    }
}

fn within(what: &str, used: u64, allowed: u64) -> Result<(), Violation> {
    if used > allowed {
        return Err(Violation::Correctness(format!(
            "{used} {what}, but only {allowed} are allowed"
        )));
    }
    Ok(())
}
