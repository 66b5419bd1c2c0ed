//! What the simulator's swarm found, each as the shortest story that shows it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use parapull_engine::{
    Action, BlobId, ChainId, Config, Engine, FetchError, FetchMode, Have, HedgeRules, HostId,
    HostRules, ImageId, Input, Instant, LayerId, Limits, OpId, Output, Pull, PullLayer, RawLimits,
    SourceId, Strategy, Timing,
};

const LIMITS: RawLimits = RawLimits {
    fetches_max: 4,
    fetches_per_image_max: 4,
    unpacks_max: 2,
    unpacks_per_image_max: 1,
    chunk_bytes_max: 10,
    slice_bytes: 10,
    window_bytes_max: 100,
    layer_window_bytes_max: 100,
    spool_bytes_max: 100,
    threads_max: 2,
    threads_per_lane_max: 2,
    cores: 2,
    wide_threads_max: 0,
    wide_bytes_min: 0,
};

struct Bench {
    engine: Engine,
    now: Instant,
}

impl Bench {
    fn new(strategy: Strategy, limits: RawLimits) -> Self {
        let config = Config {
            seed: 1,
            limits: Limits::try_from(limits).unwrap(),
            scheduling: strategy.scheduling(),
            timing: Timing::default(),
            hosts: HostRules::default(),
            hedging: HedgeRules::off(),
        };
        let now = Instant::ZERO;
        let engine = Engine::new(config, now);
        Self { engine, now }
    }

    fn feed(&mut self, input: Input) -> Vec<Action> {
        self.engine.handle_input(self.now, input);
        let mut actions = Vec::new();
        loop {
            match self.engine.poll_output() {
                Output::Action(action) => actions.push(action),
                Output::Event(_) => {}
                Output::Idle { .. } => break,
            }
        }
        self.engine.check_invariants();
        actions
    }

    fn pull(&mut self, image: u32, layers: Vec<PullLayer>) -> Vec<Action> {
        self.feed(Input::PullRequested(Pull {
            image: ImageId(image),
            layers,
            weight: 1,
        }))
    }
}

fn layer(id: u32, size: u64, have: Have) -> PullLayer {
    PullLayer {
        blob: BlobId(id),
        size,
        layer: LayerId(id),
        chain: ChainId(id),
        hosts: vec![HostId(0)],
        have,
    }
}

/// Every fetch that was asked for: its op, length, source, mode and attempt.
fn fetches(actions: &[Action]) -> Vec<(OpId, u64, SourceId, FetchMode, u32)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::FetchRange {
                op,
                range,
                source,
                mode,
                attempt,
                ..
            } => Some((*op, range.len(), *source, *mode, *attempt)),
            _ => None,
        })
        .collect()
}

fn failed(op: OpId, error: FetchError) -> Input {
    Input::RangeFailed {
        op,
        error,
        received: 0,
        retry_after_ms: None,
    }
}

#[test]
fn a_layer_held_by_its_images_limit_takes_no_thread_back() {
    let mut bench = Bench::new(Strategy::Streamed, LIMITS);
    let layers = vec![layer(0, 10, Have::Nothing), layer(1, 10, Have::Nothing)];
    let resized = bench
        .pull(0, layers)
        .into_iter()
        .find_map(|action| match action {
            Action::ResizeLane { op, threads } => Some((op, threads)),
            _ => None,
        });
    let (op, threads) = resized.unwrap();
    assert_eq!(threads, 2);
    // The second layer may not start whatever happens to threads, so the lane keeps both of its own.
    assert_eq!(bench.feed(Input::LaneResized { op, threads }), []);
}

#[test]
fn a_blob_whose_only_fetch_is_refused_reads_on() {
    let mut bench = Bench::new(Strategy::Streamed, LIMITS);
    let actions = bench.pull(0, vec![layer(0, 10, Have::Nothing)]);
    let (op, ..) = fetches(&actions)[0];
    let actions = bench.feed(Input::RangesRefused { op });
    assert_eq!(actions, [Action::GrantCredit { op, bytes: 10 }]);
}

