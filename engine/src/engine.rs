//! The engine: facts in, answers out, in the order of the contract.
//!
//! This file owns the state and the dispatch; what is decided stands beside it: [`crate::fetch`], [`crate::lanes`],
//! [`crate::links`], [`crate::ending`].

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::allowance::Allowance;
use crate::blob::{Blob, Plan};
use crate::budget::Budget;
use crate::chains::Chains;
use crate::config::Config;
use crate::hedge::Watched;
use crate::host::Host;
use crate::id::{BlobId, HostId, ImageId, OpId};
use crate::image::{Image, Link, LinkState};
use crate::input::{Have, Input, Pull, PullLayer};
use crate::layer::{Layer, LayerState, TreeId};
use crate::limits::Limits;
use crate::op::{Op, OpKind};
use crate::ops::Ops;
use crate::output::{Action, Destination, Event, Outcome, Output, Place, PullStats};
use crate::queue::FetchQueue;
use crate::race::Races;
use crate::share::Share;
use crate::shutdown::Shutdown;
use crate::table::Table;
use crate::time::Instant;
use crate::timers::{Deadline, Timers};
use crate::trace::TraceHash;

/// The scheduler. It says what to do and is told what happened.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) now: Instant,
    pub(crate) images: BTreeMap<ImageId, Image>,
    pub(crate) blobs: Table<BlobId, Blob>,
    pub(crate) layers: Table<TreeId, Layer>,
    pub(crate) queue: FetchQueue,
    /// Bytes asked for, and time of lanes in nanoseconds, between images.
    pub(crate) bytes: Share,
    pub(crate) lane_time: Share,
    /// The image that pays for what is fetched next.
    pub(crate) turn: Option<ImageId>,
    /// Since the last look something happened by which a lane, link or thread may start or change.
    pub(crate) work_may_start: bool,
    /// This input may have freed permits, or changed what hosts allow.
    pub(crate) stirred: bool,
    /// Layers whose blob is being read for another layer.
    pub(crate) unfed: BTreeSet<TreeId>,
    pub(crate) chains: Chains,
    pub(crate) ops: Ops,
    pub(crate) budgets: Budgets,
    /// What was learned of hosts; it outlives every image.
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) watched: Watched,
    pub(crate) races: Races,
    pub(crate) timers: Timers,
    pub(crate) completions: u64,
    pub(crate) stale: u64,
    outputs: VecDeque<Output>,
    pub(crate) pending_limits: Option<Limits>,
    /// Limits have changed: some blobs may be cut into larger pieces than they allow.
    pub(crate) pieces_shrank: bool,
    drained: bool,
    pub(crate) shutdown: Shutdown,
    trace: TraceHash,
}

/// What all images share.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub(crate) fetches: Budget,
    pub(crate) unpacks: Budget,
    pub(crate) threads: Budget,
    pub(crate) window: Budget,
    pub(crate) spool: Budget,
    /// Window bytes held by blobs whose layer has no lane.
    pub(crate) laneless: u64,
}

impl Engine {
    /// An engine without work; `now` is the first instant it knows.
    pub fn new(config: Config, now: Instant) -> Self {
        let raw = config.limits.raw();
        Self {
            budgets: Budgets {
                fetches: Budget::new(raw.fetches_max.into()),
                unpacks: Budget::new(raw.unpacks_max.into()),
                threads: Budget::new(raw.threads_max.into()),
                window: Budget::new(raw.window_bytes_max),
                spool: Budget::new(raw.spool_bytes_max),
                laneless: 0,
            },
            config,
            now,
            images: BTreeMap::new(),
            blobs: Table::new(),
            layers: Table::new(),
            queue: FetchQueue::default(),
            bytes: Share::new(config.limits.piece_bytes_max()),
            lane_time: Share::new(LANE_TIME_QUANTUM_NANOS),
            turn: None,
            work_may_start: false,
            stirred: false,
            unfed: BTreeSet::new(),
            chains: Chains::default(),
            ops: Ops::default(),
            hosts: BTreeMap::new(),
            watched: Watched::default(),
            races: Races::new(Allowance::new(&config.hedging)),
            timers: Timers::default(),
            completions: 0,
            stale: 0,
            outputs: VecDeque::new(),
            pending_limits: None,
            pieces_shrank: false,
            drained: true,
            shutdown: Shutdown::No,
            trace: TraceHash::new(),
        }
    }

