//! That every numbered case, decision and difference has a test that carries its number.

use std::collections::BTreeSet;
use std::path::Path;

use parapull_snapshotter::unpack::Difference;

/// What an image may hold (30 cases) and where containerd surprises (17 rows of decisions).
const CASES: u32 = 30;
const ROWS: u32 = 17;

/// Names of all tests of this binary.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unpack");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let is_test = text
            .lines()
            .zip(text.lines().skip(1))
            .filter(|(attribute, _)| attribute.trim() == "#[test]");
        names.extend(is_test.filter_map(|(_, function)| {
            let name = function.trim().strip_prefix("fn ")?.split_once('(')?.0;
            Some(name.to_owned())
        }));
    }
    names
}

#[test]
fn every_case_and_row_has_a_test_with_its_number() {
    let tests = tests();
    let missing: Vec<String> = (1..=CASES)
        .map(|case| format!("case_{case:02}_"))
        .chain((1..=ROWS).map(|row| format!("row_{row:02}_")))
        .filter(|prefix| !tests.iter().any(|name| name.starts_with(prefix)))
        .collect();
    assert!(missing.is_empty(), "no test begins with {missing:?}");
}

#[test]
fn every_difference_has_a_test() {
    let tests = tests();
    for difference in Difference::ALL {
        let prefix = format!("{}_", difference.test());
        assert!(
            tests.iter().any(|name| name.starts_with(&prefix)),
            "{difference:?}: no test begins with {prefix}"
        );
    }
}
