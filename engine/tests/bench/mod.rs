//! A perfect world for the engine: it does what it is told, at once or when a test says so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken bench should stop the test"
)]

use std::collections::{BTreeMap, VecDeque};

use parapull_engine::*;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn limits() -> RawLimits {
    RawLimits {
        fetches_max: 8,
        fetches_per_image_max: 8,
        unpacks_max: 2,
        unpacks_per_image_max: 2,
        chunk_bytes_max: 4 * MIB,
        slice_bytes: 4 * MIB,
        window_bytes_max: 64 * MIB,
        layer_window_bytes_max: 32 * MIB,
        spool_bytes_max: 1024 * MIB,
        threads_max: 2,
        threads_per_lane_max: 2,
        cores: 2,
        wide_threads_max: 0,
        wide_bytes_min: 0,
    }
}

/// The engine, its clock, and what it asked for.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) config: Config,
    pub(crate) now: Instant,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) events: Vec<Event>,
    pub(crate) wake: Option<Wake>,
    sizes: BTreeMap<BlobId, u64>,
    /// Chains by the layers they are made of.
    chains: BTreeMap<Vec<u32>, ChainId>,
    blobs: BTreeMap<BlobId, Bytes>,
    lanes: BTreeMap<OpId, (BlobId, u64)>,
    fetches: BTreeMap<OpId, Action>,
    /// Window bytes fetches were given credit for, and those that lanes have let go of.
    pub(crate) credited: u64,
    pub(crate) released: u64,
    /// Of the images that are requested from here on.
    pub(crate) weight: u32,
}

#[derive(Default)]
struct Bytes {
    /// Chunks present beyond the frontier, by start.
    ahead: BTreeMap<u64, u64>,
    frontier: u64,
}

impl Bytes {
    fn add(&mut self, range: ByteRange) {
        self.ahead.insert(range.start, range.end);
        while let Some((start, end)) = self.ahead.range(..=self.frontier).next_back() {
            let (start, end) = (*start, *end);
            self.ahead.remove(&start);
            self.frontier = self.frontier.max(end);
        }
    }
}

impl Bench {
    pub(crate) fn new(strategy: Strategy, raw: RawLimits) -> Self {
        let config = Config {
            seed: 7,
            limits: Limits::try_from(raw).unwrap(),
            scheduling: strategy.scheduling(),
            timing: Timing {
                staging_ttl_ms: 0,
                ..Timing::default()
            },
            hosts: HostRules::default(),
            hedging: HedgeRules::default(),
        };
        Self::with_config(config)
    }

    pub(crate) fn with_config(config: Config) -> Self {
        Self {
            engine: Engine::new(config, Instant::ZERO),
            config,
            now: Instant::ZERO,
            actions: VecDeque::new(),
            events: Vec::new(),
            wake: None,
            sizes: BTreeMap::new(),
            chains: BTreeMap::new(),
            blobs: BTreeMap::new(),
            lanes: BTreeMap::new(),
            fetches: BTreeMap::new(),
            credited: 0,
            released: 0,
            weight: 1,
        }
    }

    /// Requests an image of these layer sizes; blob and layer ids count from `first`.
    pub(crate) fn pull(&mut self, image: u32, first: u32, sizes: &[u64]) {
        let layers: Vec<(u32, u64)> = (first..).zip(sizes.iter().copied()).collect();
        self.pull_layers(image, &layers, |_| Have::Nothing);
    }

    /// The same, of hosts with these numbers, with so much of every layer here.
    pub(crate) fn pull_with(
        &mut self,
        image: u32,
        first: u32,
        sizes: &[u64],
        hosts: &[u32],
        have: &Have,
    ) {
        let layers: Vec<(u32, u64)> = (first..).zip(sizes.iter().copied()).collect();
        self.pull_from(image, &layers, hosts, |_| have.clone());
    }

    /// Requests an image of these layers, each given by its number and size, of which `have` is here.
    pub(crate) fn pull_layers(
        &mut self,
        image: u32,
        layers: &[(u32, u64)],
        have: impl Fn(usize) -> Have,
    ) {
        self.pull_from(image, layers, &[0], have);
    }

