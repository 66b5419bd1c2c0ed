//! `parapull-snapshotter`: serves containerd, or pulls one image without it.

use std::process::ExitCode;

use clap::Parser;

mod cli;

use cli::Command;

/// Pulls whole container images in parallel: every layer fetched in ranges and unpacked while its bytes arrive.
///
/// As a containerd proxy snapshotter:
///
///     parapull-snapshotter serve --address unix:///run/parapull/snapshotter.sock
///
/// Without containerd:
///
///     parapull-snapshotter pull registry.example/ml/train:latest --to ./rootfs
///
/// Exit codes: 0 success, 1 failure, 2 misuse.
#[derive(Parser)]
#[command(version, verbatim_doc_comment, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    Arguments::parse().command.run()
}
