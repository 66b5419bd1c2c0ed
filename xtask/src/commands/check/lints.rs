//! Clippy over everything, with no warning let through.
//!
//! The warnings are counted here instead of made errors with `-D warnings`: an error in one crate would hide those of
//! every crate above it, and the flag would build everything anew.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use cargo_metadata::Message;

use crate::workspace::Workspace;

/// Runs clippy on all targets and prints each finding once.
///
/// # Errors
/// When there is a finding, or code that does not compile.
pub(super) fn find_none(workspace: &Workspace) -> anyhow::Result<()> {
    let scope = [
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
    ];
    let output = workspace
        .cargo()
        .args(scope)
        .args(["--keep-going", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo clippy")?;
    let findings = findings(&output.stdout)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    if !output.status.success() {
        bail!("cargo clippy ended with {}", output.status);
    }
    Ok(())
}

/// What the compiler would have shown. A file that is in two targets tells its findings twice.
fn findings(messages: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    let mut findings = BTreeSet::new();
    for message in Message::parse_stream(messages) {
        if let Message::CompilerMessage(found) = message?
            && let Some(text) = found.message.rendered
            // Closing words such as "1 warning emitted" point nowhere.
            && !found.message.spans.is_empty()
        {
            findings.insert(text);
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(rendered: &str, spans: &str) -> String {
        let target = r#"{"kind":["lib"],"crate_types":["lib"],"name":"a","src_path":"/a.rs","edition":"2024","doctest":true,"test":true,"doc":true}"#;
        format!(
            r#"{{"reason":"compiler-message","package_id":"a","target":{target},"message":{{"message":"m","code":null,"level":"warning","spans":[{spans}],"children":[],"rendered":"{rendered}"}}}}"#
        )
    }

    #[test]
    fn each_finding_counts_once_and_closing_words_do_not() {
        let span = r#"{"file_name":"a.rs","byte_start":0,"byte_end":1,"line_start":1,"line_end":1,"column_start":1,"column_end":2,"is_primary":true,"text":[],"label":null,"suggested_replacement":null,"suggestion_applicability":null,"expansion":null}"#;
        let lines = [
            message("one", span),
            message("one", span),
            message("two", span),
            message("2 warnings emitted", ""),
        ];
        let found = findings(lines.join("\n").as_bytes()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    }
}
