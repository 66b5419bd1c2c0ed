//! The command line: what is asked for, and which part answers.

mod conformance;
mod hunt;
mod meta;
#[cfg(feature = "mutants")]
mod mutants;
mod recorded;
mod run;
mod swarm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Predicts image pulls with parapull's own scheduler in virtual time, and hunts for bugs in it.
///
/// A scenario says what is pulled, on which node, from which registry and how. Everything has presets (see
/// `parapull-sim presets`); a run takes milliseconds, uses no network and always gives the same answer.
#[derive(Debug, Parser)]
#[command(name = "parapull-sim", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Predict one scenario: seconds, what bounds them, the lower bound; with --gantt a picture.
    Run(run::RunArgs),
    /// Run generated scenarios with faults and odd limits, and check every promise.
    ///
    /// Exit codes: 0 all held, 10 crash, 11 something never ends, 12 something wrong happened. The failing scenario is
    /// saved as a value and the command that replays it is printed.
    Swarm(swarm::SwarmArgs),
    /// Run a saved scenario again and check it as the swarm does; or hold the trace of a real pull against the scheduler.
    ///
    /// A trace (`.jsonl`, made by `parapull-snapshotter pull --trace F` or with `trace_dir`) is told to a fresh scheduler,
    /// which must answer the same, byte for byte. Exit codes are those of `swarm`.
    Replay(hunt::ReplayArgs),
    /// Compare the traces of named scenarios with those pinned in `sim/conformance.toml`, or pin them anew.
    Conformance(conformance::ConformanceArgs),
    /// Make a failing scenario small: it still fails in the same way.
    Shrink(hunt::ShrinkArgs),
    /// Run scenarios in two processes and compare all the engine is told and says, line by line.
    ///
    /// Exit codes: 0 byte-identical, 12 different; the first difference is printed.
    Meta(meta::MetaArgs),
    /// Plant a bug in the engine, one after another, and see that the swarm notices each.
    #[cfg(feature = "mutants")]
    Mutants(mutants::MutantsArgs),
    /// Print all the engine is told and says; `meta` compares two of these.
    #[command(hide = true)]
    Tell(meta::TellArgs),
    /// List the images, hosts, registries and strategies that have names.
    Presets,
}

const EXAMPLES: &str = "\
Examples:
  What would a 10 GiB machine-learning image take on a gp3 node, and why?
    parapull-sim run --image ml-like:10GiB --host gp3-1000 --registry s3-like --gantt pull.svg
  The same with containerd's defaults and its usual decoder:
    parapull-sim run --image ml-like:10GiB --host gp3-1000 --registry s3-like --strategy sequential --decoder unpigz
  A hundred thousand random scenarios:
    parapull-sim swarm --seeds 100000";

/// Does what was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Swarm(args) => swarm::swarm(&args),
        Command::Replay(args) => hunt::replay(&args),
        Command::Conformance(args) => conformance::conformance(&args),
        Command::Shrink(args) => hunt::shrink(&args),
        Command::Meta(args) => meta::meta(&args),
        #[cfg(feature = "mutants")]
        Command::Mutants(args) => mutants::mutants(&args),
        Command::Tell(args) => meta::tell(&args),
        Command::Presets => {
            print!("{}", parapull_sim::preset::listing());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reads a file, naming it in the error.
fn read(path: &PathBuf) -> anyhow::Result<String> {
    use anyhow::Context;
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}
