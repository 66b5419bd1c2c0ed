//! Runs `cargo test` once for the whole workspace and tells its lines apart by the runner they come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use cargo_metadata::Message;

use super::outcome::Outcomes;
use crate::workspace::Workspace;

/// Runs every test and documentation example. With `is_all` set, a test that would skip itself has to fail.
///
/// # Errors
/// When a test failed or cargo could not run them.
pub(super) fn run(
    workspace: &Workspace,
    is_all: bool,
    verbose: bool,
    outcomes: &mut Outcomes,
) -> anyhow::Result<()> {
    let runners = runners(workspace)?;
    let log_path = workspace.target().join("xtask-test.log");
    let mut log = File::create(&log_path)
        .with_context(|| format!("failed to create {}", log_path.display()))?;
    let mut cargo = workspace.cargo();
    // `--show-output`, because the words of a test that passes are hidden, and SKIPPED is one of them.
    cargo
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .args(super::KILLABLE)
        .args(["--", "--show-output"]);
    if is_all {
        cargo.env("PARAPULL_REQUIRE_ALL", "1");
    }
    let mut screen = Screen::new(verbose);
    let status = lines(&mut cargo, |line| {
        writeln!(log, "{line}")?;
        if let Some(group) = group_of(line, &runners) {
            outcomes.start(&group);
        } else {
            outcomes.read(line);
        }
        screen.show(line);
        Ok(())
    })?;
    outcomes.close();
    println!("    everything the tests printed: {}", log_path.display());
    if !status.success() {
        bail!("cargo test ended with {status}");
    }
    Ok(())
}

/// Which group each test program belongs to, by its path.
fn runners(workspace: &Workspace) -> anyhow::Result<BTreeMap<String, String>> {
    let arguments = ["test", "--quiet", "--locked", "--workspace", "--no-run"];
    let output = workspace
        .cargo()
        .args(arguments)
        .args(super::KILLABLE)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start cargo test")?;
    if !output.status.success() {
        bail!("cargo test --no-run ended with {}", output.status);
    }
    let mut runners = BTreeMap::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message?
            && let Some(program) = artifact.executable.filter(|_| artifact.profile.test)
        {
            let folder = artifact.manifest_path.parent();
            let package = folder.and_then(|folder| folder.file_name()).unwrap_or("");
            let is_unit = !artifact.target.is_test();
            let target = if is_unit {
                "units"
            } else {
                artifact.target.name.as_str()
            };
            let name = program.file_name().unwrap_or_default().to_owned();
            runners.insert(name, format!("{package}: {target}"));
        }
    }
    Ok(runners)
}

/// The group whose runner this line announces, if it does.
fn group_of(line: &str, runners: &BTreeMap<String, String>) -> Option<String> {
    let line = line.trim_start();
    if let Some(crate_name) = line.strip_prefix("Doc-tests ") {
        let crate_name = crate_name.strip_prefix("parapull_").unwrap_or(crate_name);
        return Some(format!("{}: documentation", crate_name.replace('_', "-")));
    }
    let path = line.strip_prefix("Running ")?.rsplit_once('(')?.1;
    let name = path.trim_end_matches(')').rsplit('/').next()?;
    Some(
        runners
            .get(name)
            .map_or_else(|| name.to_owned(), Clone::clone),
    )
}

/// Starts a command and hands over every line of its two outputs, in the order they were written.
fn lines(
    command: &mut Command,
    mut each: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<std::process::ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("failed to start cargo")?;
    // The command still holds the writing ends; without this the end of the output never comes.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(reader).split(b'\n') {
        each(&String::from_utf8_lossy(&line?))?;
    }
    Ok(child.wait()?)
}

/// What of the runners' output is worth the reader's time: announcements, results, what was skipped and what failed.
struct Screen {
    is_verbose: bool,
    /// Inside the part where a runner tells its failures.
    is_in_failures: bool,
}

impl Screen {
    const fn new(is_verbose: bool) -> Self {
        Self {
            is_verbose,
            is_in_failures: false,
        }
    }

    fn show(&mut self, line: &str) {
        if self.is_worth_showing(line) {
            println!("{line}");
        }
    }

    fn is_worth_showing(&mut self, line: &str) -> bool {
        let text = line.trim_start();
        let is_result = text.starts_with("test result: ");
        if line == "failures:" {
            self.is_in_failures = true;
        } else if is_result {
            self.is_in_failures = false;
        }
        let is_news = is_result
            || ["Running ", "Doc-tests ", "SKIPPED ", "error", "warning"]
                .iter()
                .any(|start| text.starts_with(start));
        self.is_verbose || self.is_in_failures || is_news || line.ends_with("... FAILED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_known_by_its_program() {
        let runners = BTreeMap::from([("contract-0a1b".to_owned(), "engine: contract".to_owned())]);
        let cases = [
            (
                "     Running tests/contract.rs (target/debug/deps/contract-0a1b)",
                Some("engine: contract"),
            ),
            (
                "     Running unittests src/lib.rs (/build/debug/deps/other-77)",
                Some("other-77"),
            ),
            (
                "   Doc-tests parapull_engine",
                Some("engine: documentation"),
            ),
            ("test a ... ok", None),
            ("Running late", None),
        ];
        for (line, expected) in cases {
            assert_eq!(group_of(line, &runners).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn failures_are_shown_whole_and_successes_are_not() {
        let mut screen = Screen::new(false);
        let shown: Vec<bool> = [
            "test a ... ok",
            "test b ... FAILED",
            "successes:",
            "---- a stdout ----",
            "failures:",
            "---- b stdout ----",
            "assertion failed",
            "test result: FAILED. 1 passed; 1 failed",
            "running 2 tests",
        ]
        .into_iter()
        .map(|line| screen.is_worth_showing(line))
        .collect();
        assert_eq!(
            shown,
            [false, true, false, false, true, true, true, true, false]
        );
    }

    #[test]
    fn both_outputs_come_in_their_order() {
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 4"]);
        let status = lines(&mut command, |line| {
            seen.push(line.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["one", "two", "three"]);
        assert_eq!(status.code(), Some(4));
    }
}
