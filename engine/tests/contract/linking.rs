//! What is linked, when, and who shares it.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

#[test]
fn nothing_is_linked_that_nobody_waits_for() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    assert_eq!(bench.ready(), [0]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 1,
    });
    bench.drive();
    assert_eq!(bench.ready(), [0, 1]);
}

#[test]
fn a_link_waits_for_its_parent() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 1,
    });
    bench.drive();
    assert!(bench.ready().is_empty());
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    assert_eq!(bench.ready(), [0, 1]);
}

#[test]
fn two_images_share_one_fetch_and_one_unpack() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, 3 * MIB]);
    bench.pull(1, 0, &[MIB, 3 * MIB]);
    bench.await_all(0, 2);
    bench.await_all(1, 2);
    let mut seen = Vec::new();
    while let Some(action) = bench.actions.pop_front() {
        seen.push(action);
        bench.perform(action);
    }
    let count = |matches: fn(&Action) -> bool| seen.iter().filter(|action| matches(action)).count();
    assert_eq!(
        count(|action| matches!(action, Action::FetchRange { .. })),
        2
    );
    assert_eq!(
        count(|action| matches!(action, Action::StartLane { .. })),
        2
    );
    assert_eq!(
        count(|action| matches!(action, Action::CloneLayer { .. })),
        2
    );
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready), (1, Outcome::Ready)]);
    assert!(bench.engine.is_idle());
}
