//! `cargo xtask demo | test | check | soak`: the two commands of the README and the developer's habits.
//!
//! It starts cargo and the project's own programs, and reads the project's files. It links nothing of the project, so
//! that a broken crate cannot keep its own rules from being told.

mod commands;
mod packages;
mod rules;
mod source;
mod steps;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a developer does with parapull, each in one command.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Example:\n  cargo xtask demo --embedded\n\nExit codes: 0 all well, 1 something failed, 2 misuse, 3 \
                  something was skipped (`test`)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::Demo),
    Test(commands::Test),
    Check(commands::Check),
    Soak(commands::Soak),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Soak(command) => command.run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
