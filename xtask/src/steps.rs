//! Steps on the screen: a heading before each, how long it took after it, a table at the end.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

/// One step and how it ended.
#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    failure: Option<String>,
}

impl Steps {
    /// Prints the heading, does the step and notes its end. A step that returns an error has failed; the ones after it
    /// are done all the same, so that one run tells everything.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<()>) -> bool {
        println!("\n==> {name}");
        let started = Instant::now();
        let failure = step().err().map(|error| format!("{error:#}"));
        let took = started.elapsed();
        match &failure {
            None => println!("    ok, {}", seconds(took)),
            Some(why) => println!("    FAILED, {}: {why}", seconds(took)),
        }
        let is_well = failure.is_none();
        self.done.push(Step {
            name: name.to_owned(),
            took,
            failure,
        });
        is_well
    }

    /// How many steps failed.
    pub(crate) fn failed(&self) -> usize {
        self.done
            .iter()
            .filter(|step| step.failure.is_some())
            .count()
    }

    /// One line per step: how it ended, how long it took, its name.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for step in &self.done {
            let end = if step.failure.is_some() {
                "FAILED"
            } else {
                "ok"
            };
            let _ = writeln!(table, "{end:<7} {:>8}  {}", seconds(step.took), step.name);
        }
        table
    }
}

/// A duration as tables show it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Runs a command that writes to the screen itself.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("failed to start {}", shown(command)))?;
    anyhow::ensure!(status.success(), "`{}` ended with {status}", shown(command));
    Ok(())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a program of this name is on `PATH`.
pub(crate) fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_next() {
        let mut steps = Steps::default();
        steps.run("first", || anyhow::bail!("no"));
        steps.run("second", || Ok(()));
        assert_eq!(steps.failed(), 1);
        let table = steps.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("FAILED") && lines[0].ends_with("first"));
        assert!(lines[1].starts_with("ok") && lines[1].ends_with("second"));
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        let mut command = Command::new("/opt/bin/cargo");
        assert_eq!(shown(command.args(["fmt", "--all"])), "cargo fmt --all");
    }
}
