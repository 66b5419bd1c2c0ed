//! What images share is shared by weight.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

#[test]
fn a_small_image_is_not_starved_by_a_large_one() {
    let raw = RawLimits {
        fetches_max: 4,
        fetches_per_image_max: 4,
        unpacks_max: 4,
        threads_max: 4,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[400 * MIB]);
    bench.pull(1, 10, &[20 * MIB]);
    let mut asked = [0, 0];
    while bench.outcomes().is_empty() && asked[1] < 20 * MIB {
        let Some(action) = bench.actions.pop_front() else {
            break;
        };
        if let Action::FetchRange { blob, range, .. } = action {
            asked[usize::from(blob.0 == 10)] += range.len();
        }
        bench.perform(action);
    }
    assert_eq!(asked[1], 20 * MIB);
    // One quantum and one chunk for each permit that was taken before the small one came.
    assert!(asked[0] <= 20 * MIB + (4 + 1 + 1) * 4 * MIB, "{asked:?}");
}
