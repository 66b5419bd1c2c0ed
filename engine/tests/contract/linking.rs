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
        0
    );
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready), (1, Outcome::Ready)]);
    assert!(bench.engine.is_idle());
}

/// Performs everything, but answers the first link or clone that `fails` picks with `error`; what was asked for.
fn drive_with(
    bench: &mut Bench,
    error: LinkError,
    mut fails: impl FnMut(&Action) -> bool,
) -> Vec<Action> {
    let (mut seen, mut failed) = (Vec::new(), false);
    while let Some(action) = bench.actions.pop_front() {
        seen.push(action);
        if !failed && fails(&action) {
            failed = true;
            let op = action.op();
            bench.input(Input::LinkFailed { op, error });
        } else {
            bench.perform(action);
        }
    }
    assert!(failed, "nothing failed");
    seen
}

fn lanes_of(actions: &[Action], layer: u32) -> Vec<Option<Place>> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::StartLane {
                layer: of, over, ..
            } if *of == LayerId(layer) => Some(*over),
            _ => None,
        })
        .collect()
}

const fn place(image: u32, index: u32) -> Place {
    Place {
        image: ImageId(image),
        index,
    }
}

/// Two images with different bottoms and one common layer above them.
fn two_with_a_common_layer() -> Bench {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull_layers(0, &[(0, MIB), (9, MIB)], |_| Have::Nothing);
    bench.pull_layers(1, &[(1, MIB), (9, MIB)], |_| Have::Nothing);
    bench.await_all(0, 2);
    bench.await_all(1, 2);
    bench
}

#[test]
fn a_tree_that_depends_on_its_parents_is_unpacked_over_them() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.await_all(0, 2);
    let seen = drive_with(&mut bench, LinkError::NeedsParents, |action| {
        matches!(
            action,
            Action::LinkLayer {
                place: Place { index: 1, .. },
                ..
            }
        )
    });
    assert_eq!(lanes_of(&seen, 1), [None, Some(place(0, 1))]);
    let own = Tree::Own(place(0, 1));
    assert!(
        seen.iter()
            .any(|action| matches!(action, Action::LinkLayer { tree, .. } if *tree == own))
    );
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_clone_that_depends_on_its_parents_is_dropped_and_unpacked_over_them() {
    let mut bench = two_with_a_common_layer();
    let seen = drive_with(&mut bench, LinkError::NeedsParents, |action| {
        matches!(
            action,
            Action::LinkLayer {
                tree: Tree::Own(_),
                ..
            }
        )
    });
    let own = seen
        .iter()
        .find_map(|action| match action {
            Action::CloneLayer { place, .. } => Some(*place),
            _ => None,
        })
        .unwrap();
    assert_eq!(lanes_of(&seen, 9), [None, Some(own)]);
    let dropped = seen
        .iter()
        .any(|action| matches!(action, Action::DropStaged { tree, .. } if *tree == Tree::Own(own)));
    assert!(dropped);
    assert_eq!(
        bench
            .outcomes()
            .iter()
            .map(|(_, outcome)| *outcome)
            .collect::<Vec<_>>(),
        [Outcome::Ready, Outcome::Ready]
    );
    assert!(bench.engine.is_idle());
}

#[test]
fn a_tree_made_over_one_images_parents_never_serves_another_images() {
    let mut bench = two_with_a_common_layer();
    let mut refused = Vec::new();
    while let Some(action) = bench.actions.pop_front() {
        match action {
            // Whatever was not made over the parents of its place depends on them.
            Action::LinkLayer {
                op,
                place,
                layer: LayerId(9),
                tree,
            } => {
                if refused.contains(&place) {
                    assert_eq!(tree, Tree::Own(place));
                    bench.perform(action);
                } else {
                    refused.push(place);
                    bench.input(Input::LinkFailed {
                        op,
                        error: LinkError::NeedsParents,
                    });
                }
            }
            Action::StartLane {
                layer: LayerId(9),
                over: Some(over),
                ..
            } => {
                assert!(refused.contains(&over));
                bench.perform(action);
            }
            _ => bench.perform(action),
        }
    }
    assert_eq!(refused.len(), 2);
    assert_eq!(bench.ready().len(), 4);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_second_link_of_one_chain_finds_the_first_and_copies_nothing() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    for image in 0..3 {
        bench.pull(image, 0, &[MIB, MIB]);
        bench.await_all(image, 2);
    }
    let mut trees = Vec::new();
    while let Some(action) = bench.actions.pop_front() {
        assert!(!matches!(action, Action::CloneLayer { .. }), "{action:?}");
        if let Action::LinkLayer { tree, layer, .. } = action {
            trees.push((layer.0, tree));
        }
        bench.perform(action);
    }
    for layer in 0..2 {
        let of = |wanted: Tree| {
            trees
                .iter()
                .filter(|tree| **tree == (layer, wanted))
                .count()
        };
        assert_eq!((of(Tree::Original), of(Tree::Linked)), (1, 2));
    }
    assert!(bench.engine.is_idle());
}

#[test]
fn an_image_that_comes_later_fetches_nothing_that_is_linked_where_it_belongs() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    bench.pull(1, 0, &[MIB]);
    bench.await_all(1, 1);
    let actions = bench.take();
    assert!(
        matches!(
            actions[..],
            [Action::LinkLayer {
                tree: Tree::Linked,
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_link_that_finds_nothing_where_it_belongs_has_the_layer_made() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull(0, 0, &[MIB, MIB]);
    bench.input(Input::LayerAwaited {
        image: ImageId(0),
        index: 0,
    });
    bench.drive();
    bench.pull(1, 0, &[MIB]);
    bench.await_all(1, 1);
    let mut refused = 0;
    while let Some(action) = bench.actions.pop_front() {
        match action {
            Action::LinkLayer {
                op,
                tree: Tree::Linked,
                ..
            }
            | Action::CloneLayer { op, .. } => {
                refused += 1;
                bench.input(Input::LinkFailed {
                    op,
                    error: LinkError::SourceGone,
                });
            }
            _ => bench.perform(action),
        }
    }
    assert_eq!(refused, 1);
    assert_eq!(bench.outcomes(), [(1, Outcome::Ready)]);
}

#[test]
fn a_layer_in_place_over_other_parents_is_cloned_and_not_fetched() {
    let mut bench = Bench::new(Strategy::Streamed, limits());
    bench.pull_layers(0, &[(0, MIB), (1, MIB)], |index| {
        [Have::Nothing, Have::Elsewhere][index].clone()
    });
    bench.await_all(0, 2);
    let mut seen = Vec::new();
    while let Some(action) = bench.actions.pop_front() {
        seen.push(action);
        bench.perform(action);
    }
    let fetched = |blob| {
        let of = move |action: &&Action| matches!(action, Action::FetchRange { blob: fetched, .. } if *fetched == BlobId(blob));
        seen.iter().filter(of).count()
    };
    assert_eq!((fetched(0), fetched(1)), (1, 0));
    assert_eq!(bench.outcomes(), [(0, Outcome::Ready)]);
}
