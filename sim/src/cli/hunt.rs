//! `swarm` and `replay`: hunting for broken promises, and seeing one again.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use parapull_scenario::Scenario;
use parapull_sim::{
    Bundle, Coverage, Failure, FailureKind, Point, catch_canaries, line, shrink as run_shrink,
    swarm as run_swarm, try_observed, try_scenario,
};

#[derive(Debug, Args)]
pub(crate) struct SwarmArgs {
    /// How many scenarios.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Where failing scenarios are saved.
    #[arg(long, value_name = "DIR", default_value = "results/failures")]
    out: PathBuf,
    /// Print how often each interesting state was reached.
    #[arg(long)]
    coverage: bool,
}

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

fn tell(failure: &Failure, saved: &Path) {
    println!("{:?}: {}", failure.kind(), failure.message());
    println!("replay: parapull-sim replay {}", saved.display());
}

/// Runs scenarios until one fails.
pub(crate) fn swarm(args: &SwarmArgs) -> anyhow::Result<ExitCode> {
    std::panic::set_hook(Box::new(|_| {}));
    if let Err(blind) = catch_canaries() {
        println!("the checks are blind: {blind}");
        return Ok(ExitCode::from(FailureKind::Correctness.exit_code()));
    }
    let progress = ProgressBar::new(args.seeds)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {eta}")?);
    let deadline = args.time.map(std::time::Duration::from_secs);
    let (mut seeds, mut inputs, mut ready, mut failed) = (0_u64, 0, 0, None);
    let mut coverage = Coverage::default();
    run_swarm(args.from..args.from + args.seeds, |scenario, result| {
        progress.inc(1);
        seeds += 1;
        match result {
            Ok(run) => {
                inputs += run.inputs();
                ready += run.ready();
                coverage.add(run.coverage());
            }
            Err(failure) => failed = Some((scenario.clone(), failure.clone())),
        }
        failed.is_none() && deadline.is_none_or(|deadline| progress.elapsed() < deadline)
    });
    progress.finish_and_clear();
    let Some((scenario, failure)) = failed else {
        println!("{seeds} scenarios held: {ready} pulls became ready, {inputs} inputs");
        return Ok(tell_coverage(&coverage, seeds, args.coverage));
    };
    let path = save(&scenario, &failure, &args.out)?;
    println!("{} failed", scenario.name);
    tell(&failure, &path);
    Ok(ExitCode::from(failure.exit_code()))
}

/// Tells what was never reached; after many scenarios that is a failure.
fn tell_coverage(coverage: &Coverage, seeds: u64, each: bool) -> ExitCode {
    if each {
        for (point, count) in coverage.counts() {
            println!("{count:>10} {}", point.name());
        }
    }
    let unreached = coverage.unreached();
    let all = Point::ALL.len();
    println!("{} of {all} states were reached", all - unreached.len());
    if seeds < SEEDS_FOR_COVERAGE {
        return ExitCode::SUCCESS;
    }
    for point in &unreached {
        println!("never in {seeds} scenarios: {}", point.name());
    }
    if unreached.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FailureKind::Correctness.exit_code())
    }
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
fn save(scenario: &Scenario, failure: &Failure, folder: &Path) -> anyhow::Result<PathBuf> {
    let bundle = Bundle::of(scenario, failure);
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let path = folder.join(format!("{}.json", bundle.name()?));
    let text = serde_json::to_string_pretty(&bundle)?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// After so many scenarios every interesting state must have been reached.
const SEEDS_FOR_COVERAGE: u64 = 20_000;