#[test]
fn an_image_that_ends_lets_go_of_every_place() {
    let mut bench = Bench::new(Strategy::Streamed, LIMITS);
    bench.pull(
        0,
        vec![layer(0, 10, Have::Staged), layer(1, 10, Have::Staged)],
    );
    // Both trees are kept for a while; the invariants see to it that no place is left behind.
    bench.feed(Input::PullCancelled { image: ImageId(0) });
    bench.now = bench.now.after_millis(Timing::default().staging_ttl_ms);
    assert_eq!(bench.feed(Input::TimerReached).len(), 2);
}

#[test]
fn a_staged_tree_of_an_image_that_cannot_be_is_dropped_in_time() {
    let mut bench = Bench::new(Strategy::Sequential, LIMITS);
    let too_large = layer(0, 101, Have::Nothing);
    let actions = bench.pull(0, vec![too_large, layer(1, 10, Have::Staged)]);
    for action in actions {
        if let Action::DropBytes { op, .. } = action {
            bench.feed(Input::BytesDropped { op });
        }
    }
    bench.now = bench.now.after_millis(Timing::default().staging_ttl_ms);
    let actions = bench.feed(Input::TimerReached);
    assert!(
        matches!(
            actions[..],
            [Action::DropStaged {
                layer: LayerId(1),
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn smaller_limits_cut_what_was_never_issued_anew() {
    let limits = RawLimits {
        fetches_max: 1,
        fetches_per_image_max: 1,
        unpacks_max: 1,
        ..LIMITS
    };
    let mut bench = Bench::new(Strategy::Streamed, limits);
    let actions = bench.pull(0, vec![layer(0, 30, Have::Nothing)]);
    let (op, ..) = fetches(&actions)[0];
    let smaller = RawLimits {
        chunk_bytes_max: 4,
        slice_bytes: 4,
        layer_window_bytes_max: 14,
        ..limits
    };
    bench.feed(Input::LimitsChanged(Limits::try_from(smaller).unwrap()));
    let actions = bench.feed(Input::RangeFetched { op });
    assert_eq!(fetches(&actions)[0].1, 4);
}

#[test]
fn failures_at_a_source_that_was_left_say_nothing_about_the_next() {
    let mut bench = Bench::new(Strategy::Streamed, LIMITS);
    let mirrored = PullLayer {
        hosts: vec![HostId(0), HostId(1)],
        ..layer(0, 20, Have::Nothing)
    };
    let actions = bench.pull(0, vec![mirrored]);
    let asked = fetches(&actions);
    assert_eq!(asked.len(), 2);
    for (op, ..) in asked {
        let actions = bench.feed(failed(op, FetchError::NotFound));
        let again = fetches(&actions);
        assert_eq!(again.len(), 1, "{actions:?}");
        assert_eq!(again[0].2, SourceId(1));
    }
}

#[test]
fn refused_ranges_do_not_use_up_the_attempts_of_the_whole_read() {
    let mut bench = Bench::new(Strategy::Streamed, LIMITS);
    let actions = bench.pull(0, vec![layer(0, 10, Have::Nothing)]);
    let (op, ..) = fetches(&actions)[0];
    let actions = bench.feed(failed(op, FetchError::RangeUnusable));
    let (.., mode, attempt) = fetches(&actions)[0];
    assert_eq!((mode, attempt), (FetchMode::Whole, 1));
}

#[test]
fn a_lower_layer_takes_the_blob_an_upper_one_waits_with() {
    let limits = RawLimits {
        threads_per_lane_max: 1,
        ..LIMITS
    };
    let mut bench = Bench::new(Strategy::Sequential, limits);
    let upper = PullLayer {
        layer: LayerId(9),
        ..layer(0, 10, Have::Nothing)
    };
    bench.pull(0, vec![layer(5, 10, Have::Nothing), upper]);
    // Another image needs the same bytes as its bottom layer, which waits for nothing.
    bench.pull(1, vec![layer(0, 10, Have::Nothing)]);
    let mut lanes = Vec::new();
    for op in [OpId(0), OpId(1)] {
        for action in bench.feed(Input::RangeFetched { op }) {
            if let Action::StartLane { layer, .. } = action {
                lanes.push(layer);
            }
        }
    }
    assert!(lanes.contains(&LayerId(0)), "{lanes:?}");
}
