//! The world around the engine: what would happen outside, in virtual time.
//!
//! The loop takes the earliest event, turns it into facts, feeds each to the engine, drains the answers and starts what
//! they ask for. It decides nothing: who is fetched next, retried or unpacked is the engine's business. What an op does
//! stands beside it: `fetches`, `lanes`, `trees`, `callers`.

mod bottleneck;
mod callers;
mod canary;
mod clogs;
pub(crate) mod coverage;
mod crash;
mod delivery;
mod fetches;
mod held;
pub(crate) mod lanes;
mod pauses;
mod promises;
mod trees;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use parapull_engine::{
    Action, BlobId, ChainId, Engine, Event, Input, Instant, LayerId, OpId, Outcome, Output,
};
use parapull_scenario::Scenario;

use crate::bound;
use crate::coverage::Point;
use crate::events::{Coming, Events};
use crate::plan::{Plan, ScenarioError};
use crate::record::Record;
use crate::registry::Registry;
use crate::resource::{Disk, Pool};

use callers::Caller;
use fetches::Fetch;
use held::Held;
use lanes::Lane;
use promises::Promises;
use trees::{Trees, Work};

/// Why a run did not come to a good end.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RunError {
    /// The scenario cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Something that must hold did not.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// A promise that was broken in a run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Violation {
    /// Something that must happen did not, or something happens for ever.
    #[error("liveness: {0}")]
    Liveness(String),
    /// Something happened that must not.
    #[error("correctness: {0}")]
    Correctness(String),
}

/// The world.
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    plan: Plan,
    engine: Engine,
    now: u64,
    wake: Option<u64>,
    events: Events,
    /// Facts that wait until the engine is drained.
    inbox: VecDeque<Input>,
    link: Pool,
    cores: Pool,
    disk: Disk,
    registry: Registry,
    held: BTreeMap<BlobId, Held>,
    window_bytes: u64,
    fetches: BTreeMap<OpId, Fetch>,
    lanes: BTreeMap<OpId, Lane>,
    works: BTreeMap<OpId, Work>,
    trees: BTreeMap<LayerId, Trees>,
    /// Chains that some place has linked; false for those whose tree was taken away since.
    chains_linked: BTreeMap<ChainId, bool>,
    callers: Vec<Caller>,
    local_faults: Vec<u32>,
    /// How often each pause has happened.
    pauses: Vec<u32>,
    /// Facts that come late, by number.
    late: BTreeMap<u64, Input>,
    /// How far the node's clock has gone while it slept.
    slept: u64,
    promises: Promises,
    /// The traces of the daemon's earlier lives.
    lives: u64,
    record: Record,
    /// Inputs at this very instant.
    at_once: u64,
    inputs_max: u64,
    observer: Option<Observer<'a>>,
}

/// Is told every input and output, with the time in nanoseconds.
pub type Observer<'a> = &'a mut dyn FnMut(u64, &dyn fmt::Debug);

