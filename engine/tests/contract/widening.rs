//! Who gets the threads that cores leave idle, and when they come back.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

/// Eight cores; a lane has two threads, a wide one six, from 16 MiB on.
fn wide() -> RawLimits {
    RawLimits {
        unpacks_max: 4,
        unpacks_per_image_max: 4,
        threads_max: 16,
        cores: 8,
        wide_threads_max: 6,
        wide_bytes_min: 16 * MIB,
        ..limits()
    }
}

/// Lanes that start and do nothing until a test says so.
struct Lanes {
    bench: Bench,
    released: u64,
}

impl Lanes {
    fn new(strategy: Strategy, raw: RawLimits) -> Self {
        let bench = Bench::new(strategy, raw);
        Self { bench, released: 0 }
    }

    /// Starts the lane of a pull of one layer, with all the threads a lane ordinarily has.
    fn pull(&mut self, image: u32, bytes: u64) -> OpId {
        self.bench.pull(image, image, &[bytes]);
        let mut started = None;
        for action in self.bench.take() {
            match action {
                Action::StartLane { op, .. } => started = Some(op),
                Action::ResizeLane { op, threads } => self.answer(op, threads),
                _ => {}
            }
        }
        let Some(op) = started else {
            panic!("no lane starts for {image}");
        };
        op
    }

    fn answer(&mut self, op: OpId, threads: u32) {
        self.bench.input(Input::LaneResized { op, threads });
    }

    /// A report of a lane that has let go of nothing more; the threads it is told thereupon.
    fn report(&mut self, op: OpId, waiting: Waiting) -> Option<u32> {
        self.bench.input(Input::LaneAdvanced {
            op,
            released: self.released,
            produced: 0,
            entries: 0,
            waiting,
        });
        self.told(op)
    }

    /// What a lane was told since the last look.
    fn told(&mut self, op: OpId) -> Option<u32> {
        let mut told = self
            .bench
            .take()
            .into_iter()
            .filter_map(|action| match action {
                Action::ResizeLane { op: told, threads } if told == op => Some(threads),
                _ => None,
            });
        told.next_back()
    }

    /// What a lane is told until it has reported so often.
    fn reports(&mut self, op: OpId, waiting: Waiting, count: u32) -> Option<u32> {
        (0..count).find_map(|_| self.report(op, waiting))
    }

    fn threads(&self) -> u64 {
        self.bench.engine.snapshot().threads.0
    }
}

#[test]
fn a_lane_that_its_own_work_holds_up_gets_the_idle_cores() {
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let op = lanes.pull(0, 400 * MIB);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 3), None, "not at once");
    assert_eq!(lanes.report(op, Waiting::Cpu), Some(6));
    assert_eq!(lanes.threads(), 6);
}

#[test]
fn a_lane_that_waits_for_bytes_or_for_the_disk_gets_none() {
    for waiting in [Waiting::Input, Waiting::Disk] {
        let mut lanes = Lanes::new(Strategy::Streamed, wide());
        let op = lanes.pull(0, 400 * MIB);
        assert_eq!(lanes.reports(op, waiting, 100), None);
        // Now and then is not held up.
        for _ in 0..100 {
            assert_eq!(lanes.report(op, Waiting::Cpu), None);
            assert_eq!(lanes.report(op, waiting), None);
        }
    }
}

#[test]
fn a_layer_with_little_before_it_gets_none() {
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let op = lanes.pull(0, 16 * MIB - 1);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 100), None);
    let op = lanes.pull(1, 16 * MIB);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 100), Some(6));
}

#[test]
fn no_other_strategy_and_no_other_limits_widen_a_lane() {
    for strategy in [
        Strategy::Sequential,
        Strategy::Multipart,
        Strategy::StoreThenUnpack,
    ] {
        let mut lanes = Lanes::new(strategy, wide());
        lanes.bench.pull(0, 0, &[40 * MIB]);
        lanes.bench.await_all(0, 1);
        let mut lane = None;
        while let (None, Some(action)) = (lane, lanes.bench.actions.pop_front()) {
            match action {
                Action::StartLane { op, .. } => lane = Some(op),
                action => lanes.bench.perform(action),
            }
        }
        let op = lane.expect("a lane starts when the blob is complete");
        lanes.told(op);
        lanes.answer(op, 2);
        assert_eq!(lanes.reports(op, Waiting::Cpu, 100), None, "{strategy}");
    }
    for raw in [
        RawLimits {
            wide_threads_max: 2,
            ..wide()
        },
        // Three that are of use on two cores are fewer than a lane can be divided among.
        RawLimits { cores: 2, ..wide() },
        RawLimits {
            threads_max: 4,
            unpacks_max: 4,
            threads_per_lane_max: 4,
            ..wide()
        },
    ] {
        let mut lanes = Lanes::new(Strategy::Streamed, raw);
        let op = lanes.pull(0, 400 * MIB);
        assert_eq!(lanes.reports(op, Waiting::Cpu, 100), None, "{raw:?}");
    }
}

