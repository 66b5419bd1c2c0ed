//! `index`: makes, shows and removes indexes of layers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use parapull_scenario::ByteSize;
use parapull_snapshotter::index::{self, Built, Cache, SPAN_BYTES, Ztoc};
use serde_json::{Value, json};

/// Index gzip layers, so that several threads inflate one without guessing.
///
/// An index is a zTOC, the SOCI project's format: about 0.8 % of the layer's uncompressed size. The daemon keeps those of
/// large layers in `indexes` below its root as `index_cache` says; a wrong one can cost time, never a byte, because both digests of a layer are checked whatever it says.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parapull-snapshotter index create layer.tar.gz --out indexes\n  \
    parapull-snapshotter index create layer.tar.gz --cache /var/lib/parapull/indexes\n  \
    parapull-snapshotter index show indexes/0a1b….ztoc --json\n  \
    parapull-snapshotter index prune --cache /var/lib/parapull/indexes --keep 100MiB"
)]
pub(crate) struct IndexArgs {
    #[command(subcommand)]
    command: IndexCommand,
}

#[derive(Debug, Subcommand)]
enum IndexCommand {
    /// Index compressed layers that lie in files.
    Create {
        /// The layers: gzip files, such as blobs of an OCI layout.
        #[arg(required = true, value_name = "LAYER")]
        layers: Vec<PathBuf>,
        /// Write DIR/<digest>.ztoc for each.
        #[arg(long, value_name = "DIR", required_unless_present = "cache")]
        out: Option<PathBuf>,
        /// Keep them, compressed, in this cache.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
        /// Uncompressed bytes between two checkpoints.
        #[arg(long, value_name = "SIZE", default_value_t = ByteSize(SPAN_BYTES))]
        span: ByteSize,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Tell what a zTOC says.
    Show {
        /// The zTOC.
        file: PathBuf,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Remove the indexes that were not used for the longest time.
    Prune {
        /// The cache.
        #[arg(long, value_name = "DIR")]
        cache: PathBuf,
        /// How much may stay.
        #[arg(long, value_name = "SIZE", default_value_t = ByteSize(0))]
        keep: ByteSize,
    },
}

/// Runs the command; what it has to say goes to `out`.
///
/// # Errors
/// A file that cannot be read or written, or is no gzip layer or no zTOC.
pub(crate) fn run(args: &IndexArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        IndexCommand::Create {
            layers,
            out: directory,
            cache,
            span,
            json,
        } => {
            let mut documents = Vec::new();
            for layer in layers {
                let built = index::build(layer, span.0.max(SPAN_BYTES_MIN))
                    .with_context(|| layer.display().to_string())?;
                keep(&built, directory.as_deref(), cache.as_deref())?;
                let mut document = about(&built.ztoc, built.ztoc.entries.len());
                document["blob"] = built.blob.to_string().into();
                document["diff_id"] = built.diff_id.to_string().into();
                document["layer"] = layer.display().to_string().into();
                if !json {
                    writeln!(out, "{}", line(&document))?;
                }
                documents.push(document);
            }
            if *json {
                writeln!(out, "{:#}", Value::from(documents))?;
            }
        }
        IndexCommand::Show { file, json } => {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            let ztoc = Ztoc::read(&bytes).with_context(|| file.display().to_string())?;
            let entries =
                Ztoc::count_entries(&bytes).with_context(|| file.display().to_string())?;
            let document = about(&ztoc, entries);
            if *json {
                writeln!(out, "{document:#}")?;
            } else {
                writeln!(out, "{}", line(&document))?;
            }
        }
        IndexCommand::Prune { cache, keep } => {
            let pruned = Cache::new(cache.clone(), u64::MAX).prune(keep.0)?;
            writeln!(
                out,
                "removed {} indexes, {}",
                pruned.files,
                ByteSize(pruned.bytes)
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn keep(built: &Built, directory: Option<&Path>, cache: Option<&Path>) -> anyhow::Result<()> {
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(format!("{}.ztoc", built.blob.hex()));
        std::fs::write(&path, built.ztoc.write()).with_context(|| path.display().to_string())?;
    }
    if let Some(cache) = cache {
        let cache = Cache::new(cache.to_path_buf(), u64::MAX);
        cache
            .keep(&built.blob, &built.ztoc)
            .map_err(|error| anyhow!(error))?;
    }
    Ok(())
}

fn about(ztoc: &Ztoc, entries: usize) -> Value {
    json!({
        "compressed_bytes": ztoc.compressed_bytes,
        "uncompressed_bytes": ztoc.uncompressed_bytes,
        "span_bytes": ztoc.span_bytes,
        "checkpoints": ztoc.checkpoints.len(),
        "span_digests": ztoc.span_digests.len(),
        "entries": entries,
    })
}

fn line(document: &Value) -> String {
    let number = |key: &str| document[key].as_u64().unwrap_or_default();
    let blob = document["blob"].as_str().map(|blob| format!("{blob}  "));
    format!(
        "{}{} -> {}, {} checkpoints, {} entries",
        blob.unwrap_or_default(),
        ByteSize(number("compressed_bytes")),
        ByteSize(number("uncompressed_bytes")),
        number("checkpoints"),
        number("entries"),
    )
}

/// Below it windows weigh more than what lies between them.
const SPAN_BYTES_MIN: u64 = 64 << 10;
