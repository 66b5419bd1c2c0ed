//! What the scheduler decides in named scenarios is what was reviewed.

use parapull_sim::{Pins, differences, traces};

#[test]
fn the_scheduler_decides_as_pinned() {
    let pinned: Pins = toml::from_str(include_str!("../conformance.toml")).unwrap();
    let told = differences(&pinned, &traces().unwrap());
    assert!(
        told.is_empty(),
        "the scheduler decides otherwise than when it was pinned:\n  {}\nIf this is meant, run\n  \
         cargo run -p parapull-sim -- conformance --pin\nand say in the commit why.",
        told.join("\n  ")
    );
    assert!(pinned.len() >= 20, "{} scenarios are pinned", pinned.len());
}

#[test]
fn what_differs_is_named() {
    let pins = |entries: &[(&str, &str)]| -> Pins {
        let entries = entries.iter();
        entries
            .map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()))
            .collect()
    };
    let told = differences(
        &pins(&[("a", "1"), ("b", "2"), ("c", "3")]),
        &pins(&[("a", "1"), ("b", "4"), ("d", "5")]),
    );
    assert_eq!(
        told,
        [
            "b: pinned is 2, it goes 4",
            "d: not pinned, it goes 5",
            "c: pinned, but there is no such scenario"
        ]
    );
}
