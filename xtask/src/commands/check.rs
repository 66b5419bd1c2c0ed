//! `check`: everything that is judged without running the project.

mod lints;
mod purity;

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::rules::{RULES, Ratchet, Rule};
use crate::steps::{Steps, is_on_path, succeed};
use crate::workspace::Workspace;

/// Judge the code without running it: rules of the project, format, lints, documentation, licences.
///
/// Every step runs, whatever failed before it. About two minutes after a change, five from nothing on two cores.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask check --rules")]
pub(crate) struct Check {
    /// Only the rules that need no compiler: layout, length, words, dependencies, boundaries, licences
    #[arg(long)]
    rules: bool,

    /// Lower the lengths in xtask/ratchet.txt to what they are, and drop what fits its limit
    #[arg(long)]
    tighten: bool,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Workspace::find()?;
        if self.tighten {
            Ratchet::tighten(&workspace)?;
        }
        let mut steps = Steps::default();
        for rule in RULES {
            steps.run(&format!("rule: {}", rule.name), || judge(rule, &workspace));
        }
        if !self.rules {
            with_compiler(&workspace, &mut steps);
        }
        println!("\n{}", steps.table());
        if steps.failed() > 0 {
            println!("{} of the steps failed", steps.failed());
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn judge(rule: &Rule, workspace: &Workspace) -> anyhow::Result<()> {
    let mut violations = (rule.broken)(workspace)?;
    violations.sort();
    violations.dedup();
    for violation in &violations {
        println!("    {violation}");
    }
    if !violations.is_empty() {
        bail!("{} places", violations.len());
    }
    Ok(())
}

fn with_compiler(workspace: &Workspace, steps: &mut Steps) {
    steps.run("format", || {
        succeed(workspace.cargo().args(["fmt", "--all", "--check"]))
    });
    steps.run("the engine builds without std", || purity::prove(workspace));
    steps.run("clippy", || lints::find_none(workspace));
    steps.run("documentation", || {
        let scope = [
            "doc",
            "--quiet",
            "--locked",
            "--workspace",
            "--no-deps",
            "--keep-going",
        ];
        succeed(
            workspace
                .cargo()
                .args(scope)
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    });
    if is_on_path("cargo-deny") {
        steps.run("cargo deny", || {
            let lists = ["deny", "--offline", "check", "licenses", "bans", "sources"];
            succeed(workspace.cargo().args(lists))
        });
    } else {
        println!("\ncargo-deny is not installed: the rule on licences has judged alone");
    }
}
