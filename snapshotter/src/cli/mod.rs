//! The commands of `parapull-snapshotter`: what is typed, and what is printed.

mod config;
mod failure;
mod index;
mod pull;
mod pull_client;
mod pull_report;
mod runtimes;
mod serve;
mod signals;
mod status;
mod stop;

use std::process::ExitCode;

use clap::Subcommand;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve containerd's snapshots API on a unix socket.
    Serve(serve::Serve),
    /// Pull one image into a directory, or into containerd as its client.
    Pull(Box<pull::PullCommand>),
    /// Print the default or effective configuration, or check a file.
    Config(config::ConfigArgs),
    /// Index gzip layers for inflating on several threads.
    Index(index::IndexArgs),
    /// Show what a running daemon is pulling.
    Status(status::StatusCommand),
}

impl Command {
    /// Does it; the exit code is 0 on success, 1 on failure, 2 on misuse.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Pull(pull) => pull.run(),
            Self::Config(arguments) => printed("config", |out| config::run(&arguments, out)),
            Self::Index(arguments) => printed("index", |out| index::run(&arguments, out)),
            Self::Status(status) => status.run(),
        }
    }
}

fn printed(
    name: &str,
    run: impl FnOnce(&mut dyn std::io::Write) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    match run(&mut std::io::stdout().lock()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
