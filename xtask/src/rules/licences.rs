//! The licences of what is built, and crates that must not be, told from cargo alone.
//!
//! `deny.toml` holds the same lists for cargo-deny; a test keeps them alike. Licence texts inside the crates are not
//! read: what counts is the expression their authors publish.

use super::Violation;
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let built = workspace.built(&["--workspace", "--edges", "normal,build,dev"])?;
    let metadata = workspace.metadata()?;
    let packages = metadata
        .packages
        .iter()
        .filter(|package| built.contains(&(package.name.to_string(), package.version.to_string())))
        .map(|package| Package {
            name: package.name.to_string(),
            version: package.version.to_string(),
            licence: package.license.clone(),
            is_from_a_registry: package
                .source
                .as_ref()
                .is_none_or(cargo_metadata::Source::is_crates_io),
        });
    Ok(packages.flat_map(|package| in_package(&package)).collect())
}

/// What is known of a package that is built.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    is_from_a_registry: bool,
}

fn in_package(package: &Package) -> Vec<Violation> {
    let place = format!("{} {}", package.name, package.version);
    let mut violations = Vec::new();
    match package.licence.as_deref() {
        None => violations.push(Violation::new(&place, "publishes no licence expression")),
        Some(licence) if !is_allowed(licence) => {
            let message = format!(
                "licence `{licence}` is outside the list in xtask/src/rules/licences.rs and deny.toml"
            );
            violations.push(Violation::new(&place, message));
        }
        Some(_) => {}
    }
    if let Some((_, why)) = BANNED.iter().find(|(name, _)| *name == package.name) {
        violations.push(Violation::new(&place, format!("is banned: {why}")));
    }
    if !package.is_from_a_registry {
        violations.push(Violation::new(
            &place,
            "comes neither from crates.io nor from here",
        ));
    }
    violations
}

/// Whether an SPDX expression can be satisfied with the allowed licences. A `/` is the old way to write `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Expression { words: &words };
    let satisfied = parser.alternatives();
    satisfied && parser.words.is_empty()
}

/// What is left of an expression to read.
struct Expression<'a> {
    words: &'a [&'a str],
}

impl<'a> Expression<'a> {
    fn alternatives(&mut self) -> bool {
        let mut satisfied = self.conjunction();
        while self.eat("OR") {
            satisfied |= self.conjunction();
        }
        satisfied
    }

    fn conjunction(&mut self) -> bool {
        let mut satisfied = self.term();
        while self.eat("AND") {
            satisfied &= self.term();
        }
        satisfied
    }

    fn term(&mut self) -> bool {
        if self.eat("(") {
            let satisfied = self.alternatives();
            return self.eat(")") && satisfied;
        }
        let licence = self.next();
        if self.eat("WITH") {
            let exception = self.next();
            return ALLOWED.contains(&format!("{licence} WITH {exception}").as_str());
        }
        ALLOWED.contains(&licence)
    }

    fn next(&mut self) -> &'a str {
        let (word, rest) = self
            .words
            .split_first()
            .map_or(("", self.words), |(w, r)| (*w, r));
        self.words = rest;
        word
    }

    fn eat(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }
}

/// Licences under which everything here is used. No more than needed: a new one is a decision.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that must not be built, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("async-std", "the runtime is tokio"),
    ("chrono", "times are integers and humantime prints them"),
    (
        "isal-rs",
        "its C code wants nasm, and igzip is containerd's, not ours",
    ),
    (
        "libz-ng-sys",
        "a stray feature would switch flate2 from zlib-rs to C",
    ),
    (
        "libz-sys",
        "a stray feature would switch flate2 from zlib-rs to C",
    ),
    ("native-tls", "TLS is rustls"),
    (
        "oci-client",
        "the registry client is ours: ranges, redirects and tokens per origin",
    ),
    ("openssl", "TLS is rustls"),
    ("openssl-sys", "TLS is rustls"),
    ("reqwest", "it hides redirects and the connection pool"),
    (
        "ring",
        "rustls uses aws-lc-rs; one crypto library is enough",
    ),
    ("sled", "metadata is in redb"),
    ("tokio-tar", "layers are read by tar-core, sans-IO"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        let cases = [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("Unlicense OR MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT AND ISC", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("ISC AND (Apache-2.0 OR ISC) AND BSD-3-Clause", true),
            ("", false),
            ("MIT OR", true),
            ("(MIT", false),
            ("MIT MIT", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_package_answers_for_name_licence_and_source() {
        let package = |name: &str, licence: Option<&str>, is_from_a_registry| Package {
            name: name.into(),
            version: "1.0.0".into(),
            licence: licence.map(Into::into),
            is_from_a_registry,
        };
        assert_eq!(in_package(&package("a", Some("MIT"), true)).len(), 0);
        assert_eq!(in_package(&package("a", None, true)).len(), 1);
        assert_eq!(
            in_package(&package("openssl", Some("GPL-2.0"), false)).len(),
            3
        );
    }

    #[test]
    fn deny_toml_holds_the_same_lists() {
        let text = Workspace::find().unwrap().read("deny.toml").unwrap();
        let quoted = |section: &str| -> BTreeSet<String> {
            let start = text.find(section).unwrap() + section.len();
            let list = text[start..].split_once("\n]").unwrap().0;
            list.lines()
                .filter_map(|line| line.split('"').nth(1))
                .map(ToOwned::to_owned)
                .collect()
        };
        let own = |names: Vec<&str>| {
            names
                .into_iter()
                .map(ToOwned::to_owned)
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(quoted("\nallow = ["), own(ALLOWED.to_vec()));
        assert_eq!(
            quoted("\ndeny = ["),
            own(BANNED.iter().map(|(name, _)| *name).collect())
        );
    }
}
