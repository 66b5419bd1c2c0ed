//! What images share: one fetch of a blob, one tree of a layer, and who pays for it.

use parapull_engine::*;

use crate::bench::{Bench, MIB, limits};

fn layer(blob: u32, layer: u32, chain: u32, size: u64) -> PullLayer {
    PullLayer {
        blob: BlobId(blob),
        size,
        layer: LayerId(layer),
        chain: ChainId(chain),
        hosts: vec![HostId(0)],
        have: Have::Nothing,
    }
}

fn request(bench: &mut Bench, image: u32, layers: Vec<PullLayer>) {
    bench.input(Input::PullRequested(Pull {
        image: ImageId(image),
        layers,
        weight: 1,
    }));
}

#[test]
fn two_blobs_of_one_tree_are_fetched_and_unpacked_once() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    // Equal diffIDs: another compression of the same tar.
    bench.pull(0, 7, &[MIB]);
    request(&mut bench, 1, vec![layer(8, 7, 50, 2 * MIB)]);
    bench.await_all(0, 1);
    bench.await_all(1, 1);
    let (mut fetched, mut lanes) = (Vec::new(), 0);
    while let Some(action) = bench.step() {
        match action {
            Action::FetchRange { blob, .. } => fetched.push(blob.0),
            Action::StartLane { .. } => lanes += 1,
            _ => {}
        }
    }
    assert_eq!((fetched, lanes), (vec![7], 1));
    assert_eq!(bench.outcomes().len(), 2);
}

#[test]
fn shared_work_goes_on_for_the_other_image_even_past_its_limit() {
    let raw = RawLimits {
        fetches_max: 4,
        fetches_per_image_max: 2,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[40 * MIB]);
    request(
        &mut bench,
        1,
        vec![layer(0, 0, 50, 40 * MIB), layer(1, 1, 51, 40 * MIB)],
    );
    bench.await_all(1, 2);
    assert_eq!(bench.engine.snapshot().fetches.0, 4, "two for each image");
    bench.input(Input::PullCancelled { image: ImageId(0) });
    assert_eq!(bench.outcomes(), [(0, Outcome::Cancelled)]);
    let cancelled = bench.actions.iter();
    let cancelled = cancelled.filter(|action| matches!(action, Action::CancelOp { .. }));
    assert_eq!(cancelled.count(), 0, "the other image wants the bytes");
    assert_eq!(
        bench.engine.snapshot().fetches.0,
        4,
        "past its limit of two"
    );
    let most = bench.engine.snapshot().fetches.0;
    for (op, ..) in bench.take_fetches() {
        bench.finish_fetch(op);
        assert!(bench.engine.snapshot().fetches.0 <= most);
    }
    assert!(bench.engine.snapshot().fetches.0 <= 2, "it drains");
}

#[test]
fn images_share_bytes_by_weight() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    for (image, weight) in [(0, 1), (1, 3)] {
        bench.weight = weight;
        bench.pull(image, image, &[400 * MIB]);
    }
    // The first image had every permit before the second one came.
    for _ in 0..60 {
        bench.step();
    }
    let mut asked = [0_u64; 2];
    while asked[0] + asked[1] < 320 * MIB {
        let Some(action) = bench.step() else { break };
        if let Action::FetchRange { blob, range, .. } = action {
            asked[blob.0 as usize] += range.len();
        }
    }
    let by_weight = [asked[0], asked[1] / 3];
    // One quantum and one piece for each permit.
    assert!(
        by_weight[0].abs_diff(by_weight[1]) <= (1 + 8) * 4 * MIB,
        "{asked:?}"
    );
}

#[test]
fn lanes_go_to_the_image_that_had_less_of_them() {
    let raw = RawLimits {
        unpacks_max: 1,
        unpacks_per_image_max: 1,
        ..limits()
    };
    let mut bench = Bench::new(Strategy::Streamed, raw);
    bench.pull(0, 0, &[9 * MIB, 8 * MIB, 7 * MIB, 6 * MIB]);
    bench.pull(1, 10, &[5 * MIB, 4 * MIB]);
    let mut started = Vec::new();
    while let Some(action) = bench.actions.pop_front() {
        if let Action::StartLane { layer, .. } = action {
            started.push(layer.0 / 10);
            bench.now = bench.now.after_millis(10_000);
        }
        bench.perform(action);
    }
    let second = started.iter().position(|image| *image == 1);
    assert!(second.is_some_and(|at| at <= 1), "{started:?}");
}

#[test]
fn what_a_cancelled_pull_has_verified_serves_the_next_one() {
    let mut config = Bench::new(Strategy::Streamed, limits()).config;
    config.timing.staging_ttl_ms = 60_000;
    for (later_ms, fetched_again) in [(59_999, 0), (60_001, 1)] {
        let mut bench = Bench::with_config(config);
        bench.pull(0, 0, &[MIB, MIB]);
        bench.drive();
        bench.input(Input::PullCancelled { image: ImageId(0) });
        bench.drive();
        bench.now = Instant::from_millis(later_ms);
        bench.input(Input::TimerReached);
        bench.drive();
        bench.pull(1, 0, &[MIB]);
        assert_eq!(bench.take_fetches().len(), fetched_again, "{later_ms}");
    }
}

#[test]
fn each_chain_is_linked_from_below_whatever_another_image_waits_for() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    // The same two layers in another order, so neither chain serves the other.
    bench.pull_layers(0, &[(0, MIB), (1, MIB)], |_| Have::Nothing);
    bench.pull_layers(1, &[(1, MIB), (0, MIB)], |_| Have::Nothing);
    bench.await_all(0, 2);
    bench.await_all(1, 2);
    let mut linked = [0; 2];
    while let Some(action) = bench.step() {
        if let Action::LinkLayer { place, .. } = action {
            let next = &mut linked[place.image.0 as usize];
            assert_eq!(place.index, *next, "{place:?}");
            *next += 1;
        }
    }
    assert_eq!(linked, [2, 2]);
}

/// What is here decides what is asked for: of a layer of three chunks, with its fetches, lanes, clones and links.
#[test]
fn what_is_here_is_not_fetched_again() {
    let here = |end| Have::Ranges(vec![ByteRange::new(0, end)]);
    for (have, hosts, local, lanes, clones, links) in [
        (Have::Nothing, 3, 0, 1, 0, 1),
        (Have::LocalBlob, 0, 3, 1, 0, 1),
        (here(12 * MIB), 0, 3, 1, 0, 1),
        (here(4 * MIB), 2, 1, 1, 0, 1),
        (Have::Staged, 0, 0, 0, 0, 1),
        (Have::Elsewhere, 0, 0, 0, 1, 1),
        (Have::InPlace, 0, 0, 0, 0, 1),
        (Have::Linked, 0, 0, 0, 0, 0),
    ] {
        let mut bench = Bench::new(Strategy::Streamed, limits());
        bench.pull_layers(0, &[(0, 12 * MIB)], |_| have.clone());
        if have != Have::Linked {
            bench.await_all(0, 1);
        }
        let mut seen = [0; 5];
        while let Some(action) = bench.step() {
            let kind = match action {
                Action::FetchRange {
                    source: SourceId::LOCAL,
                    ..
                } => 1,
                Action::FetchRange { .. } => 0,
                Action::StartLane { .. } => 2,
                Action::CloneLayer { .. } => 3,
                Action::LinkLayer { .. } => 4,
                _ => continue,
            };
            seen[kind] += 1;
        }
        assert_eq!(seen, [hosts, local, lanes, clones, links], "{have:?}");
        assert_eq!(bench.outcomes(), [(0, Outcome::Ready)], "{have:?}");
    }
}
