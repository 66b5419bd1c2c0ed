//! What an event costs, as work done and not as time: it must not grow with what is in flight or with the layers there are.

#![expect(clippy::unwrap_used, reason = "a broken bench should stop the test")]

use std::collections::VecDeque;

use parapull_engine::*;

/// One pull in a steady state, whose chunks come one after the other in turn of the layers.
struct Steady {
    engine: Engine,
    now: Instant,
    inputs: u64,
    streams: Vec<Stream>,
}

#[derive(Default)]
struct Stream {
    lane: Option<OpId>,
    released: u64,
    open: VecDeque<OpId>,
}

impl Steady {
    fn new(layers: u32, in_flight: u32) -> Self {
        let of_layer = u64::from(in_flight.div_ceil(layers)) * CHUNK_BYTES;
        let limits = Limits::try_from(RawLimits {
            fetches_max: in_flight,
            fetches_per_image_max: in_flight,
            unpacks_max: layers,
            unpacks_per_image_max: layers,
            chunk_bytes_max: CHUNK_BYTES,
            slice_bytes: CHUNK_BYTES,
            window_bytes_max: 4 * of_layer * u64::from(layers),
            layer_window_bytes_max: of_layer + 2 * CHUNK_BYTES,
            spool_bytes_max: 0,
            threads_max: layers,
            threads_per_lane_max: 1,
            cores: layers,
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
        let mut steady = Self {
            engine: Engine::new(config, Instant::ZERO),
            now: Instant::ZERO,
            inputs: 0,
            streams: (0..layers).map(|_| Stream::default()).collect(),
        };
        let layer = |id| PullLayer {
            blob: BlobId(id),
            size: of_layer + u64::from(STEPS) * CHUNK_BYTES,
            layer: LayerId(id),
            chain: ChainId(id),
            hosts: vec![HostId(0)],
            have: Have::Nothing,
        };
        steady.input(Input::PullRequested(Pull {
            image: ImageId(0),
            layers: (0..layers).map(layer).collect(),
            weight: 1,
        }));
        steady.input(Input::LayerAwaited {
            image: ImageId(0),
            index: 0,
        });
        steady
    }

    fn input(&mut self, input: Input) {
        self.inputs += 1;
        self.now = Instant(self.now.0 + 1_000);
        self.engine.handle_input(self.now, input);
        loop {
            match self.engine.poll_output() {
                Output::Action(Action::FetchRange { op, blob, .. }) => {
                    self.streams[blob.0 as usize].open.push_back(op);
                }
                Output::Action(Action::StartLane { op, blob, .. }) => {
                    self.streams[blob.0 as usize].lane = Some(op);
                }
                Output::Idle { .. } => return,
                _ => {}
            }
        }
    }

    /// A chunk from its first report until its lane has let go of it: three inputs.
    fn step(&mut self, turn: u32) {
        let turn = turn as usize % self.streams.len();
        let op = self.streams[turn].open.pop_front().unwrap();
        self.input(Input::RangeProgressed {
            op,
            bytes: CHUNK_BYTES / 2,
            discarded: 0,
        });
        self.input(Input::RangeFetched { op });
        let stream = &mut self.streams[turn];
        stream.released += CHUNK_BYTES;
        let advanced = Input::LaneAdvanced {
            op: stream.lane.unwrap(),
            released: stream.released,
            produced: 2 * stream.released,
            entries: 0,
            waiting: Waiting::Cpu,
        };
        self.input(advanced);
    }

    /// What a thousand steps cost.
    fn work(layers: u32, in_flight: u32) -> QueueWork {
        let mut steady = Self::new(layers, in_flight);
        let open: usize = steady.streams.iter().map(|stream| stream.open.len()).sum();
        assert!(open * 10 >= in_flight as usize * 9, "{open} of {in_flight}");
        let (before, inputs) = (steady.engine.queue_work(), steady.inputs);
        for turn in 0..STEPS {
            steady.step(turn);
        }
        assert_eq!(steady.inputs - inputs, 3 * u64::from(STEPS));
        let after = steady.engine.queue_work();
        QueueWork {
            ranked: after.ranked - before.ranked,
            visited: after.visited - before.visited,
        }
    }
}

#[test]
fn an_event_costs_the_same_with_a_hundred_and_with_a_hundred_thousand_chunks_in_flight() {
    let few = Steady::work(32, 100);
    for in_flight in [1_000, 10_000, 100_000] {
        let many = Steady::work(32, in_flight);
        assert!(
            many.ranked <= few.ranked + few.ranked / 10
                && many.visited <= few.visited + few.visited / 10,
            "{many:?} with {in_flight} in flight, {few:?} with 100"
        );
    }
}

#[test]
fn a_chunk_has_a_few_blobs_ranked_and_looked_at_however_many_layers_there_are() {
    for layers in [1, 8, 125] {
        let work = Steady::work(layers, 1_000);
        let steps = u64::from(STEPS);
        assert!(
            work.ranked <= 3 * steps && work.visited <= 2 * steps,
            "{work:?} in {steps} steps with {layers} layers"
        );
    }
}

const CHUNK_BYTES: u64 = 1_024;
const STEPS: u32 = 1_000;