    fn pull_from(
        &mut self,
        image: u32,
        layers: &[(u32, u64)],
        hosts: &[u32],
        have: impl Fn(usize) -> Have,
    ) {
        let mut below = Vec::new();
        let layers = layers
            .iter()
            .enumerate()
            .map(|(index, (id, size))| {
                self.sizes.insert(BlobId(*id), *size);
                below.push(*id);
                let next = ChainId(u32::try_from(self.chains.len()).unwrap());
                PullLayer {
                    blob: BlobId(*id),
                    size: *size,
                    layer: LayerId(*id),
                    chain: *self.chains.entry(below.clone()).or_insert(next),
                    hosts: hosts.iter().copied().map(HostId).collect(),
                    have: have(index),
                }
            })
            .collect();
        self.input(Input::PullRequested(Pull {
            image: ImageId(image),
            layers,
            weight: self.weight,
        }));
    }

    /// Waits for every layer of an image.
    pub(crate) fn await_all(&mut self, image: u32, count: u32) {
        for index in 0..count {
            self.input(Input::LayerAwaited {
                image: ImageId(image),
                index,
            });
        }
    }

    /// Feeds one fact, drains every answer, and checks the state.
    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        loop {
            match self.engine.poll_output() {
                Output::Action(action) => {
                    match action {
                        Action::FetchRange { op, credit, to, .. } => {
                            self.fetches.insert(op, action);
                            self.credited += if to == Destination::Window { credit } else { 0 };
                        }
                        Action::GrantCredit { bytes, .. } => self.credited += bytes,
                        _ => {}
                    }
                    self.actions.push_back(action);
                }
                Output::Event(event) => self.events.push(event),
                Output::Idle { wake } => {
                    self.wake = wake;
                    break;
                }
            }
        }
        self.engine.check_invariants();
    }

    /// Jumps to the wake the engine asked for.
    pub(crate) fn wake(&mut self) -> Timer {
        let wake = self.wake.expect("the engine waits for time");
        self.now = wake.at;
        self.input(Input::TimerReached);
        wake.why
    }

    /// Jumps from wake to wake until one of this kind has come.
    pub(crate) fn wake_for(&mut self, why: Timer) {
        for _ in 0..1_000 {
            if self.wake() == why {
                return;
            }
        }
        panic!("no {why:?} in a thousand wakes");
    }

    /// Takes the actions asked for since the last call.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        self.actions.drain(..).collect()
    }

    /// Fails a fetch that has kept nothing.
    pub(crate) fn fail(&mut self, op: OpId, error: FetchError, retry_after_ms: Option<u64>) {
        self.fetches.remove(&op);
        self.input(Input::RangeFailed {
            op,
            error,
            received: 0,
            retry_after_ms,
        });
    }

    /// Takes the fetches asked for since the last call: op, source and mode of each.
    pub(crate) fn take_sources(&mut self) -> Vec<(OpId, SourceId, FetchMode)> {
        let source = |action| match action {
            Action::FetchRange {
                op, source, mode, ..
            } => Some((op, source, mode)),
            _ => None,
        };
        self.take().into_iter().filter_map(source).collect()
    }

    pub(crate) fn take_fetches(&mut self) -> Vec<(OpId, BlobId, ByteRange)> {
        self.take()
            .into_iter()
            .filter_map(|action| match action {
                Action::FetchRange {
                    op, blob, range, ..
                } => Some((op, blob, range)),
                _ => None,
            })
            .collect()
    }

    /// Does everything that was asked for, until nothing is asked for.
    pub(crate) fn drive(&mut self) {
        for _ in 0..100_000 {
            let Some(action) = self.actions.pop_front() else {
                return;
            };
            self.perform(action);
        }
        panic!("the engine does not come to rest");
    }

    /// Does one thing, perfectly and at once.
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::FetchRange {
                op,
                mode: FetchMode::Ranged,
                ..
            } => self.finish_fetch(op),
            Action::FetchRange {
                op,
                mode: FetchMode::Whole,
                credit,
                ..
            } => self.stream(op, credit),
            Action::GrantCredit { op, bytes } => self.stream(op, bytes),
            Action::StartLane { op, blob, .. } => {
                self.lanes.insert(op, (blob, 0));
                self.advance_lanes();
            }
            Action::ResizeLane { op, threads } => self.input(Input::LaneResized { op, threads }),
            Action::LinkLayer { op, .. } => self.input(Input::Linked { op }),
            Action::CloneLayer { op, .. } => self.input(Input::Cloned { op }),
            Action::DropStaged { op, .. } => self.input(Input::Dropped { op }),
            Action::DropBytes { op, blob, range } => {
                let bytes = self.blobs.entry(blob).or_default();
                bytes.ahead.clear();
                bytes.frontier = bytes.frontier.min(range.start);
                self.input(Input::BytesDropped { op });
            }
            Action::CancelOp { op } => {
                self.lanes.remove(&op);
                self.fetches.remove(&op);
                self.input(Input::OpCancelled { op, received: 0 });
            }
        }
    }

    /// Delivers so many bytes of a ranged fetch in all.
    pub(crate) fn bring(&mut self, op: OpId, bytes: u64) {
        if let Some(Action::FetchRange { blob, range, .. }) = self.fetches.get(&op) {
            let brought = ByteRange::new(range.start, range.start + bytes);
            self.blobs.entry(*blob).or_default().add(brought);
        }
        self.input(Input::RangeProgressed {
            op,
            bytes,
            discarded: 0,
        });
        self.advance_lanes();
    }

    /// Delivers all of a ranged fetch.
    pub(crate) fn finish_fetch(&mut self, op: OpId) {
        let Some(Action::FetchRange { blob, range, .. }) = self.fetches.remove(&op) else {
            return;
        };
        self.blobs.entry(blob).or_default().add(range);
        self.input(Input::RangeFetched { op });
        self.advance_lanes();
    }

    /// Delivers the next `credit` bytes of a whole read.
    fn stream(&mut self, op: OpId, credit: u64) {
        let Some(Action::FetchRange { blob, range, .. }) = self.fetches.get(&op).copied() else {
            return;
        };
        let bytes = self.blobs.entry(blob).or_default();
        bytes.frontier = bytes.frontier.max(range.start) + credit;
        let kept = bytes.frontier - range.start;
        if bytes.frontier == range.end {
            self.fetches.remove(&op);
            self.input(Input::RangeFetched { op });
        } else {
            self.input(Input::RangeProgressed {
                op,
                bytes: kept,
                discarded: 0,
            });
        }
        self.advance_lanes();
    }

    /// Lets every lane read what is contiguous.
    fn advance_lanes(&mut self) {
        let lanes: Vec<_> = self.lanes.iter().map(|(op, lane)| (*op, *lane)).collect();
        for (op, (blob, released)) in lanes {
            let frontier = self.blobs.get(&blob).map_or(0, |bytes| bytes.frontier);
            self.released += frontier - released;
            if frontier == self.sizes[&blob] {
                self.lanes.remove(&op);
                self.input(Input::LaneFinished {
                    op,
                    produced: frontier * 2,
                    entries: 1,
                });
            } else if frontier > released {
                self.lanes.insert(op, (blob, frontier));
                self.input(Input::LaneAdvanced {
                    op,
                    released: frontier,
                    produced: frontier * 2,
                    entries: 0,
                    waiting: Waiting::Input,
                });
            }
        }
    }

    /// Fetches asked for and not ended, and lanes at work.
    pub(crate) fn open(&self) -> (usize, usize) {
        let starts = |action: &&Action| matches!(action, Action::StartLane { .. });
        let to_start = self.actions.iter().filter(starts).count();
        (self.fetches.len(), self.lanes.len() + to_start)
    }

    /// Does the next thing that was asked for; `None` when there is nothing.
    pub(crate) fn step(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        self.perform(action);
        Some(action)
    }

    pub(crate) fn ready(&self) -> Vec<u32> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::LayerReady { place } => Some(place.index),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<(u32, Outcome)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::PullFinished { image, outcome, .. } => Some((image.0, *outcome)),
                _ => None,
            })
            .collect()
    }
}
