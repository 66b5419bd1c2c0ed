//! The command line: what it accepts, and one module per command.

mod compare;
mod compatibility;
mod containerds;
mod demo;
mod limits;
mod output;
mod progress;
mod report;
mod rpc_load;
mod unpack;
mod unpack_one;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parapull_bench::processes::Programs;
use parapull_bench::pulls::{RegistryKind, StageOptions};

/// Pulls the same image in every way, checks that the trees are identical, and writes a report with pictures.
#[derive(Debug, Parser)]
#[command(
    name = "parapull-bench",
    version,
    after_help = "Start here:\n  parapull-bench demo                     one image, containerd against parapull\n  \
                  parapull-bench compare --image ml-like:1GiB --strategies sequential,streamed \\\n      \
                  --peers containerd --reps 5 --out results/ml-like\n\nEverything runs on loopback and below one \
                  directory that is removed at the end, also after Ctrl-C.\nLogging: PARAPULL_LOG=debug."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pull one image with containerd's overlayfs and with parapull, compare the trees, run a container.
    Demo(demo::Demo),
    /// Pull images in several ways, interleaved and repeated, and write a report.
    Compare(compare::Compare),
    /// Pull through each containerd generation in every way, and judge it beside containerd's own overlayfs.
    Compatibility(compatibility::CompatibilityCommand),
    /// Find or unpack the containerd generations that are tested side by side.
    Containerds(containerds::Containerds),
    /// Measure what this machine can do at best: fetch, hash, inflate, write, create files.
    Limits(limits::LimitsCommand),
    /// Show the report in a folder, and draw its pictures again.
    Report(report::ReportCommand),
    /// Measure how soon small calls to the snapshotter are answered while it pulls.
    RpcLoad(rpc_load::RpcLoad),
    /// Unpack layers beside everybody who unpacks them, and count what it costs.
    Unpack(unpack::Unpack),
    /// Unpack one layer, as the contender `parapull` does.
    #[command(hide = true)]
    UnpackOne(unpack_one::UnpackOne),
}

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Demo(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Compatibility(command) => command.run(),
        Command::Containerds(command) => command.run(),
        Command::Limits(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::RpcLoad(command) => command.run(),
        Command::Unpack(command) => command.run(),
        Command::UnpackOne(command) => command.run(),
    }
}

/// Where the image comes from and where it is pulled to; the same for every command.
#[derive(Debug, Clone, Args)]
struct StageArguments {
    /// The registry that serves the image: the project's own with profiles, or Debian's docker-registry
    #[arg(long, value_enum, default_value_t = RegistryArgument::Fake)]
    registry: RegistryArgument,

    /// Profile of the fake registry, a name or a file (latency, rates, authentication)
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,

    /// Work in this folder instead of a tmpfs mounted for the run; the report names the file system
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,

    /// Look for parapull-snapshotter and fake-registry here instead of beside this program
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Start this containerd, with ctr and the shim beside it, instead of the installed one
    #[arg(long, value_name = "PROGRAM", env = "PARAPULL_CONTAINERD")]
    containerd: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RegistryArgument {
    Fake,
    Docker,
}

impl StageArguments {
    fn options(&self, image: &str) -> StageOptions {
        StageOptions {
            image: image.into(),
            registry: match self.registry {
                RegistryArgument::Fake => RegistryKind::Fake,
                RegistryArgument::Docker => RegistryKind::Docker,
            },
            profile: self.profile.clone(),
            work: self.work.clone(),
            programs: self
                .programs
                .as_deref()
                .map_or_else(Programs::beside_this_one, Programs::in_directory),
            containerd: self.containerd.clone(),
        }
    }
}

/// This program's command line, as reports quote it.
fn command_line() -> String {
    let arguments = std::env::args().skip(1).map(|argument| {
        if argument.contains([' ', '\'', '"', '$']) {
            format!("'{argument}'")
        } else {
            argument
        }
    });
    std::iter::once("parapull-bench".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