    /// Takes a fact. Errors become outputs; a fact about a closed op is ignored and counted.
    ///
    /// # Panics
    /// When the answers to the last input were not drained, time runs backwards, or an op is named that never was:
    /// programmer's errors all.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        assert!(
            self.drained,
            "the law: drain every output before the next input"
        );
        assert!(
            now >= self.now,
            "invariant 13 (time): {now:?} lies before {:?}",
            self.now
        );
        self.drained = false;
        self.now = now;
        self.trace.input(now, &input);
        self.stirred = !matches!(
            input,
            Input::RangeProgressed { .. } | Input::LaneAdvanced { .. }
        );
        self.work_may_start |= self.stirred && !matches!(input, Input::RangeFetched { .. });
        self.fire_timers();
        self.dispatch(input);
        self.admit();
    }

    /// The next answer; `Output::Idle` when there is none.
    #[must_use]
    pub fn poll_output(&mut self) -> Output {
        let output = self.outputs.pop_front().unwrap_or_else(|| {
            self.drained = true;
            Output::Idle {
                wake: self.timers.next().filter(|_| !mutant!(LostWake)),
            }
        });
        self.trace.output(&output);
        output
    }

    /// The hash over every input and output so far.
    pub const fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    /// The id the next action will carry; what a recorded trace starts with.
    pub fn next_op(&self) -> OpId {
        self.ops.next_id()
    }

    /// Whether no image, op or staged layer is left.
    pub fn is_idle(&self) -> bool {
        self.images.is_empty() && self.ops.is_empty() && self.layers.is_empty()
    }

    fn dispatch(&mut self, input: Input) {
        match input {
            Input::PullRequested(pull) => self.request(pull),
            Input::LayerAwaited { image, index } => self.await_layer(Place { image, index }),
            Input::LayerLeft { image, index } => self.leave_layer(Place { image, index }),
            Input::PullCancelled { image } => self.end_image(image, Outcome::Cancelled),
            Input::LimitsChanged(limits) => self.pending_limits = Some(limits),
            Input::TimerReached => {}
            Input::ShutdownRequested => self.shut_down(),
            Input::RangeProgressed {
                op,
                bytes,
                discarded,
            } => self.on_progress(op, bytes, discarded),
            Input::RangeFetched { op } => self.on_fetched(op),
            Input::RangeFailed {
                op,
                error,
                received,
                retry_after_ms,
            } => self.on_fetch_failed(op, error, received, retry_after_ms),
            Input::RangesRefused { op } => self.on_refused(op),
            Input::LaneAdvanced {
                op,
                released,
                produced,
                entries,
                waiting,
            } => self.on_lane_advanced(op, released, produced, entries, waiting),
            Input::LaneResized { op, threads } => self.on_lane_resized(op, threads),
            Input::LaneFinished {
                op,
                produced,
                entries,
            } => self.on_lane_finished(op, produced, entries),
            Input::LaneFailed { op, error } => self.on_lane_failed(op, error),
            Input::Linked { op } => self.on_linked(op),
            Input::Cloned { op } => self.on_cloned(op),
            Input::LinkFailed { op, error } => self.on_link_failed(op, error),
            Input::Dropped { op } => self.on_dropped(op),
            Input::BytesDropped { op } => self.on_bytes_dropped(op),
            Input::OpCancelled { op, received } => self.on_cancelled(op, received),
        }
    }

    fn fire_timers(&mut self) {
        while let Some(deadline) = self.timers.take_due(self.now) {
            (self.stirred, self.work_may_start) = (true, true);
            match deadline {
                Deadline::Retry { blob, chunk, told } => self.on_backoff_over(blob, chunk, told),
                Deadline::Stall(op) => self.on_stall_check(op),
                Deadline::Silence(op) => self.on_silence(op),
                Deadline::Hedge(op) => self.on_hedge_due(op),
                Deadline::Progress(image) => self.on_progress_check(image),
                Deadline::Shutdown => self.on_shutdown_due(),
                Deadline::Host(host) => self.on_host_ready(host),
                Deadline::Grace(image) => self.end_image(image, Outcome::Cancelled),
                Deadline::Staging(layer) => self.on_staging_expired(layer),
            }
        }
    }

    /// Starts whatever may start: the only place where work begins.
    fn admit(&mut self) {
        self.adopt_limits();
        self.admit_links();
        self.admit_lanes();
        self.admit_urgent_hedges();
        self.admit_fetches();
        self.yield_starved();
        self.admit_hedges();
        self.admit_threads();
        self.watch_hosts();
        self.watch_shutdown();
        self.work_may_start = false;
    }

    fn request(&mut self, pull: Pull) {
        let image = pull.image;
        assert!(
            !self.images.contains_key(&image),
            "{image:?} was requested twice"
        );
        let raw = *self.config.limits.raw();
        let links = pull
            .layers
            .iter()
            .map(|layer| Link {
                tree: TreeId::shared(layer.layer),
                chain: layer.chain,
                state: match layer.have {
                    Have::Linked => LinkState::Done,
                    _ => LinkState::Pending,
                },
                needs_parents: false,
                callers: 0,
            })
            .collect();
        let entry = Image {
            links,
            fetches: Budget::new(raw.fetches_per_image_max.into()),
            unpacks: Budget::new(raw.unpacks_per_image_max.into()),
            stats: PullStats::default(),
            callers: 0,
            heard_at: self.now,
            progress_at: None,
            grace: None,
            releasing: BTreeSet::new(),
            ending: None,
        };
        self.images.insert(image, entry);
        self.bytes.enter(image, pull.weight);
        self.lane_time.enter(image, pull.weight);
        for (layer, index) in pull.layers.iter().zip(0..) {
            self.chains.enter(layer.chain, Place { image, index });
            if matches!(layer.have, Have::Linked | Have::InPlace) {
                self.chains.set_linked(layer.chain, true);
            }
        }
        if self.is_shutting_down() {
            self.end_image(image, Outcome::Cancelled);
            return;
        }
        for (layer, index) in pull.layers.iter().zip(0..) {
            // A layer that cannot be had at all ends the image before the rest is wanted.
            if self.images.get(&image).is_some_and(Image::is_live) {
                self.want(layer, Place { image, index });
            } else if layer.have == Have::Staged {
                self.adopt_staged(layer);
            }
        }
        self.start_grace(image);
        self.watch_progress(image);
        self.finish_if_linked(image);
    }

    /// Makes a layer wanted in a place, starting it unless something of it is here.
    fn want(&mut self, wanted: &PullLayer, place: Place) {
        if wanted.have == Have::Linked {
            return;
        }
        let state = match wanted.have {
            Have::Staged => LayerState::Staged,
            Have::Elsewhere => LayerState::Consumed,
            Have::Nothing | Have::LocalBlob | Have::Ranges(_) | Have::InPlace
                if self.chains.is_linked(wanted.chain) =>
            {
                LayerState::Absent
            }
            Have::Nothing | Have::LocalBlob | Have::Ranges(_) | Have::InPlace | Have::Linked => {
                LayerState::Waiting
            }
        };
        let id = TreeId::shared(wanted.layer);
        let layer = self
            .layers
            .get_or_insert_with(id, || Layer::new(wanted, state));
        layer.wanted.insert(place);
        if layer.state == LayerState::Absent {
            layer.state = state;
        }
        if let Some(at) = layer.expires.take() {
            self.timers.stop(at, Deadline::Staging(wanted.layer));
        }
        let is_fed = self.is_fed(id);
        let Some(layer) = self.layers.get_mut(&id) else {
            return;
        };
        if !is_fed {
            layer.place(wanted);
        }
        if layer.state == LayerState::Waiting && !is_fed {
            self.unfed.insert(id);
            self.feed(id);
        }
    }

    /// Keeps a staged tree whose image has ended already, as if the image had let go of it.
    fn adopt_staged(&mut self, staged: &PullLayer) {
        let id = TreeId::shared(staged.layer);
        self.layers
            .get_or_insert_with(id, || Layer::new(staged, LayerState::Staged));
        self.release_layer(id);
    }

    /// Whether a blob is being read for this very layer.
    pub(crate) fn is_fed(&self, layer: TreeId) -> bool {
        let blob = self.layers[&layer].blob;
        self.blobs
            .get(&blob)
            .is_some_and(|blob| blob.layer == layer && !blob.ending)
    }

    /// Opens the blob of a layer that has none; it stays unfed while the blob is read for another layer.
    pub(crate) fn feed(&mut self, layer_id: TreeId) {
        // Feeding one layer may fail an image, and with it others that were to be fed.
        let Some(layer) = self.layers.get(&layer_id) else {
            return;
        };
        if self.blobs.contains_key(&layer.blob) {
            self.hand_over(layer.blob, layer_id);
            return;
        }
        let destination = self.config.scheduling.destination;
        let whole = layer.local.is_empty() && self.is_whole_only(&layer.hosts);
        let mut blob = Blob::new(
            layer_id,
            layer.size,
            layer.hosts.clone(),
            destination,
            self.plan(whole),
        );
        blob.local.clone_from(&layer.local);
        self.blobs.insert(layer.blob, blob);
        self.work_may_start = true;
        self.unfed.remove(&layer_id);
        let (id, size) = (layer.blob, layer.size);
        if size == 0 {
            self.complete(id);
        }
        if destination == Destination::Spool && size > self.budgets.spool.max() {
            self.fail_layer(layer_id, crate::error::LayerError::SpoolTooSmall);
        }
    }

    /// How blobs are cut; `whole` forces a single stream.
    pub(crate) fn plan(&self, whole: bool) -> Plan {
        let raw = self.config.limits.raw();
        let whole = whole || raw.chunk_bytes_max == 0;
        Plan {
            piece_bytes_max: if whole {
                raw.slice_bytes
            } else {
                raw.chunk_bytes_max
            },
            whole,
        }
    }

    /// Marks a blob complete, in order of completion.
    pub(crate) fn complete(&mut self, blob: BlobId) {
        let order = self.completions;
        let Some(blob) = self.blobs.get_mut(&blob) else {
            return;
        };
        if blob.completed.is_none() {
            blob.completed = Some(order);
            self.work_may_start = true;
            self.completions += 1;
        }
    }

    /// Opens an op.
    pub(crate) fn open(&mut self, kind: OpKind) -> OpId {
        self.ops.open(Op {
            kind,
            cancelling: false,
        })
    }

    /// Closes an op; `None` when it is closed already.
    pub(crate) fn close(&mut self, id: OpId) -> Option<Op> {
        assert!(
            id < self.next_op(),
            "invariant 5 (ops): {id:?} was never issued"
        );
        let op = self.ops.close(id);
        if op.is_none() {
            if mutant!(StaleAccepted) {
                return self.ops.first_id().and_then(|first| self.ops.close(first));
            }
            self.stale += 1;
        }
        op
    }

    /// Asks for an op to end early, once.
    pub(crate) fn cancel(&mut self, id: OpId) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        if !op.cancelling || mutant!(CancelledTwice) {
            op.cancelling = true;
            self.act(Action::CancelOp { op: id });
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.outputs.push_back(Output::Action(action));
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// A tenth of a second: lanes run for seconds, so this only decides between images that were served alike.
const LANE_TIME_QUANTUM_NANOS: u64 = 100_000_000;
