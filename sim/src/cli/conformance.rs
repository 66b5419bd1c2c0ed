//! `conformance`: whether the scheduler decides as it was pinned.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use parapull_sim::{FailureKind, Pins, differences, pinned_text, traces};

#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// Write the file anew.
    #[arg(long)]
    pin: bool,
    /// The file.
    #[arg(long, value_name = "F.toml", default_value = "sim/conformance.toml")]
    file: PathBuf,
}

/// Compares, or pins.
pub(crate) fn conformance(args: &ConformanceArgs) -> anyhow::Result<ExitCode> {
    let traces = traces()?;
    if args.pin {
        std::fs::write(&args.file, pinned_text(&traces))
            .with_context(|| format!("failed to write {}", args.file.display()))?;
        println!("{} scenarios are pinned", traces.len());
        return Ok(ExitCode::SUCCESS);
    }
    let pinned: Pins = toml::from_str(&super::read(&args.file)?)
        .with_context(|| format!("{} pins nothing", args.file.display()))?;
    let told = differences(&pinned, &traces);
    for line in &told {
        println!("{line}");
    }
    if told.is_empty() {
        println!("{} scenarios go as pinned", traces.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("if this is meant: cargo run -p parapull-sim -- conformance --pin");
    Ok(ExitCode::from(FailureKind::Correctness.exit_code()))
}
