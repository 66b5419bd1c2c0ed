//! `run`: one scenario, its prediction and its picture.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use parapull_engine::Strategy;
use parapull_scenario::{Decoder, Scenario};
use parapull_sim::{Prediction, Run, gantt, preset};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A scenario file (JSON). Without one, --image, --host and --registry make the scenario.
    scenario: Option<PathBuf>,
    /// An image: preset[:SIZE of the uncompressed layers] or a craft file as JSON.
    #[arg(long, value_name = "I", conflicts_with = "scenario")]
    image: Option<String>,
    /// A host: a name or a JSON file.
    #[arg(long, value_name = "H", default_value = "laptop")]
    host: String,
    /// A registry: a name or a JSON file.
    #[arg(long, value_name = "R", default_value = "loopback")]
    registry: String,
    /// sequential, multipart, store-then-unpack or streamed.
    #[arg(long, value_name = "S")]
    strategy: Option<Strategy>,
    /// Stand for a peer's gzip decoder: go, unpigz, igzip or zlib-rs.
    #[arg(long, value_name = "D", value_parser = preset::decoder)]
    decoder: Option<Decoder>,
    /// Decides the latencies and the jitter.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON document and nothing else.
    #[arg(long)]
    json: bool,
    /// Draw the pull into this SVG file.
    #[arg(long, value_name = "F.svg")]
    gantt: Option<PathBuf>,
}

/// Runs and tells.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let scenario = scenario(args)?;
    let run = Run::of(&scenario)?;
    let prediction = run.prediction();
    if let Some(path) = &args.gantt {
        let picture = gantt::draw(&run).context("failed to draw the pull")?;
        std::fs::write(path, picture)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&prediction)?);
    } else {
        print!("{}", tell(&prediction));
    }
    Ok(ExitCode::SUCCESS)
}

fn scenario(args: &RunArgs) -> anyhow::Result<Scenario> {
    let mut scenario = match (&args.scenario, &args.image) {
        (Some(path), _) => serde_json::from_str(&super::read(path)?)
            .with_context(|| format!("{} is no scenario", path.display()))?,
        (None, Some(image)) => Scenario::single(
            preset::image(image)?,
            preset::host(&args.host)?,
            preset::registry(&args.registry)?,
            Strategy::Streamed,
        ),
        (None, None) => {
            bail!("give a scenario file or --image; `parapull-sim presets` lists names")
        }
    };
    if let Some(strategy) = args.strategy {
        scenario.strategy = strategy;
    }
    if let Some(decoder) = args.decoder {
        scenario.host = scenario.host.with_decoder(decoder);
    }
    if let Some(seed) = args.seed {
        scenario.seed = seed;
    }
    Ok(scenario)
}

fn tell(prediction: &Prediction) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let gib = |bytes: u64| parapull_sim::bytes(bytes);
    let _ = writeln!(
        text,
        "{:.2} s  {} from {} onto {}",
        prediction.seconds, prediction.strategy, prediction.registry, prediction.host
    );
    let _ = writeln!(
        text,
        "  lower bound   {:.2} s (this is {:.2} times as long)",
        prediction.lower_bound_seconds,
        prediction.seconds / prediction.lower_bound_seconds.max(1e-9)
    );
    let phases: Vec<String> = prediction
        .phases
        .iter()
        .map(|phase| format!("{} {:.2} s", gantt::name(phase.bound), phase.seconds))
        .collect();
    let _ = writeln!(text, "  bound by      {}", phases.join(", "));
    let _ = writeln!(
        text,
        "  bytes         {} compressed, {} uncompressed; fetched {}, again {}, written {}",
        gib(prediction.compressed_bytes),
        gib(prediction.uncompressed_bytes),
        gib(prediction.bytes_fetched),
        gib(prediction.bytes_retried),
        gib(prediction.bytes_written)
    );
    let _ = writeln!(
        text,
        "  at most       {} in memory, {} requests and {} unpacks at once",
        gib(prediction.window_bytes_peak),
        prediction.fetches_peak,
        prediction.unpacks_peak
    );
    let _ = writeln!(
        text,
        "  requests      {}, of them {} again, {} for the rest of slow ranges ({} came twice)",
        prediction.requests,
        prediction.retries,
        prediction.hedges,
        gib(prediction.bytes_hedged)
    );
    for pull in &prediction.pulls {
        let _ = writeln!(
            text,
            "  {:<13} {:?} after {:.2} s, {} layers",
            pull.image,
            pull.outcome,
            pull.seconds,
            pull.layers.len()
        );
    }
    text
}
