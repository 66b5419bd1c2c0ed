//! What an event costs, against the chunks in flight: `cargo bench -p parapull-engine`.
//!
//! A steady state: as many chunks in flight as the limits allow, each reported half way, then whole, then let go of by
//! its lane, upon which the engine asks for the next one. With `count` as an argument it only runs a million events of
//! it with as many chunks in flight as the next argument says, for a profiler to count instructions.

#![expect(clippy::unwrap_used, reason = "a broken bench should stop")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench reads the clock; the engine does not"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use criterion::{BenchmarkId, Criterion, Throughput};
use parapull_engine::*;

/// An engine in a steady state and the world that keeps it there.
struct Steady {
    engine: Engine,
    now: Instant,
    blobs: Vec<Stream>,
    turn: usize,
    events: u64,
}

/// A blob being read, and its lane.
struct Stream {
    lane: Option<OpId>,
    released: u64,
    open: VecDeque<(OpId, u64)>,
}

impl Steady {
    fn new(in_flight: u32) -> Self {
        let per_layer = u64::from(in_flight.div_ceil(LAYERS)) * CHUNK_BYTES;
        let limits = Limits::try_from(RawLimits {
            fetches_max: in_flight,
            fetches_per_image_max: in_flight,
            unpacks_max: LAYERS,
            unpacks_per_image_max: LAYERS,
            chunk_bytes_max: CHUNK_BYTES,
            slice_bytes: CHUNK_BYTES,
            window_bytes_max: 4 * per_layer * u64::from(LAYERS),
            layer_window_bytes_max: per_layer + 2 * CHUNK_BYTES,
            spool_bytes_max: 0,
            threads_max: LAYERS,
            threads_per_lane_max: 1,
            cores: LAYERS,
            wide_threads_max: 0,
            wide_bytes_min: 0,
        });
        let config = Config {
            seed: 1,
            limits: limits.unwrap(),
            scheduling: Strategy::Streamed.scheduling(),
            timing: Timing::default(),
            hosts: HostRules {
                connections_max: u32::MAX,
                ..HostRules::default()
            },
            hedging: HedgeRules::default(),
        };
        let layers = (0..LAYERS).map(|id| PullLayer {
            blob: BlobId(id),
            size: per_layer + CHUNKS_AHEAD * CHUNK_BYTES,
            layer: LayerId(id),
            chain: ChainId(id),
            hosts: vec![HostId(0)],
            have: Have::Nothing,
        });
        let stream = || Stream {
            lane: None,
            released: 0,
            open: VecDeque::new(),
        };
        let mut steady = Self {
            engine: Engine::new(config, Instant::ZERO),
            now: Instant::ZERO,
            blobs: (0..LAYERS).map(|_| stream()).collect(),
            turn: 0,
            events: 0,
        };
        steady.feed(Input::PullRequested(Pull {
            image: ImageId(0),
            layers: layers.collect(),
            weight: 1,
        }));
        steady.feed(Input::LayerAwaited {
            image: ImageId(0),
            index: 0,
        });
        steady
    }

    fn in_flight(&self) -> usize {
        self.blobs.iter().map(|blob| blob.open.len()).sum()
    }

    fn feed(&mut self, input: Input) {
        self.events += 1;
        self.now = Instant(self.now.0 + 1_000);
        self.engine.handle_input(self.now, input);
        loop {
            match self.engine.poll_output() {
                Output::Action(Action::FetchRange {
                    op, blob, range, ..
                }) => {
                    let stream = &mut self.blobs[blob.0 as usize];
                    stream.open.push_back((op, range.end - range.start));
                }
                Output::Action(Action::StartLane { op, blob, .. }) => {
                    self.blobs[blob.0 as usize].lane = Some(op);
                }
                Output::Idle { .. } => return,
                other => {
                    black_box(other);
                }
            }
        }
    }

    /// One chunk from its first report until its lane has let go of it: three events.
    fn step(&mut self) {
        let turn = self.turn;
        self.turn = (turn + 1) % self.blobs.len();
        let Some((op, bytes)) = self.blobs[turn].open.pop_front() else {
            return;
        };
        self.feed(Input::RangeProgressed {
            op,
            bytes: bytes / 2,
            discarded: 0,
        });
        self.feed(Input::RangeFetched { op });
        let stream = &mut self.blobs[turn];
        stream.released += bytes;
        let (lane, released) = (stream.lane.unwrap(), stream.released);
        self.feed(Input::LaneAdvanced {
            op: lane,
            released,
            produced: 2 * released,
            entries: 0,
            waiting: Waiting::Cpu,
        });
    }

    /// Whether enough is left to be in a steady state.
    fn lasts(&self, steps: u64) -> bool {
        self.events + 3 * steps < 3 * CHUNKS_AHEAD * u64::from(LAYERS)
    }
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(3));
    for in_flight in [100, 1_000, 10_000, 100_000] {
        let id = BenchmarkId::new("in-flight", in_flight);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|steps| {
                let mut spent = Duration::ZERO;
                let mut left = steps;
                while left > 0 {
                    let mut steady = Steady::new(in_flight);
                    assert!(steady.in_flight() * 10 >= in_flight as usize * 9);
                    let now = left.min(CHUNKS_AHEAD * u64::from(LAYERS) / 2);
                    assert!(steady.lasts(now));
                    let began = Clock::now();
                    for _ in 0..now {
                        steady.step();
                    }
                    spent += began.elapsed();
                    left -= now;
                }
                spent
            });
        });
    }
    group.finish();
}

/// Runs a third of a million steps and says how many events that were, for a profiler.
fn count(in_flight: u32) {
    let mut steady = Steady::new(in_flight);
    let steps = CHUNKS_AHEAD * u64::from(LAYERS) / 2;
    for _ in 0..steps {
        steady.step();
    }
    println!("{} events, {} in flight", steady.events, steady.in_flight());
}

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "count");
    if arguments.next().is_some() {
        count(
            arguments
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(1_000),
        );
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    events(&mut criterion);
    criterion.final_summary();
}

const LAYERS: u32 = 32;
const CHUNK_BYTES: u64 = 1_024;
/// Chunks of each layer beyond those in flight.
const CHUNKS_AHEAD: u64 = 20_000;
