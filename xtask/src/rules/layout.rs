//! What stands at the top of the project, and that every module says what it is.

use std::collections::BTreeSet;

use super::Violation;
use crate::source::Source;
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let mut violations = top_level(workspace.files());
    violations.extend(headers(&workspace.sources()?));
    Ok(violations)
}

fn top_level(files: &[String]) -> Vec<Violation> {
    let entries: BTreeSet<&str> = files
        .iter()
        .map(|path| {
            path.split_once('/')
                .map_or(path.as_str(), |(folder, _)| folder)
        })
        .collect();
    let is_folder = |name: &str| {
        files
            .iter()
            .any(|path| path.starts_with(&format!("{name}/")))
    };
    entries
        .into_iter()
        .filter(|name| {
            let known = if is_folder(name) { FOLDERS } else { FILES };
            !known.contains(name)
        })
        .map(|name| {
            let message = "nothing else belongs at the top level: see \"Top level\" in ARCHITECTURE.md, or add it to \
                           xtask/src/rules/layout.rs with that page";
            Violation::new(name, message)
        })
        .collect()
}

/// Every file below a `src`, but for its tests, says in its first line what it holds.
fn headers(sources: &[Source]) -> Vec<Violation> {
    sources
        .iter()
        .filter(|source| source.path.contains("/src/") && !source.is_test(1))
        .filter(|source| !source.first_line().starts_with("//!"))
        .map(|source| {
            Violation::at(
                &source.path,
                1,
                "begin with `//!`: what this module holds and what it does not do",
            )
        })
        .collect()
}

const FOLDERS: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    "bench-harness",
    "deploy",
    "engine",
    "fake-registry",
    "results",
    "scenario",
    "sim",
    "snapshotter",
    "xtask",
];

const FILES: &[&str] = &[
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn a_new_folder_or_file_at_the_top_is_told() {
        let files = [
            "README.md",
            "engine/src/lib.rs",
            "utils/a.rs",
            "notes.md",
            "deploy",
        ];
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let places: Vec<String> = top_level(&files).into_iter().map(|v| v.place).collect();
        assert_eq!(
            places,
            ["deploy", "notes.md", "utils"],
            "a file may not have a folder's name"
        );
    }

    #[test]
    fn a_module_without_a_header_is_told() {
        let sources = [
            Source::new("sim/src/a.rs", "//! Holds a.\n"),
            Source::new("sim/src/b.rs", "use a;\n"),
            Source::new("sim/tests/c.rs", "use a;\n"),
        ];
        let places: Vec<String> = headers(&sources).into_iter().map(|v| v.place).collect();
        assert_eq!(places, ["sim/src/b.rs:1"]);
    }
}
