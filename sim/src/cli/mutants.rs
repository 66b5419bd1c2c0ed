//! `mutants`: whether the swarm notices bugs that were planted.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use parapull_engine::Mutant;
use parapull_sim::{Caught, FailureKind, hunt_mutant};

#[derive(Debug, Args)]
pub(crate) struct MutantsArgs {
    /// Scenarios until a planted bug counts as not noticed.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// Only this one.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Write the table into this file.
    #[arg(long, value_name = "F.md")]
    out: Option<PathBuf>,
}

/// Hunts each planted bug and tells how long it lived.
pub(crate) fn mutants(args: &MutantsArgs) -> anyhow::Result<ExitCode> {
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = |mutant: &&Mutant| {
        args.mutant
            .as_deref()
            .is_none_or(|name| mutant.name() == name)
    };
    let mutants: Vec<Mutant> = Mutant::ALL.iter().filter(wanted).copied().collect();
    anyhow::ensure!(!mutants.is_empty(), "known are {}", names());
    let mut rows = String::new();
    let mut alive = Vec::new();
    for mutant in mutants {
        let caught = hunt_mutant(mutant, args.seeds);
        let row = row(mutant, caught.as_ref());
        print!("{row}");
        rows.push_str(&row);
        if caught.is_none() {
            alive.push(mutant.name());
        }
    }
    if let Some(path) = &args.out {
        let text = format!("{HEADING}{rows}");
        std::fs::write(path, text)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    if alive.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("not noticed: {}", alive.join(", "));
    Ok(ExitCode::from(FailureKind::Correctness.exit_code()))
}

fn row(mutant: Mutant, caught: Option<&Caught>) -> String {
    let mut row = format!("| {} | {} |", mutant.name(), mutant.breaks().trim());
    let _ = match caught {
        Some(caught) => {
            let kind = format!("{:?}", caught.failure.kind()).to_lowercase();
            let check = caught.failure.check().replace('|', "/");
            writeln!(row, " {} | {kind}: {check} |", caught.seeds)
        }
        None => writeln!(row, " not caught | |"),
    };
    row
}

fn names() -> String {
    let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
    names.join(", ")
}

const HEADING: &str = "\
# Planted bugs and what noticed them

Each bug is planted in the engine (`engine/src/mutant.rs`), alone, and scenarios run from seed 0 on until one fails. Made by

    cargo run --profile sim -p parapull-sim --features mutants -- mutants --out results/mutants.md

| bug | what it breaks | scenarios until it was noticed | by which check |
|---|---|---:|---|
";
