//! `craft`, and crafting for `serve`, with a progress bar where somebody watches.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use fake_registry::{CraftError, CraftedImage, Crafter, cache_dir_default};
use indicatif::{ProgressBar, ProgressStyle};
use parapull_scenario::ImageSpec;

use super::spec::{Spec, read_spec};
use super::{CraftArguments, Failure, say};

pub(super) fn run(arguments: &CraftArguments) -> Result<(), Failure> {
    let Spec::Image(mut spec) = read_spec(&arguments.spec)? else {
        return Err(Failure::Misuse(anyhow!(
            "{} is a finished layout already",
            arguments.spec
        )));
    };
    if let Some(seed) = arguments.seed {
        spec.seed = seed;
    }
    let mut crafter = Crafter::new(&cache_dir_default());
    if let Some(threads) = arguments.threads {
        crafter = crafter.threads(threads as usize);
    }
    let crafted = with_progress(&spec, &crafter, || {
        crafter.craft_into(&spec, &arguments.out)
    });
    let image = match crafted {
        Err(error @ CraftError::OutputNotEmpty { .. }) => {
            return Err(Failure::Misuse(error.into()));
        }
        crafted => crafted.with_context(|| format!("failed to craft {}", arguments.spec))?,
    };
    print_summary(&image);
    Ok(())
}

/// Runs `work`, which crafts `spec`, beside a bar on standard error if that is a terminal.
pub(super) fn with_progress<T>(spec: &ImageSpec, crafter: &Crafter, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new(spec.uncompressed_bytes());
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message(format!("crafting {}", spec.name));
    let finished = AtomicBool::new(false);
    let progress: Arc<AtomicU64> = crafter.progress();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !finished.load(Ordering::Relaxed) {
                bar.set_position(progress.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(50));
            }
            bar.finish_and_clear();
        });
        let result = work();
        finished.store(true, Ordering::Relaxed);
        result
    })
}

fn print_summary(image: &CraftedImage) {
    let compressed_bytes: u64 = image
        .layers
        .iter()
        .map(|layer| layer.compressed_bytes)
        .sum();
    let uncompressed_bytes: u64 = image
        .layers
        .iter()
        .map(|layer| layer.uncompressed_bytes)
        .sum();
    let files: u64 = image
        .layers
        .iter()
        .map(|layer| u64::from(layer.files))
        .sum();
    say(format_args!("{}", image.layout.directory().display()));
    say(format_args!("manifest {}", image.manifest_digest));
    say(format_args!(
        "{} layers, {files} files, {uncompressed_bytes} bytes uncompressed, {compressed_bytes} compressed",
        image.layers.len()
    ));
}
