//! `test`: everything CI runs, with one table at the end.

mod needs;
mod outcome;
mod runner;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;

use self::needs::Need;
use self::outcome::{Outcomes, Totals};
use crate::packages;
use crate::steps::{Steps, succeed};
use crate::workspace::Workspace;

/// Run everything CI runs: unit, property, contract, real registries, real containerd, simulator swarm.
///
/// As root on Debian it installs the packages the tests use. Elsewhere it names each group it skips and why, and exits 3.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask test\n\nExit codes: 0 all passed, 1 something failed, 3 all that ran \
                        passed but something was skipped."
)]
pub(crate) struct Test {
    /// Seeds of the simulator's swarm
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    seeds: u64,

    /// Show what every test prints, not only the ends of the groups
    #[arg(long)]
    verbose: bool,

    /// Do not install packages
    #[arg(long)]
    no_install: bool,
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Workspace::find()?;
        let mut steps = Steps::default();
        let mut outcomes = Outcomes::default();
        if !self.no_install && packages::is_root() {
            // What could not be installed is told as a skipped group, with the package's name.
            steps.run("packages", || packages::install(needs::PACKAGES));
        }
        let unmet = needs::unmet();
        for need in &unmet {
            println!("SKIPPED {}: {}", need.group, need.why());
        }
        let is_built = steps.run("build", || build(&workspace));
        if is_built {
            if !self.no_install && unmet.is_empty() {
                // The tests find them too, but then a download would count as a test's time. They also tell what is missing.
                steps.run("containerd generations", || containerds(&workspace));
            }
            let all_well = steps.run("tests", || {
                runner::run(&workspace, unmet.is_empty(), self.verbose, &mut outcomes)
            });
            if !all_well && outcomes.totals().failed == 0 {
                // Something ended badly that is no test, such as an example in the documentation that does not compile.
                outcomes.group("cargo test").count(false);
            }
            let swarm = format!("simulator swarm, {} seeds", self.seeds);
            let passed = steps.run(&swarm, || run_swarm(&workspace, self.seeds));
            outcomes.group("sim: swarm command").count(passed);
            let passed = steps.run("simulator in two processes", || run_meta(&workspace));
            outcomes.group("sim: meta command").count(passed);
            let passed = steps.run("planted bugs", || run_mutants(&workspace));
            outcomes.group("sim: mutants command").count(passed);
        } else {
            outcomes.group("build").count(false);
        }
        Ok(conclude(&steps, &outcomes, &unmet))
    }
}

/// Prints the tables and the closing line, and decides how the command ends.
fn conclude(steps: &Steps, outcomes: &Outcomes, unmet: &[Need]) -> ExitCode {
    println!("\n{}", steps.table());
    print!("{}", outcomes.table());
    for need in unmet {
        println!("skipped: {}: {}", need.group, need.why());
    }
    let totals = outcomes.totals();
    // The line stands alone, so that a program can read it.
    println!("\n{} passed, {} failed", totals.passed, totals.failed);
    ExitCode::from(code(totals, outcomes.is_complete(), unmet.len()))
}

/// How the command ends: a failure is worse than something skipped, and nothing having run is a failure.
const fn code(totals: Totals, anything_ran: bool, groups_unmet: usize) -> u8 {
    if totals.failed > 0 || !anything_ran {
        1
    } else if totals.skipped > 0 || groups_unmet > 0 {
        SKIPPED
    } else {
        0
    }
}

/// Builds what the tests start and what they are, in one go: two selections would be two builds of what they share.
fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let build = ["build", "--quiet", "--locked", "--workspace"];
    let cargo = &mut workspace.cargo();
    succeed(cargo.args(build).args(KILLABLE).args(["--bins", "--tests"]))
}

/// Unpacks the containerds that Debian 12 does not have into a cache, and prints which they are.
fn containerds(workspace: &Workspace) -> anyhow::Result<()> {
    succeed(Command::new(workspace.binary("debug", "parapull-bench")).arg("containerds"))
}

/// Thousands of small pulls with faults, each from its seed. In the dev profile, where engine and simulator are
/// optimised and every assertion holds.
fn run_swarm(workspace: &Workspace, seeds: u64) -> anyhow::Result<()> {
    let program = workspace.binary("debug", "parapull-sim");
    let status = Command::new(&program)
        .args(["swarm", "--seeds", &seeds.to_string()])
        .args(["--time", &SWARM_SECONDS_MAX.to_string()])
        .current_dir(workspace.root())
        .status()
        .with_context(|| format!("failed to start {}", program.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(10) => bail!("a seed crashed the engine or the simulator"),
        Some(11) => bail!("a seed did not come to its end"),
        Some(12) => bail!("a seed came to a wrong end"),
        _ => bail!("{} swarm: {status}", program.display()),
    }
}

/// The same scenarios in two processes, compared line by line.
fn run_meta(workspace: &Workspace) -> anyhow::Result<()> {
    let mut meta = Command::new(workspace.binary("debug", "parapull-sim"));
    succeed(meta.args(["meta", "--seeds", "200"]))
}

/// Bugs planted in the engine, each of which the swarm must notice. They are a build of their own: no other has them.
fn run_mutants(workspace: &Workspace) -> anyhow::Result<()> {
    let run = ["run", "--quiet", "--locked", "--package", "parapull-sim"];
    let hunt = ["--features", "mutants", "--", "mutants"];
    succeed(workspace.cargo().args(run).args(hunt))
}

/// Everything is built once, with the snapshotter that can be killed between any two of its effects.
const KILLABLE: [&str; 2] = ["--features", "parapull-snapshotter/kill-points"];

/// The exit code that says that something was skipped.
const SKIPPED: u8 = 3;

/// The swarm ends here even with seeds left, so that the whole command stays under 40 minutes on two slow cores.
const SWARM_SECONDS_MAX: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_failed_from_skipped() {
        let cases = [
            ((5, 0, 0), true, 0, 0),
            ((5, 1, 0), true, 0, 1),
            ((5, 1, 2), true, 1, 1),
            ((5, 0, 2), true, 0, 3),
            ((5, 0, 0), true, 1, 3),
            ((0, 0, 0), false, 1, 1),
        ];
        for ((passed, failed, skipped), anything_ran, groups_unmet, expected) in cases {
            let totals = Totals {
                passed,
                failed,
                skipped,
            };
            assert_eq!(
                code(totals, anything_ran, groups_unmet),
                expected,
                "{totals:?}, {groups_unmet} groups"
            );
        }
    }
}
