//! `swarm`: hunting for broken promises, on every core.
//!
//! A scenario runs in one thread and knows nothing of the others. Seeds are handed out in order, and when one fails all
//! before it are run to their end, so the one told is the same however many run at once.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use parapull_scenario::Scenario;
use parapull_sim::{Coverage, Failure, FailureKind, Point, catch_canaries, swarm as run_swarm};

use super::hunt::{save, tell};

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
    /// How many scenarios run at once; as many as there are cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Print how often each interesting state was reached.
    #[arg(long)]
    coverage: bool,
}

/// What scenarios came to.
#[derive(Default)]
struct Tally {
    seeds: u64,
    inputs: u64,
    ready: usize,
    coverage: Coverage,
    failed: Option<(Scenario, Failure)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.inputs += other.inputs;
        self.ready += other.ready;
        self.coverage.add(&other.coverage);
        let seed = |failed: &Option<(Scenario, Failure)>| {
            failed
                .as_ref()
                .map_or(u64::MAX, |(scenario, _)| scenario.seed)
        };
        if seed(&other.failed) < seed(&self.failed) {
            self.failed = other.failed;
        }
    }
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
    let tally = run_all(args, &progress);
    progress.finish_and_clear();
    let Some((scenario, failure)) = tally.failed else {
        let Tally {
            seeds,
            ready,
            inputs,
            ..
        } = tally;
        println!("{seeds} scenarios held: {ready} pulls became ready, {inputs} inputs");
        return Ok(tell_coverage(&tally.coverage, seeds, args.coverage));
    };
    let path = save(&scenario, &failure, &args.out)?;
    println!("{} failed", scenario.name);
    tell(&failure, &path);
    Ok(ExitCode::from(failure.exit_code()))
}

fn run_all(args: &SwarmArgs, progress: &ProgressBar) -> Tally {
    let jobs = args
        .jobs
        .or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    // Counted from the first seed.
    let (next, end) = (AtomicU64::new(0), AtomicU64::new(args.seeds));
    let deadline = args.time.map(Duration::from_secs);
    let work = || {
        let in_time = || deadline.is_none_or(|deadline| progress.elapsed() < deadline);
        let mut tally = Tally::default();
        while in_time() && tally.failed.is_none() {
            let from = next.fetch_add(SEEDS_AT_ONCE, Ordering::Relaxed);
            let to = (from + SEEDS_AT_ONCE).min(end.load(Ordering::Relaxed));
            if from >= to {
                break;
            }
            run_some(args.from + from..args.from + to, &mut tally, in_time);
            progress.inc(to - from);
            if let Some((scenario, _)) = &tally.failed {
                end.fetch_min(scenario.seed - args.from, Ordering::Relaxed);
            }
        }
        tally
    };
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..jobs).map(|_| scope.spawn(work)).collect();
        all.add(work());
        for other in others {
            match other.join() {
                Ok(tally) => all.add(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all
}

fn run_some(seeds: std::ops::Range<u64>, tally: &mut Tally, in_time: impl Fn() -> bool) {
    run_swarm(seeds, |scenario, result| {
        tally.seeds += 1;
        match result {
            Ok(run) => {
                tally.inputs += run.inputs();
                tally.ready += run.ready();
                tally.coverage.add(run.coverage());
            }
            Err(failure) => tally.failed = Some((scenario.clone(), failure.clone())),
        }
        tally.failed.is_none() && in_time()
    });
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

/// After so many scenarios every interesting state must have been reached.
const SEEDS_FOR_COVERAGE: u64 = 20_000;
/// How many a thread takes in one go.
const SEEDS_AT_ONCE: u64 = 64;