/// What a world leaves behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    pub(crate) trace_hash: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        scenario: &'a Scenario,
        observer: Option<Observer<'a>>,
    ) -> Result<Self, ScenarioError> {
        let plan = Plan::new(scenario)?;
        let host = &scenario.host;
        let link_rate = scenario
            .registry
            .total_bytes_per_second
            .map_or(host.link_bytes_per_second, |total| {
                total.get().min(host.link_bytes_per_second)
            });
        let mut world = Self {
            scenario,
            engine: Engine::new(plan.config, Instant::ZERO),
            now: 0,
            wake: None,
            events: Events::default(),
            inbox: VecDeque::new(),
            link: Pool::new(link_rate),
            cores: Pool::new(u64::from(host.cores) * NANOS_PER_SECOND),
            disk: Disk::new(host.disk_bytes_per_second, host.disk_dirty_credit_bytes),
            registry: Registry::new(scenario),
            held: BTreeMap::new(),
            window_bytes: 0,
            fetches: BTreeMap::new(),
            lanes: BTreeMap::new(),
            works: BTreeMap::new(),
            trees: BTreeMap::new(),
            chains_linked: BTreeMap::new(),
            callers: Vec::new(),
            local_faults: vec![0; scenario.local_faults.len()],
            pauses: vec![0; scenario.mishaps.pauses.len()],
            late: BTreeMap::new(),
            slept: 0,
            promises: Promises::default(),
            lives: 0,
            record: Record::new(&plan),
            at_once: 0,
            inputs_max: (INPUTS_SPARE + INPUTS_PER_PORTION_MAX * plan.portions())
                * (1 + scenario.mishaps.crashes.len() as u64),
            observer,
            plan,
        };
        world.schedule_scenario();
        world.stage_from_before();
        Ok(world)
    }

    /// Runs to the end of everything, the staging TTL included.
    pub(crate) fn run(mut self) -> Result<Finished, Violation> {
        while let Some(at) = self.next_at() {
            self.step_to(at)?;
            self.happen()?;
            self.feed_all()?;
            if self.record.inputs > self.inputs_max {
                return Err(Violation::Liveness(format!(
                    "runaway: more than {} inputs, and no end",
                    self.inputs_max
                )));
            }
        }
        self.check_nothing_left()?;
        self.record.requests = self.registry.requests;
        self.record.faults_met = self.registry.faults_met;
        self.record.coverage.add(&self.registry.coverage);
        self.record.link_bytes = self.link.used();
        self.record.disk_bytes = self.disk.written();
        Ok(Finished {
            trace_hash: self.lives.rotate_left(1) ^ self.engine.trace_hash(),
            plan: self.plan,
            record: self.record,
        })
    }

    fn next_at(&mut self) -> Option<u64> {
        [
            self.events.next(),
            self.link.next(),
            self.cores.next(),
            self.wake,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn step_to(&mut self, at: u64) -> Result<(), Violation> {
        if at > self.now {
            let bound = self.bound();
            self.record.spend(self.now, at, bound);
            self.at_once = 0;
            self.now = at;
            return Ok(());
        }
        self.at_once += 1;
        if self.at_once > EVENTS_AT_ONCE_MAX {
            return Err(Violation::Liveness(format!(
                "livelock: {EVENTS_AT_ONCE_MAX} events at {at} ns, and no end"
            )));
        }
        Ok(())
    }

    /// Lets everything happen that is due.
    fn happen(&mut self) -> Result<(), Violation> {
        if let Some(op) = self.link.finished(self.now) {
            self.on_received(op)?;
        } else if let Some(op) = self.cores.finished(self.now) {
            self.on_computed(op);
        } else if let Some(coming) = self.events.pop_due(self.now) {
            self.on_coming(coming)?;
        } else if self.wake.is_some_and(|wake| wake <= self.now) {
            self.inbox.push_back(Input::TimerReached);
        }
        Ok(())
    }

    fn on_coming(&mut self, coming: Coming) -> Result<(), Violation> {
        match coming {
            Coming::Request { pull } => self.on_request(pull),
            Coming::Call { pull, index } => self.on_call(pull, index),
            Coming::Cancel { pull } => self.on_cancel(pull),
            Coming::Limits { change } => {
                let limits = self.plan.limit_changes[change];
                self.record.allow(&limits);
                self.inbox.push_back(Input::LimitsChanged(limits));
            }
            Coming::Closed { op } => self.close_connection(op),
            Coming::ClogBegins { clog } => return self.on_clog(clog),
            Coming::LaneResumes { op } => self.on_lane_resumes(op),
            Coming::Leave { absence } => self.on_leave(absence),
            Coming::Return { absence } => self.on_return(absence),
            Coming::Sleep { sleep } => self.on_sleep(sleep),
            Coming::Told { slot } => return self.on_told(slot),
            Coming::Shutdown => self.inbox.push_back(Input::ShutdownRequested),
            Coming::FirstByte { op } => {
                self.canary_at_first_byte(op);
                return self.on_first_byte(op);
            }
            Coming::LocalRead { op } => return self.on_received(op),
            Coming::Stored { op } => return self.on_stored(op),
            Coming::StallOver { op } => return self.on_stall_over(op),
            Coming::CancelDue { op } => return self.on_cancel_due(op),
            Coming::Written { op } => return self.on_written(op),
            Coming::LaneReport { op } => self.on_lane_report(op),
            Coming::Done { op } => return self.on_done(op),
        }
        Ok(())
    }

    fn feed_all(&mut self) -> Result<(), Violation> {
        while let Some(input) = self.inbox.pop_front() {
            if let Some(input) = self.unless_late(input) {
                self.feed(input)?;
            }
        }
        Ok(())
    }

    fn feed(&mut self, input: Input) -> Result<(), Violation> {
        self.record.inputs += 1;
        self.at_once += 1;
        if self.at_once > EVENTS_AT_ONCE_MAX {
            return Err(Violation::Liveness(format!(
                "livelock: {EVENTS_AT_ONCE_MAX} inputs at {} ns, and no end: {input:?}",
                self.now
            )));
        }
        if let Some(observer) = &mut self.observer {
            observer(self.now + self.slept, &input);
        }
        self.hear(&input)?;
        self.cover_input(&input);
        self.tell_again(&input);
        self.engine.handle_input(self.clock(), input);
        self.drain()?;
        self.engine.check_invariants();
        self.cover_holds();
        self.crash_if_due();
        Ok(())
    }

    /// Takes every answer; what completes at once waits in the inbox until the engine is drained.
    fn drain(&mut self) -> Result<(), Violation> {
        loop {
            let output = self.engine.poll_output();
            if let Some(observer) = &mut self.observer {
                observer(self.now + self.slept, &output);
            }
            match output {
                Output::Action(action) => self.act(action)?,
                Output::Event(event) => self.on_event(event)?,
                Output::Idle { wake } => {
                    self.cover_wake(wake);
                    self.wake = wake.map(|wake| wake.at.0.saturating_sub(self.slept));
                    if self.wake.is_some_and(|wake| wake <= self.now) {
                        return Err(Violation::Liveness(format!(
                            "invariant 9 (wake): asked to be woken at {:?} at {} ns",
                            self.wake, self.now
                        )));
                    }
                    return Ok(());
                }
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        self.check_promises(&action)?;
        self.cover_action(&action);
        match action {
            Action::FetchRange { .. } => self.start_fetch(&action),
            Action::GrantCredit { op, bytes } => self.grant(op, bytes),
            Action::StartLane {
                op, layer, over, ..
            } => self.start_lane(op, layer, over),
            Action::ResizeLane { op, threads } => {
                self.resize_lane(op, threads);
                Ok(())
            }
            Action::LinkLayer {
                op,
                place,
                layer,
                tree,
            } => self.start_link(op, place, layer, tree),
            Action::CloneLayer { op, place, layer } => self.start_clone(op, place, layer),
            Action::DropStaged { op, layer, tree } => self.start_drop(op, layer, tree),
            Action::DropBytes { op, blob, range } => self.start_drop_bytes(op, blob, range),
            Action::CancelOp { op } => {
                self.events
                    .push(self.now + CANCEL_NANOS, Coming::CancelDue { op });
                Ok(())
            }
        }
    }

    /// Links, clones and drops are short and end as they would.
    fn on_cancel_due(&mut self, op: OpId) -> Result<(), Violation> {
        if self.fetches.contains_key(&op) {
            self.cancel_fetch(op)?;
        } else if self.lanes.contains_key(&op) {
            self.cancel_lane(op);
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<(), Violation> {
        self.cover_event(&event);
        match event {
            Event::LayerReady { place } => self.on_ready(place)?,
            Event::LayerFailed { place, error } => self.on_layer_failed(place, error)?,
            Event::PullFinished {
                image,
                outcome,
                stats,
            } => {
                self.record.finish(self.now, image, outcome, stats)?;
                self.forget_chains(image);
                if outcome == Outcome::Ready && self.linked(image) < self.layer_count(image) {
                    return Err(Violation::Correctness(format!(
                        "{image:?} is ready, but not all of its layers are linked"
                    )));
                }
            }
            Event::Degraded { .. } => self.record.degraded += 1,
            Event::Retrying { .. } => {
                self.record.retries += 1;
            }
            Event::NewLife { .. } => self.record.new_lives += 1,
            Event::LayerKept { layer } => self.keep_tree(layer)?,
        }
        Ok(())
    }

    fn schedule_scenario(&mut self) {
        for (pull, spec) in self.scenario.pulls.iter().enumerate() {
            let at = spec.at_ms * NANOS_PER_MILLI + bound::setup_nanos(self.scenario);
            self.events.push(at, Coming::Request { pull });
            if let Some(cancel) = spec.cancel {
                let at = at.max(cancel.at_ms * NANOS_PER_MILLI);
                self.events.push(at, Coming::Cancel { pull });
            }
            self.callers.push(Caller::default());
        }
        for (index, change) in self.scenario.limit_changes.iter().enumerate() {
            let at = change.at_ms * NANOS_PER_MILLI;
            self.events.push(at, Coming::Limits { change: index });
        }
        if let Some(ms) = self.scenario.shutdown_ms {
            self.events.push(ms * NANOS_PER_MILLI, Coming::Shutdown);
        }
        self.schedule_mishaps();
    }

    fn schedule_mishaps(&mut self) {
        let mishaps = &self.scenario.mishaps;
        for (clog, spec) in mishaps.clogs.iter().enumerate() {
            let at = spec.at_ms * NANOS_PER_MILLI;
            self.events.push(at, Coming::ClogBegins { clog });
        }
        for (absence, spec) in mishaps.absences.iter().enumerate() {
            let at = spec.at_ms * NANOS_PER_MILLI;
            let back = at + spec.for_ms * NANOS_PER_MILLI;
            self.events.push(at, Coming::Leave { absence });
            self.events.push(back, Coming::Return { absence });
        }
        for (sleep, spec) in mishaps.sleeps.iter().enumerate() {
            let at = spec.at_ms * NANOS_PER_MILLI;
            self.events.push(at, Coming::Sleep { sleep });
        }
    }

    /// The node's clock, which goes on while it sleeps.
    fn clock(&self) -> Instant {
        Instant(self.now + self.slept)
    }

    fn on_sleep(&mut self, sleep: usize) {
        self.record.coverage.sometimes(Point::Slept);
        self.slept += self.scenario.mishaps.sleeps[sleep].for_ms * NANOS_PER_MILLI;
        self.inbox.push_back(Input::TimerReached);
    }

    fn check_nothing_left(&self) -> Result<(), Violation> {
        if !self.engine.is_idle() {
            return Err(Violation::Liveness(format!(
                "nothing is to come, but the engine is not idle: {:?}",
                self.engine.snapshot()
            )));
        }
        let ops = self.fetches.len() + self.lanes.len() + self.works.len();
        let bytes: u64 = self.held.values().map(Held::bytes).sum();
        let trees = self.trees.values().filter(|trees| trees.is_left()).count();
        if ops > 0 || bytes > 0 || trees > 0 {
            return Err(Violation::Correctness(format!(
                "left at the end: {ops} ops, {bytes} bytes, {trees} staged trees"
            )));
        }
        Ok(())
    }
}

/// How long it takes until a cancelled op notices.
const CANCEL_NANOS: u64 = NANOS_PER_MILLI;
/// A pull takes a few inputs for each portion; retries and reports add to it.
const INPUTS_PER_PORTION_MAX: u64 = 100;
const INPUTS_SPARE: u64 = 50_000;
const EVENTS_AT_ONCE_MAX: u64 = 20_000;
const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
