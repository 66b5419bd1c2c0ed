//! `containerds`: the containerd generations that this machine can run side by side.

use anyhow::Context as _;
use clap::Args;
use parapull_bench::processes::{Generation, debian};

use super::output::say;

/// Find a containerd of each generation: the installed one, else Debian's, unpacked into a cache.
///
/// Nothing is installed and apt's own sources and lists stay as they are. Every later command and test takes what is in
/// the cache; remove that folder to have newer ones.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parapull-bench containerds\n\nPrints one line for each: generation, version, program."
)]
pub(super) struct Containerds {}

impl Containerds {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        for generation in Generation::ALL {
            let found = generation.obtain().with_context(|| {
                format!(
                    "failed to have containerd {generation} in {}",
                    debian::cache_dir().display()
                )
            })?;
            let (version, program) = (found.version.to_string(), found.program.display());
            say(&format!("{generation:<4} {version:<8} {program}\n"))?;
        }
        Ok(())
    }
}
