//! What is told of work that could go on and does not, and the orders in which it may go on.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn told(bench: &Bench) -> Vec<(u32, HoldReason)> {
    let held = bench.events.iter().filter_map(|event| match event {
        Event::Held { layer, why } => Some((layer.0, *why)),
        _ => None,
    });
    held.collect()
}

#[test]
fn a_layer_that_finds_no_lane_is_told_with_its_reason_and_once() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, 2 * MIB, 3 * MIB]);
    bench.input(Input::TimerReached);
    bench.input(Input::TimerReached);
    assert_eq!(told(&bench), [], "bytes of every layer are on their way");
    let asked = bench.take_fetches();
    let (op, ..) = asked[asked.len() - 1];
    bench.finish_fetch(op);
    assert_eq!(told(&bench), [(0, HoldReason::UnpacksPerImage)]);
    bench.input(Input::TimerReached);
    assert_eq!(told(&bench).len(), 1);
}

#[test]
fn a_lane_whose_host_wants_to_be_left_alone_is_told() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB]);
    let (op, ..) = bench.take_fetches()[0];
    bench.fail(op, FetchError::RateLimited, Some(5_000));
    assert_eq!(told(&bench).len(), 1, "{:?}", told(&bench));
    let held = bench.engine.snapshot().images[0].layers[0].hold;
    assert_eq!(told(&bench), [(0, held)], "status shows the same");
}

#[test]
fn holds_are_counted_by_their_reason() {
    let mut bench = Bench::new(Strategy::StoreThenUnpack, limits());
    bench.pull(0, 0, &[64 * MIB, 64 * MIB]);
    let counted: u64 = bench
        .engine
        .snapshot()
        .holds
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(counted, told(&bench).len() as u64);
}

#[test]
fn an_order_that_does_not_go_with_where_bytes_wait_is_refused() {
    for (strategy, order, allowed) in [
        (Strategy::Streamed, UnpackOrder::BottomUp, Ok(())),
        (
            Strategy::Streamed,
            UnpackOrder::Chain,
            Err(OrderError::Streamed),
        ),
        (Strategy::StoreThenUnpack, UnpackOrder::Chain, Ok(())),
        (
            Strategy::StoreThenUnpack,
            UnpackOrder::LongestPath,
            Err(OrderError::Stored),
        ),
    ] {
        let ordered = strategy.scheduling().ordered(None, Some(order));
        assert_eq!(ordered.map(|_| ()), allowed, "{strategy} {order:?}");
    }
}

#[test]
fn layers_are_unpacked_and_fetched_in_the_order_that_was_set() {
    for (fetch, unpack, first) in [
        (FetchOrder::LongestPath, UnpackOrder::LongestPath, 1),
        (FetchOrder::BottomUp, UnpackOrder::BottomUp, 0),
    ] {
        let raw = RawLimits {
            unpacks_max: 1,
            unpacks_per_image_max: 1,
            ..limits()
        };
        let config = Bench::new(Strategy::Streamed, raw).config;
        let scheduling = config.scheduling.ordered(Some(fetch), Some(unpack));
        let mut bench = Bench::with_config(Config {
            scheduling: scheduling.unwrap(),
            ..config
        });
        bench.pull(0, 0, &[4 * MIB, 16 * MIB]);
        let actions = bench.take();
        let lane = actions.iter().find_map(|action| match action {
            Action::StartLane { blob, .. } => Some(blob.0),
            _ => None,
        });
        let fetched = actions.iter().find_map(|action| match action {
            Action::FetchRange { blob, .. } => Some(blob.0),
            _ => None,
        });
        assert_eq!((lane, fetched), (Some(first), Some(first)), "{fetch:?}");
    }
}
