//! `unpack-one`: one layer from a file into a folder, in a process whose time and instructions somebody else counts.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use parapull_bench::unpack::{by_lane, by_plain_loop, sink};
use parapull_snapshotter::digest::Digest;

/// Unpack one gzip layer, as `unpack` lets its contender `parapull` do.
#[derive(Debug, Args)]
pub(super) struct UnpackOne {
    /// The compressed layer
    blob: PathBuf,

    /// Its digest
    #[arg(long)]
    digest: Digest,

    /// The digest of its archive
    #[arg(long)]
    diff_id: Digest,

    /// A daemon's lane, or the plain loop that it is compared with
    #[arg(long, value_enum, default_value_t = By::Lane)]
    by: By,

    /// Threads of the lane
    #[arg(long, default_value_t = 1)]
    threads: u32,

    /// Where to; must be absent. Nothing is made without it
    #[arg(long)]
    to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Lane,
    Plain,
}

impl UnpackOne {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (digest, diff_id) = (self.digest, self.diff_id);
        let sink = sink(self.to.as_deref()).context("failed to begin")?;
        match self.by {
            By::Lane => by_lane(&self.blob, digest, diff_id, self.threads, sink),
            By::Plain => by_plain_loop(&self.blob, digest, diff_id, sink),
        }
        .context("failed to unpack")
    }
}
