//! `engine` and `sim` read no clock, start no thread and iterate over nothing unordered.
//!
//! The crates' `clippy.toml` bans the same by type, which sees through `use`; this rule also sees code that clippy is not
//! run on. Tests are included: a test that depends on hash order fails on another day.

use super::Violation;
use crate::source::{Source, has_word};
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    Ok(workspace.sources()?.iter().flat_map(in_source).collect())
}

fn in_source(source: &Source) -> Vec<Violation> {
    let applies = CRATES.iter().any(|crate_| source.path.starts_with(crate_));
    let allowed = ALLOWED
        .iter()
        .any(|(path, _)| source.path.starts_with(path));
    if !applies || allowed {
        return Vec::new();
    }
    let words = source.numbered_code().flat_map(|(line, code)| {
        WORDS
            .iter()
            .filter(move |(word, _)| has_word(code, word))
            .map(move |(word, instead)| (line, (*word).to_owned(), *instead))
    });
    let paths = source.paths().into_iter().filter_map(|(line, path)| {
        let (_, instead) = PATHS
            .iter()
            .find(|(banned, _)| path == *banned || path.starts_with(&format!("{banned}::")))?;
        Some((line, path, *instead))
    });
    words
        .chain(paths)
        .map(|(line, what, instead)| {
            Violation::at(&source.path, line, format!("`{what}`: {instead}"))
        })
        .collect()
}

const CRATES: &[&str] = &["engine/", "sim/"];

const WORDS: &[(&str, &str)] = &[
    ("HashMap", "its order differs from run to run; use BTreeMap"),
    ("HashSet", "its order differs from run to run; use BTreeSet"),
    ("RandomState", "draw from the keyed generator"),
    ("SystemTime", "time comes in with the input"),
];

const PATHS: &[(&str, &str)] = &[
    ("std::time::Instant", "time comes in with the input"),
    ("std::thread", "threads belong to the snapshotter"),
    ("std::env", "configuration comes in as a value"),
];

/// Where the outside world begins: file or folder, reason.
const ALLOWED: &[(&str, &str)] = &[
    ("sim/src/main.rs", "the process: arguments and exit code"),
    (
        "sim/src/cli",
        "the command line: `swarm --time` ends by the wall clock, between runs",
    ),
    (
        "engine/benches",
        "a bench reads the clock; the engine does not",
    ),
    ("sim/benches", "a bench is a program of its own"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn what_differs_from_run_to_run_is_told() {
        let cases = [
            (
                "engine/src/a.rs",
                "use std::collections::{BTreeMap, HashMap};",
                1,
            ),
            ("engine/src/a.rs", "use crate::time::Instant;", 0),
            ("sim/src/a.rs", "use std::time::{Duration, Instant};", 1),
            ("sim/src/a.rs", "let a = std::thread::spawn(b);", 1),
            ("sim/src/a.rs", "use core::time::Duration;", 0),
            ("snapshotter/src/a.rs", "use std::time::Instant;", 0),
        ];
        for (path, text, expected) in cases {
            let found = in_source(&Source::new(path, text));
            assert_eq!(found.len(), expected, "{text}: {found:?}");
        }
    }
}
