//! Who may know whom: between our own crates, and which crates from outside must never come in.
//!
//! Normal and build dependencies are one thing, those of tests another: a test may know more.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata};

use super::Violation;
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let metadata = workspace.metadata()?;
    let mut violations = edges(&own_edges(&metadata));
    for (package, banned) in NEVER_BELOW {
        let built = workspace.built(&["--package", package, "--edges", "normal"])?;
        let names: Vec<&str> = built.iter().map(|(name, _)| name.as_str()).collect();
        violations.extend(reached(package, &names, banned));
    }
    let alone = workspace.built(&["--package", ENGINE, "--edges", "normal,build"])?;
    let names: Vec<&str> = alone.iter().map(|(name, _)| name.as_str()).collect();
    violations.extend(engine_is_alone(&names));
    Ok(violations)
}

/// An edge between two of our crates.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    is_test: bool,
}

fn own_edges(metadata: &Metadata) -> Vec<Edge> {
    let packages = metadata.workspace_packages();
    let own: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    packages
        .iter()
        .flat_map(|package| {
            package
                .dependencies
                .iter()
                .filter(|dependency| own.contains(dependency.name.as_str()))
                .map(|dependency| Edge {
                    from: package.name.to_string(),
                    to: dependency.name.clone(),
                    is_test: dependency.kind == DependencyKind::Development,
                })
        })
        .collect()
}

fn edges(edges: &[Edge]) -> Vec<Violation> {
    let allowed: BTreeMap<&str, (&[&str], &[&str])> = MAY_KNOW
        .iter()
        .map(|&(from, normal, in_tests)| (from, (normal, in_tests)))
        .collect();
    edges
        .iter()
        .filter(|edge| {
            let (normal, in_tests) = allowed.get(edge.from.as_str()).copied().unwrap_or_default();
            let is_normal = normal.contains(&edge.to.as_str());
            let is_known = is_normal || (edge.is_test && in_tests.contains(&edge.to.as_str()));
            !is_known
        })
        .map(|edge| {
            let place = if edge.is_test { " in tests" } else { "" };
            let message = format!(
                "may not know {}{place}: see \"Who may know whom\" in ARCHITECTURE.md",
                edge.to
            );
            Violation::new(&edge.from, message)
        })
        .collect()
}

fn reached(package: &str, built: &[&str], banned: &[&str]) -> Vec<Violation> {
    banned
        .iter()
        .filter(|name| built.contains(name))
        .map(|name| {
            let message = format!(
                "is built with {name}, at whatever distance: `cargo tree -p {package} -e normal -i {name}`"
            );
            Violation::new(package, message)
        })
        .collect()
}

fn engine_is_alone(built: &[&str]) -> Vec<Violation> {
    built
        .iter()
        .filter(|name| **name != ENGINE)
        .map(|name| {
            Violation::new(
                ENGINE,
                format!("is built with {name}; by default it has no dependency"),
            )
        })
        .collect()
}

const ENGINE: &str = "parapull-engine";

/// Crate, whom it may know, whom its tests may know besides.
const MAY_KNOW: &[(&str, &[&str], &[&str])] = &[
    (ENGINE, &[], &[]),
    ("parapull-scenario", &[ENGINE], &[]),
    ("parapull-sim", &[ENGINE, "parapull-scenario"], &[]),
    (
        "parapull-snapshotter",
        &[ENGINE, "parapull-scenario"],
        &["fake-registry"],
    ),
    ("fake-registry", &["parapull-scenario"], &[]),
    (
        "parapull-bench",
        &[
            ENGINE,
            "parapull-scenario",
            "parapull-sim",
            "parapull-snapshotter",
            "fake-registry",
        ],
        &[],
    ),
    ("xtask", &[], &[]),
];

/// What must not be found below a crate, however indirectly.
const NEVER_BELOW: &[(&str, &[&str])] = &[
    (
        "parapull-sim",
        &[
            "tokio",
            "hyper",
            "tonic",
            "axum",
            "rustls",
            "parapull-snapshotter",
            "fake-registry",
        ],
    ),
    (
        "parapull-scenario",
        &["tokio", "hyper", "tonic", "clap", "tracing"],
    ),
    (
        "parapull-snapshotter",
        &[
            "parapull-sim",
            "fake-registry",
            "parapull-bench",
            "axum",
            "plotters",
        ],
    ),
    (
        "fake-registry",
        &[
            "parapull-sim",
            "parapull-snapshotter",
            "parapull-bench",
            "tonic",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn every_member_has_its_line() {
        let metadata = Workspace::find().unwrap().metadata().unwrap();
        for package in metadata.workspace_packages() {
            assert!(
                MAY_KNOW
                    .iter()
                    .any(|(name, ..)| *name == package.name.as_str()),
                "{} is not in MAY_KNOW",
                package.name
            );
        }
    }

    #[test]
    fn a_new_edge_is_told() {
        let cases = [
            ("parapull-sim", ENGINE, false, true),
            ("parapull-snapshotter", "parapull-sim", false, false),
            ("parapull-snapshotter", "fake-registry", false, false),
            ("parapull-snapshotter", "fake-registry", true, true),
            (ENGINE, "parapull-scenario", true, false),
            ("xtask", ENGINE, false, false),
            ("a-new-crate", ENGINE, false, false),
        ];
        for (from, to, is_test, expected) in cases {
            let edge = Edge {
                from: from.into(),
                to: to.into(),
                is_test,
            };
            let kept = edges(&[edge]).is_empty();
            assert_eq!(kept, expected, "{from} -> {to}, test: {is_test}");
        }
    }

    #[test]
    fn a_banned_crate_is_told_at_any_distance() {
        let found = reached(
            "parapull-sim",
            &["parapull-sim", "indicatif", "tokio"],
            &["tokio"],
        );
        assert_eq!(found.len(), 1);
        assert_eq!(engine_is_alone(&[ENGINE, "serde"]).len(), 1);
        assert_eq!(engine_is_alone(&[ENGINE]).len(), 0);
    }
}
