//! `demo`: the main job in one command, from a fresh machine to the table.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::packages::{self, FOR_DEMO};
use crate::steps::succeed;
use crate::workspace::Workspace;

/// Pull one image with containerd alone and with parapull, compare the trees, run a container, print the table.
///
/// Installs containerd and runc where they are missing (Debian, root), builds the release binaries and runs
/// `parapull-bench demo` with the arguments given here. Without containerd it runs embedded and says so.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --embedded\n  cargo xtask demo --image ml-like:1GiB\n  \
                  cargo xtask demo -- --help     (what can be passed on)"
)]
pub(crate) struct Demo {
    /// Passed on to `parapull-bench demo`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<String>,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Workspace::find()?;
        let is_asked = |name: &str| self.arguments.iter().any(|argument| argument == name);
        if !is_asked("--embedded")
            && !is_asked("--help")
            && let Err(why) = packages::install(FOR_DEMO)
        {
            println!("containerd cannot be had here: {why:#}");
        }
        println!("building the release binaries (about four minutes the first time)");
        succeed(
            workspace
                .cargo()
                .args(["build", "--quiet", "--locked", "--release", "--bins"])
                .args(BINARIES.iter().flat_map(|package| ["--package", package])),
        )?;
        let program = workspace.binary("release", "parapull-bench");
        let status = std::process::Command::new(&program)
            .arg("demo")
            .args(&self.arguments)
            .status()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// The packages whose binaries work together in the demo; this program is running and cannot be built over.
const BINARIES: &[&str] = &[
    "parapull-bench",
    "parapull-sim",
    "parapull-snapshotter",
    "fake-registry",
];
