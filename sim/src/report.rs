//! What a run says to people: how long, bound by what, how far from the best possible, at what cost.

use std::collections::BTreeMap;

use parapull_engine::{Outcome, Strategy};
use parapull_scenario::Scenario;
use serde::{Deserialize, Serialize};

use crate::bound::{self, LowerBound};
use crate::coverage::Coverage;
use crate::record::{Bound, Record};
use crate::world::{Finished, Observer, RunError, World};

/// What a scenario comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The way of pulling.
    pub strategy: Strategy,
    /// Name of the host.
    pub host: String,
    /// Name of the registry profile.
    pub registry: String,
    /// The seed it was run with.
    pub seed: u64,
    /// From the first request to the end of the last pull, manifest and config included.
    pub seconds: f64,
    /// What no scheduler could beat.
    pub lower_bound_seconds: f64,
    /// What most of the time went to.
    pub bound_by: Bound,
    /// Where the time went; sums up to `seconds`.
    pub phases: Vec<Phase>,
    /// Compressed bytes of all blobs, each once.
    pub compressed_bytes: u64,
    /// Uncompressed bytes of all layers, each once.
    pub uncompressed_bytes: u64,
    /// Compressed bytes that were kept.
    pub bytes_fetched: u64,
    /// Of these, bytes fetched again.
    pub bytes_retried: u64,
    /// Bytes that came twice because slow ranges were asked for twice; not among the kept ones.
    #[serde(default)]
    pub bytes_hedged: u64,
    /// Bytes written: layers and spool.
    pub bytes_written: u64,
    /// Requests for blobs.
    pub requests: u64,
    /// Requests that repeated an earlier one.
    pub retries: u64,
    /// Requests for the rest of a slow range that was under way.
    #[serde(default)]
    pub hedges: u64,
    /// Most bytes in memory.
    pub window_bytes_peak: u64,
    /// Most requests at once.
    pub fetches_peak: u64,
    /// Most layers unpacked at once.
    pub unpacks_peak: u64,
    /// Facts the engine was fed.
    pub inputs: u64,
    /// Hash over everything the engine was told and said, in hexadecimal.
    pub trace_hash: String,
    /// The pulls.
    pub pulls: Vec<PullPrediction>,
}

/// Time spent waiting for one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was waited for.
    pub bound: Bound,
    /// For how long.
    pub seconds: f64,
}

/// What one pull comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullPrediction {
    /// Name of the image.
    pub image: String,
    /// How it ended.
    pub outcome: Outcome,
    /// From its request to its end.
    pub seconds: f64,
    /// Its layers, bottom first.
    pub layers: Vec<LayerPrediction>,
}

/// When things happened to a layer, in seconds of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerPrediction {
    /// Compressed bytes.
    pub compressed_bytes: u64,
    /// Uncompressed bytes.
    pub uncompressed_bytes: u64,
    /// From its first request to its last byte.
    pub fetch: Option<(f64, f64)>,
    /// Its last lane.
    pub unpack: Option<(f64, f64)>,
    /// From the start of its link to its end.
    pub link: Option<(f64, f64)>,
}

/// A run that came to its end.
#[derive(Debug)]
pub struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) finished: Finished,
}

/// How often something unusual happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Ranges asked for again.
    pub retries: u64,
    /// Blobs read whole because their ranges could not be used.
    pub degraded: u64,
    /// Blobs fetched once more because their bytes were wrong.
    pub new_lives: u64,
    /// Requests that met a fault of the registry.
    pub faults_met: u64,
    /// Faults of the node that happened.
    pub local_faults: u64,
}

impl Run {
    /// Runs a scenario.
    ///
    /// # Errors
    /// When the scenario cannot be run, or a promise was broken.
    ///
    /// # Panics
    /// When the engine finds an invariant broken.
    pub fn of(scenario: &Scenario) -> Result<Self, RunError> {
        Self::perform(scenario, None)
    }

