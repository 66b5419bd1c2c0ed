//! Words that may be typed while working but not stay: unfinished code, disabled tests, sleeps in tests, `unsafe`.

use super::Violation;
use crate::source::{Source, has_word};
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    Ok(workspace.sources()?.iter().flat_map(in_source).collect())
}

fn in_source(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (line, code) in source.numbered_code() {
        for (word, instead) in UNFINISHED.iter().chain(UNSAFE) {
            if has_word(code, word) && !is_allowed(ALLOWED, &source.path, word) {
                violations.push(Violation::at(
                    &source.path,
                    line,
                    format!("`{word}`: {instead}"),
                ));
            }
        }
        for word in SLEEPS {
            if source.is_test(line)
                && has_word(code, word)
                && !is_allowed(ALLOWED, &source.path, word)
            {
                let message = format!("`{word}` in a test: wait for an event or use virtual time");
                violations.push(Violation::at(&source.path, line, message));
            }
        }
    }
    for (at, comment) in source.comments.lines().enumerate() {
        for word in MARKS {
            if has_word(comment, word) {
                let message =
                    format!("`{word}`: finish it, or write it down where issues are kept");
                violations.push(Violation::at(&source.path, at + 1, message));
            }
        }
    }
    violations
}

fn is_allowed(allowed: &[(&str, &str, &str)], path: &str, word: &str) -> bool {
    allowed
        .iter()
        .any(|&(at, what, _)| what == word && path.starts_with(at))
}

const UNFINISHED: &[(&str, &str)] = &[
    (
        "todo!",
        "finish it, or return an error that says what is missing",
    ),
    (
        "unimplemented!",
        "finish it, or return an error that says what is missing",
    ),
    ("dbg!", "use tracing"),
    (
        "#[ignore",
        "a test that cannot run says SKIPPED and why; a slow one belongs in `cargo xtask soak`",
    ),
];

const UNSAFE: &[(&str, &str)] = &[(
    "unsafe",
    "rustix has a safe call for it; otherwise allow the file in xtask/src/rules/words.rs with the reason",
)];

const SLEEPS: &[&str] = &["thread::sleep(", "time::sleep("];

const MARKS: &[&str] = &["TODO", "FIXME", "XXX"];

/// Where a word is right: file or folder, word, reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "snapshotter/tests/registry_turmoil.rs",
        "time::sleep(",
        "turmoil's clock is virtual: a host that sleeps costs no time",
    ),
    (
        "fake-registry/src/throttle.rs",
        "time::sleep(",
        "tokio's paused clock: the throttle is about time",
    ),
    (
        "snapshotter/src/inflate/raw.rs",
        "unsafe",
        "block borders, bit offsets and windows of DEFLATE are reached by zlib's C interface only",
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
    fn words_count_where_they_are_code_and_marks_where_they_are_comments() {
        let cases = [
            ("a/src/b.rs", "fn a() { todo!() }", 1),
            (
                "a/src/b.rs",
                "fn a() { say(\"todo!\") } // dbg! is fine here",
                0,
            ),
            ("a/src/b.rs", "// FIXME later", 1),
            ("a/src/b.rs", "let name = \"/tmp/a.XXX\";", 0),
            ("a/src/b.rs", "#[ignore = \"slow\"]\nfn a() {}", 1),
            ("a/src/b.rs", "unsafe { a() }", 1),
            ("a/src/b.rs", "#![forbid(unsafe_code)]", 0),
            ("a/src/b.rs", "std::thread::sleep(a);", 0),
            ("a/tests/b.rs", "std::thread::sleep(a);", 1),
            (
                "a/src/b.rs",
                "#[cfg(test)]\nmod tests {\n fn a() { tokio::time::sleep(b).await }\n}",
                1,
            ),
            (
                "snapshotter/tests/registry_turmoil.rs",
                "tokio::time::sleep(b).await",
                0,
            ),
        ];
        for (path, text, expected) in cases {
            let found = in_source(&Source::new(path, text));
            assert_eq!(found.len(), expected, "{path}: {text}: {found:?}");
        }
    }
}
