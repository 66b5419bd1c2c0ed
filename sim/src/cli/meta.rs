//! `meta`: whether two processes do the same, to the byte.

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::Args;
use parapull_sim::{FailureKind, generate, line, try_observed};

#[derive(Debug, Args)]
pub(crate) struct MetaArgs {
    /// How many scenarios.
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Let the second process go another way in the last scenario, to see that it is noticed.
    #[arg(long)]
    canary: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TellArgs {
    #[command(flatten)]
    range: MetaArgs,
}

/// Starts two processes and compares what they say in lockstep; the first difference ends both.
pub(crate) fn meta(args: &MetaArgs) -> anyhow::Result<ExitCode> {
    let mut processes = [Told::start(args, false)?, Told::start(args, args.canary)?];
    let (mut scenario, mut lines) = (String::new(), 0_u64);
    loop {
        let [one, two] = &mut processes;
        let (left, right) = (one.next()?, two.next()?);
        if left != right {
            println!("{scenario}: the processes part after {lines} lines");
            for (process, line) in [("first ", &left), ("second", &right)] {
                println!(
                    "  {process} {}",
                    line.as_deref().unwrap_or("says nothing more")
                );
            }
            return Ok(ExitCode::from(FailureKind::Correctness.exit_code()));
        }
        let Some(line) = left else { break };
        lines += 1;
        if line.starts_with(SCENARIO) {
            scenario = line;
        }
    }
    for process in &mut processes {
        let status = process.child.wait()?;
        anyhow::ensure!(status.success(), "a process that runs scenarios: {status}");
    }
    println!(
        "{} scenarios went the same way in two processes: {lines} lines",
        args.seeds
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints every input and output of every scenario.
pub(crate) fn tell(args: &TellArgs) -> anyhow::Result<ExitCode> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let MetaArgs {
        seeds,
        from,
        canary,
    } = args.range;
    for seed in from..from + seeds {
        let mut scenario = generate(seed);
        writeln!(out, "{SCENARIO}{seed}")?;
        if canary && seed + 1 == from + seeds {
            scenario.host.round_trip_us += 1 + std::process::id() % 7;
        }
        let mut said = Ok(());
        let mut tell = |at: u64, what: &dyn Debug| {
            if said.is_ok() {
                said = writeln!(out, "{}", line(at, what));
            }
        };
        let result = try_observed(&scenario, &mut tell);
        said?;
        match result {
            Ok(run) => writeln!(out, "trace hash {:016x}", run.trace_hash())?,
            Err(failure) => writeln!(out, "{failure:?}")?,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A process that tells, killed when it is not wanted any more.
struct Told {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Told {
    fn start(args: &MetaArgs, canary: bool) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut command = Command::new(&program);
        command
            .args(["tell", "--seeds", &args.seeds.to_string()])
            .args(["--from", &args.from.to_string()])
            .stdout(Stdio::piped());
        if canary {
            command.arg("--canary");
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let stdout = child.stdout.take().context("a child without output")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines })
    }

    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let line = self.lines.next().transpose();
        line.context("failed to read what a process tells")
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCENARIO: &str = "seed ";