    /// Runs a scenario and tells `observer` every input and output with its time.
    ///
    /// # Errors
    /// As [`Run::of`].
    ///
    /// # Panics
    /// As [`Run::of`]; what was told until then helps to see why.
    pub fn observed<'a>(scenario: &'a Scenario, observer: Observer<'a>) -> Result<Self, RunError> {
        Self::perform(scenario, Some(observer))
    }

    fn perform<'a>(
        scenario: &'a Scenario,
        observer: Option<Observer<'a>>,
    ) -> Result<Self, RunError> {
        let finished = World::new(scenario, observer)?.run()?;
        Ok(Self {
            scenario: scenario.clone(),
            finished,
        })
    }

    /// The hash over everything the engine was told and said.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.finished.trace_hash
    }

    /// Facts the engine was fed.
    #[must_use]
    pub const fn inputs(&self) -> u64 {
        self.finished.record.inputs
    }

    /// Pulls that became ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        let pulls = self.finished.record.pulls.iter();
        pulls
            .filter(|pull| {
                pull.finished
                    .is_some_and(|(_, outcome, _)| outcome == Outcome::Ready)
            })
            .count()
    }

    /// Which interesting states it was in.
    #[must_use]
    pub const fn coverage(&self) -> &Coverage {
        &self.finished.record.coverage
    }

    /// What of the unusual happened in it.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        let record = &self.finished.record;
        Seen {
            retries: record.retries,
            degraded: record.degraded,
            new_lives: record.new_lives,
            faults_met: record.faults_met,
            local_faults: record.local_faults,
        }
    }

    /// What it says to people.
    #[must_use]
    pub fn prediction(&self) -> Prediction {
        let (record, plan) = (&self.finished.record, &self.finished.plan);
        let (begin, end) = span(&self.scenario, record);
        let phases = phases(record, begin, end);
        let lower =
            LowerBound::of(&self.scenario, plan).nanos() + bound::setup_nanos(&self.scenario);
        let stats = record.pulls.iter().filter_map(|pull| pull.finished);
        Prediction {
            strategy: self.scenario.strategy,
            host: self.scenario.host.name.clone(),
            registry: self.scenario.registry.name.clone(),
            seed: self.scenario.seed,
            seconds: seconds(end - begin),
            lower_bound_seconds: seconds(lower),
            bound_by: longest(&phases),
            phases,
            compressed_bytes: plan.blobs.iter().map(|blob| blob.compressed_bytes).sum(),
            uncompressed_bytes: plan.blobs.iter().map(|blob| blob.uncompressed_bytes).sum(),
            bytes_fetched: record.kept_bytes,
            bytes_retried: stats.map(|(_, _, stats)| stats.bytes_retried).sum(),
            bytes_hedged: record.hedged_bytes,
            bytes_written: record.disk_bytes,
            requests: record.requests,
            retries: record.retries,
            hedges: record.hedges,
            window_bytes_peak: record.window_bytes_peak,
            fetches_peak: record.fetches_peak as u64,
            unpacks_peak: record.lanes_peak as u64,
            inputs: record.inputs,
            trace_hash: format!("{:016x}", self.finished.trace_hash),
            pulls: (0..record.pulls.len())
                .map(|pull| self.pull(pull))
                .collect(),
        }
    }

    fn pull(&self, pull: usize) -> PullPrediction {
        let (record, plan) = (&self.finished.record, &self.finished.plan);
        let spec = &self.scenario.pulls[pull];
        let seen = &record.pulls[pull];
        let begin = spec.at_ms * NANOS_PER_MILLI;
        let (end, outcome) = seen
            .finished
            .map_or((begin, Outcome::Cancelled), |(at, outcome, _)| {
                (at, outcome)
            });
        let both = |span: (u64, u64)| (seconds(span.0), seconds(span.1));
        let layers = plan.pulls[pull].iter().enumerate();
        PullPrediction {
            image: spec.image.name().to_owned(),
            outcome,
            seconds: seconds(end.saturating_sub(begin)),
            layers: layers
                .map(|(index, layer)| LayerPrediction {
                    compressed_bytes: plan.layer(*layer).compressed_bytes,
                    uncompressed_bytes: plan.layer(*layer).uncompressed_bytes,
                    fetch: record.blobs[plan.blob_of(*layer).0 as usize]
                        .fetch
                        .map(both),
                    unpack: record.lanes[layer.0 as usize].last().copied().map(both),
                    link: seen.links[index].zip(seen.ready[index]).map(both),
                })
                .collect(),
        }
    }
}

/// Runs a scenario and says what it comes to.
///
/// # Errors
/// When the scenario cannot be run, or a promise was broken.
///
/// # Panics
/// When the engine finds an invariant broken.
pub fn predict(scenario: &Scenario) -> Result<Prediction, RunError> {
    Ok(Run::of(scenario)?.prediction())
}

/// From the first request to the end of the last pull.
pub(crate) fn span(scenario: &Scenario, record: &Record) -> (u64, u64) {
    let begin = scenario.pulls.iter().map(|pull| pull.at_ms).min();
    let begin = begin.unwrap_or(0) * NANOS_PER_MILLI;
    let ends = record.pulls.iter().filter_map(|pull| pull.finished);
    let end = ends.map(|(at, ..)| at).max().unwrap_or(begin);
    (begin, end.max(begin))
}

fn phases(record: &Record, begin: u64, end: u64) -> Vec<Phase> {
    let mut spent: BTreeMap<Bound, u64> = BTreeMap::new();
    for ((from, to), bound) in &record.bounds {
        let (from, to) = ((*from).max(begin), (*to).min(end));
        *spent.entry(*bound).or_default() += to.saturating_sub(from);
    }
    spent
        .into_iter()
        .filter(|(_, nanos)| *nanos > 0)
        .map(|(bound, nanos)| Phase {
            bound,
            seconds: seconds(nanos),
        })
        .collect()
}

fn longest(phases: &[Phase]) -> Bound {
    phases
        .iter()
        .max_by(|left, right| left.seconds.total_cmp(&right.seconds))
        .map_or(Bound::Idle, |phase| phase.bound)
}

/// For people only; nothing is decided with it.
#[expect(
    clippy::cast_precision_loss,
    reason = "a pull is shorter than 104 days"
)]
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A number of bytes as people read it, such as `1.5 GB`; decimal, as rates are.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    for (unit, name) in UNITS {
        if count >= unit {
            let tenths = count / (unit / 10);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

const NANOS_PER_MILLI: u64 = 1_000_000;
