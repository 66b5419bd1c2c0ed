//! `parapull-bench`: pulls the same image in every way, checks that the trees are identical, and writes a report.

#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use parapull_bench::processes::interrupt;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    let filter = EnvFilter::try_from_env("PARAPULL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = interrupt::watch() {
        tracing::warn!(%error, "Ctrl-C will not clean up");
    }
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::requested() => {
            eprintln!("interrupted: everything that was started is stopped and removed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
