//! What holds whatever is pulled under whatever limits, in whatever order things end: every byte is fetched once, nothing
//! is larger than it may be, and nothing is held beyond a limit. The bench checks the engine's own invariants at each step.

#![expect(clippy::unwrap_used, reason = "a broken test should stop")]

use std::collections::{BTreeMap, BTreeSet};

use parapull_engine::{
    Action, BlobId, ByteRange, Config, FetchMode, HedgeRules, Input, OpId, Outcome, RawLimits,
    Strategy as Way,
};
use proptest::prelude::*;

use crate::bench::Bench;

/// What may run at once, from the least that can work.
fn any_limits() -> impl Strategy<Value = RawLimits> {
    let counts = (1u32..6, 1u32..6, 1u32..4, 1u32..4);
    let sizes = (0u64..40, 1u64..40, 1u64..40, 0u64..200, 0u64..200);
    (counts, sizes).prop_map(|(counts, sizes)| {
        let (fetches, of_image, unpacks, unpacks_of_image) = counts;
        let (chunk, least, slice, window, layer_window) = sizes;
        let piece = chunk.max(slice);
        RawLimits {
            fetches_max: fetches,
            fetches_per_image_max: of_image.min(fetches),
            unpacks_max: unpacks,
            unpacks_per_image_max: unpacks_of_image.min(unpacks),
            chunk_bytes_max: chunk,
            chunk_bytes_min: least,
            slice_bytes: slice,
            window_bytes_max: piece * u64::from(unpacks) + window,
            layer_window_bytes_max: piece + layer_window,
            spool_bytes_max: 1 << 40,
            threads_max: unpacks,
            threads_per_lane_max: 2,
            ..crate::bench::limits()
        }
    })
}

/// The bytes of each blob that arrived, and those that are on their way.
#[derive(Default)]
struct Seen {
    arrived: BTreeMap<BlobId, BTreeMap<u64, u64>>,
    open: BTreeMap<OpId, (BlobId, ByteRange, u64)>,
    closed: BTreeSet<OpId>,
}

impl Seen {
    fn arrive(&mut self, op: OpId, bytes: u64) {
        self.closed.insert(op);
        if let Some((blob, range, _)) = self.open.remove(&op)
            && bytes > 0
        {
            let ranges = self.arrived.entry(blob).or_default();
            let twice = ranges.insert(range.start, range.start + bytes);
            assert_eq!(twice, None, "{blob:?} from {} arrived twice", range.start);
        }
    }

    fn check(&self, limits: &RawLimits) {
        let piece_bytes_max = limits.chunk_bytes_max.max(limits.slice_bytes);
        assert!(self.open.len() <= limits.fetches_per_image_max as usize);
        let credit: u64 = self.open.values().map(|open| open.2).sum();
        assert!(credit <= limits.window_bytes_max, "{credit} on their way");
        for (blob, range, credit) in self.open.values() {
            assert!(
                *credit <= piece_bytes_max || limits.chunk_bytes_max == 0,
                "{blob:?} {range:?}"
            );
        }
    }
}

/// Pulls an image, ending what is under way in an order and a manner that `choices` decide.
fn pull(limits: RawLimits, sizes: &[u64], choices: &[(usize, u8, u64)]) -> (Bench, Seen) {
    let config = Bench::new(Way::Streamed, limits).config;
    let mut bench = Bench::with_config(Config {
        hedging: HedgeRules::off(),
        ..config
    });
    let mut seen = Seen::default();
    bench.pull(0, 0, sizes);
    bench.await_all(0, u32::try_from(sizes.len()).unwrap());
    let mut choices = choices.iter().copied().cycle();
    for _ in 0..20_000 {
        for action in &bench.actions {
            if let Action::FetchRange {
                op,
                blob,
                range,
                credit,
                mode: FetchMode::Ranged,
                ..
            } = *action
                && !seen.closed.contains(&op)
            {
                seen.open.insert(op, (blob, range, credit));
            }
        }
        seen.check(&limits);
        let (which, manner, pause_ms) = choices.next().unwrap_or_default();
        bench.now = bench.now.after_millis(pause_ms);
        if bench.actions.is_empty() {
            if !bench.outcomes().is_empty() {
                break;
            }
            if let Some(wake) = bench.wake {
                bench.now = bench.now.max(wake.at);
            }
            bench.input(Input::TimerReached);
            continue;
        }
        let action = bench.actions.remove(which % bench.actions.len()).unwrap();
        let (op, open) = (action.op(), seen.open.get(&action.op()).copied());
        match (action, open) {
            (Action::FetchRange { .. }, Some((_, range, _))) if manner < 20 => {
                let received = range.len() * u64::from(manner) / 20;
                seen.arrive(op, received);
                bench.break_off(op, received);
            }
            (Action::FetchRange { .. }, Some((_, range, _))) => {
                seen.arrive(op, range.len());
                bench.perform(action);
            }
            (Action::CancelOp { op }, _) => {
                seen.arrive(op, 0);
                bench.perform(action);
            }
            _ => bench.perform(action),
        }
    }
    (bench, seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_byte_arrives_once_and_nothing_exceeds_its_limit(
        limits in any_limits(),
        sizes in proptest::collection::vec(0u64..400, 1..6),
        choices in proptest::collection::vec((0usize..8, 0u8..160, 0u64..60), 1..40),
    ) {
        let (bench, seen) = pull(limits, &sizes, &choices);
        let (image, outcome) = bench.outcomes()[0];
        if outcome == Outcome::Ready && limits.chunk_bytes_max > 0 {
            for (index, size) in sizes.iter().enumerate() {
                let blob = BlobId(u32::try_from(index).unwrap());
                let mut reached = 0;
                for (start, end) in seen.arrived.get(&blob).into_iter().flatten() {
                    prop_assert_eq!(*start, reached, "{:?} has a gap or an overlap", blob);
                    reached = *end;
                }
                prop_assert_eq!(reached, *size);
            }
        }
        prop_assert_eq!(image, 0);
        prop_assert!(bench.engine.is_idle());
    }
}