#[test]
fn a_wide_lane_gives_way_when_another_one_starts() {
    // Nine threads are of use on eight cores: beside one lane of two there are seven, beside two five, beside three three.
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let op = lanes.pull(0, 400 * MIB);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 4), Some(6));
    lanes.answer(op, 6);
    for (image, told, threads) in [(1, None, 8), (2, Some(5), 9), (3, Some(2), 8)] {
        lanes.bench.pull(image, image, &[4 * MIB]);
        let actions = lanes.bench.take();
        for action in &actions {
            if let Action::ResizeLane { op, threads } = action {
                lanes.answer(*op, *threads);
            }
        }
        let of_wide = actions.iter().find_map(|action| match action {
            Action::ResizeLane { op: to, threads } if *to == op => Some(*threads),
            _ => None,
        });
        assert_eq!(of_wide, told, "beside {image}");
        assert_eq!(lanes.threads(), threads);
    }
}

#[test]
fn a_layer_starts_although_a_wide_lane_had_every_thread() {
    let raw = RawLimits {
        threads_max: 6,
        ..wide()
    };
    let mut lanes = Lanes::new(Strategy::Streamed, raw);
    let op = lanes.pull(0, 400 * MIB);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 4), Some(6));
    lanes.answer(op, 6);
    lanes.bench.pull(1, 1, &[4 * MIB]);
    assert_eq!(lanes.told(op), Some(4));
    let starts = |lanes: &mut Lanes| {
        let actions = lanes.bench.take();
        actions
            .iter()
            .any(|action| matches!(action, Action::StartLane { .. }))
    };
    assert!(!starts(&mut lanes), "the permits are not back");
    lanes.answer(op, 4);
    assert!(starts(&mut lanes));
}

#[test]
fn the_awaited_layer_is_widened_before_a_longer_one() {
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let (longer, awaited) = (lanes.pull(0, 400 * MIB), lanes.pull(1, 100 * MIB));
    lanes.bench.await_all(1, 1);
    lanes.bench.take();
    for op in [longer, awaited] {
        assert_eq!(lanes.reports(op, Waiting::Cpu, 3), None);
    }
    // Both turn out to be busy; the one that someone waits for takes the threads over.
    assert_eq!(lanes.report(longer, Waiting::Cpu), Some(6));
    lanes.answer(longer, 6);
    lanes.bench.input(Input::LaneAdvanced {
        op: awaited,
        released: 0,
        produced: 0,
        entries: 0,
        waiting: Waiting::Cpu,
    });
    assert_eq!(
        lanes.bench.take(),
        [
            Action::ResizeLane {
                op: longer,
                threads: 2
            },
            Action::ResizeLane {
                op: awaited,
                threads: 6
            }
        ]
    );
}

#[test]
fn a_lane_that_stays_hungry_gets_no_threads_for_nothing() {
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let op = lanes.pull(0, 400 * MIB);
    let mut needed = 4;
    for _ in 0..3 {
        assert_eq!(lanes.reports(op, Waiting::Cpu, needed - 1), None);
        assert_eq!(lanes.report(op, Waiting::Cpu), Some(6));
        lanes.answer(op, 6);
        // A second without work of its own, and not one report less.
        assert_eq!(lanes.reports(op, Waiting::Input, 49), None);
        assert_eq!(lanes.report(op, Waiting::Input), Some(2));
        lanes.answer(op, 2);
        // The next time more has to be shown.
        needed *= 2;
    }
}

#[test]
fn a_lane_that_ends_wide_returns_every_thread() {
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let op = lanes.pull(0, 400 * MIB);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 4), Some(6));
    lanes
        .bench
        .input(Input::PullCancelled { image: ImageId(0) });
    assert_eq!(lanes.threads(), 6, "what is cancelled still runs");
    lanes.bench.drive();
    assert_eq!(lanes.threads(), 0);
    assert!(lanes.bench.engine.is_idle());
}

#[test]
fn limits_that_allow_no_wide_lane_take_its_threads_back() {
    let mut lanes = Lanes::new(Strategy::Streamed, wide());
    let op = lanes.pull(0, 400 * MIB);
    assert_eq!(lanes.reports(op, Waiting::Cpu, 4), Some(6));
    lanes.answer(op, 6);
    let raw = RawLimits {
        wide_threads_max: 0,
        ..wide()
    };
    let limits = Limits::try_from(raw).unwrap();
    lanes.bench.input(Input::LimitsChanged(limits));
    assert_eq!(lanes.told(op), Some(2));
    lanes.answer(op, 2);
    assert_eq!(lanes.threads(), 2);
}
