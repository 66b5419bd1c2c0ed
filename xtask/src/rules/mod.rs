//! The rules of the project that no tool knows: who may know whom, where things stand, how long they get.
//!
//! Every rule is a function from what it reads to a list of [`Violation`]s; each is tested with made-up input, and all
//! of them are tested against this workspace, so `cargo test` fails where `cargo xtask check` would.

mod boundaries;
mod dependencies;
mod deployment;
mod determinism;
mod layout;
mod length;
mod licences;
mod lint_settings;
mod words;

use std::fmt;

use crate::workspace::Workspace;

pub(crate) use length::Ratchet;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// A file, with its line where there is one, or a package.
    pub(crate) place: String,
    /// What is wrong and what to do instead.
    pub(crate) message: String,
}

impl Violation {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }

    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), message)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// One rule with the name it has on the screen.
pub(crate) struct Rule {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Finds what breaks it.
    pub(crate) broken: fn(&Workspace) -> anyhow::Result<Vec<Violation>>,
}

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "layout",
        broken: layout::broken,
    },
    Rule {
        name: "length of files and functions",
        broken: length::broken,
    },
    Rule {
        name: "words that may not stay",
        broken: words::broken,
    },
    Rule {
        name: "dependency direction",
        broken: dependencies::broken,
    },
    Rule {
        name: "boundaries inside the snapshotter",
        broken: boundaries::broken,
    },
    Rule {
        name: "determinism of engine and sim",
        broken: determinism::broken,
    },
    Rule {
        name: "lint settings of the crates",
        broken: lint_settings::broken,
    },
    Rule {
        name: "files for deployment",
        broken: deployment::broken,
    },
    Rule {
        name: "licences and banned crates",
        broken: licences::broken,
    },
];

/// Fails with every violation on its own line.
#[cfg(test)]
fn assert_kept(broken: fn(&Workspace) -> anyhow::Result<Vec<Violation>>) {
    let violations = broken(&Workspace::find().unwrap()).unwrap();
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}
