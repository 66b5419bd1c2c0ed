//! `replay` and `shrink`: seeing a broken promise again, and making it small.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use parapull_scenario::Scenario;
use parapull_sim::{Bundle, Failure, line, shrink as run_shrink, try_observed, try_scenario};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The saved scenario or failure; or, as `.jsonl`, the trace of a real pull.
    file: PathBuf,
    /// Print every input and output of the engine.
    #[arg(long)]
    trace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShrinkArgs {
    /// The failing scenario, or what was saved of its failure.
    file: PathBuf,
    /// Scenarios to try at most.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    runs: u64,
    /// Where the small scenario is saved.
    #[arg(long, value_name = "DIR", default_value = "results/failures")]
    out: PathBuf,
}

/// Makes a failing scenario small.
pub(crate) fn shrink(args: &ShrinkArgs) -> anyhow::Result<ExitCode> {
    let scenario = Bundle::scenario_in(&super::read(&args.file)?)
        .with_context(|| format!("{} is no scenario", args.file.display()))?;
    std::panic::set_hook(Box::new(|_| {}));
    let Some(shrunk) = run_shrink(&scenario, args.runs)? else {
        println!("it does not fail: there is nothing to shrink");
        return Ok(ExitCode::FAILURE);
    };
    let bytes = |scenario: &Scenario| serde_json::to_string(scenario).map(|text| text.len());
    let path = save(&shrunk.scenario, &shrunk.failure, &args.out)?;
    println!(
        "from {} to {} bytes of JSON in {} runs",
        bytes(&scenario)?,
        bytes(&shrunk.scenario)?,
        shrunk.runs
    );
    tell(&shrunk.failure, &path);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn tell(failure: &Failure, saved: &Path) {
    println!("{:?}: {}", failure.kind(), failure.message());
    println!("replay: parapull-sim replay {}", saved.display());
}

/// Runs a saved scenario again.
pub(crate) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    if args.file.extension().is_some_and(|end| end == "jsonl") {
        return super::recorded::replay(&args.file);
    }
    let scenario = Bundle::scenario_in(&super::read(&args.file)?)
        .with_context(|| format!("{} is no scenario", args.file.display()))?;
    std::panic::set_hook(Box::new(|_| {}));
    if args.trace {
        let mut tell = |at: u64, what: &dyn Debug| println!("{}", line(at, what));
        // Whether it failed is told below, after all checks.
        let _ = try_observed(&scenario, &mut tell);
    }
    Ok(match try_scenario(&scenario) {
        Ok(run) => {
            println!(
                "held: {} pulls became ready, {} inputs, trace hash {:016x}",
                run.ready(),
                run.inputs(),
                run.trace_hash()
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{:?}: {}", failure.kind(), failure.message());
            ExitCode::from(failure.exit_code())
        }
    })
}

/// Saves a failure under a name that follows from its scenario.
pub(super) fn save(
    scenario: &Scenario,
    failure: &Failure,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let bundle = Bundle::of(scenario, failure);
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let path = folder.join(format!("{}.json", bundle.name()?));
    let text = serde_json::to_string_pretty(&bundle)?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}
