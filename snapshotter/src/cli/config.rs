//! `config`: shows every setting, what is in force, and what is wrong with a file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use parapull_snapshotter::config::{Config, ConfigError, DEFAULT_PATH};
use serde_json::{Value, json};

/// Show and check the configuration.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parapull-snapshotter config default > /etc/parapull/config.toml\n  \
    parapull-snapshotter config check /etc/soci-snapshotter-grpc/config.toml --explain\n  \
    parapull-snapshotter config dump --set window=1GiB"
)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a whole file: every key with its default and what it means.
    Default,
    /// Print what is in force, after the file and the overrides, and where each value came from.
    Dump {
        /// The file; without it, the default one if it is there.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Set a key on top of the file, such as concurrent_download_chunk_size=8mb.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Tell everything that is wrong with a file (exit 1), or that it is good, and which of its keys have no effect.
    ///
    /// Limits are checked for the number of cores of this machine.
    Check {
        /// The file; without it, the default one, which must be there.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Tell every setting in force, where it came from, and what "auto" comes to on this machine.
        #[arg(long)]
        explain: bool,
        /// Check for a machine with this many cores instead.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        cores: Option<u32>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command; what it has to say goes to `out`.
///
/// # Errors
/// The configuration cannot be used, or `out` cannot be written.
pub(crate) fn run(args: &ConfigArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        ConfigCommand::Default => out.write_all(Config::default_toml().as_bytes())?,
        ConfigCommand::Dump { config, set, json } => {
            let config = Config::load_with(config.as_deref(), set)?;
            if *json {
                writeln!(out, "{:#}", settings_json(&config, cores()))?;
            } else {
                out.write_all(config.to_toml().as_bytes())?;
            }
        }
        ConfigCommand::Check {
            file,
            explain,
            cores: given,
            json,
        } => {
            let file = file.clone().unwrap_or_else(|| DEFAULT_PATH.into());
            let cores = given.unwrap_or_else(cores);
            let checked = check(&file, cores);
            if *json {
                return check_as_json(checked, cores, *explain, out);
            }
            let config = checked?;
            writeln!(out, "{}: ok", file.display())?;
            if !config.pulls() {
                writeln!(out, "{NO_PULLS}")?;
            }
            for ignored in &config.ignored {
                let (line, key, reason) = (ignored.line, &ignored.key, ignored.reason);
                writeln!(out, "line {line}: {key} is known and ignored: {reason}")?;
            }
            if *explain {
                writeln!(out, "\nin force on {cores} cores:")?;
                for explanation in config.explain(cores) {
                    writeln!(out, "{explanation}")?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: &std::path::Path, cores: u32) -> Result<Config, ConfigError> {
    let config = Config::load(Some(file))?;
    // The limits do not depend on the seed.
    config.engine(cores, 0)?;
    Ok(config)
}

fn check_as_json(
    checked: Result<Config, ConfigError>,
    cores: u32,
    explain: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let (document, code) = match checked {
        Ok(config) => {
            let mut document =
                json!({"ok": true, "problems": [], "ignored": ignored_json(&config)});
            if explain {
                document["settings"] = settings_json(&config, cores)["settings"].take();
            }
            (document, ExitCode::SUCCESS)
        }
        Err(error) => (
            json!({"ok": false, "error": error.to_string(), "problems": problems_json(&error), "ignored": []}),
            ExitCode::FAILURE,
        ),
    };
    writeln!(out, "{document:#}")?;
    Ok(code)
}

fn settings_json(config: &Config, cores: u32) -> Value {
    let settings: Vec<_> = config
        .explain(cores)
        .into_iter()
        .map(|each| {
            json!({"key": each.key, "value": each.value, "source": each.source.to_string(), "note": each.note})
        })
        .collect();
    json!({"settings": settings, "ignored": ignored_json(config)})
}

fn ignored_json(config: &Config) -> Value {
    config
        .ignored
        .iter()
        .map(|each| json!({"key": each.key, "line": each.line, "reason": each.reason}))
        .collect()
}

fn problems_json(error: &ConfigError) -> Value {
    error
        .problems()
        .iter()
        .map(|each| json!({"line": each.line, "key": each.key, "message": each.message}))
        .collect()
}

/// Cores of this machine, as far as this process may use them.
fn cores() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|cores| u32::try_from(cores.get()).ok())
        .unwrap_or(1)
}

/// Easily overlooked: SOCI's table alone does not switch pulling on.
const NO_PULLS: &str = "images are not pulled: enable in [pull_modes.parallel_pull_unpack] is false, as it is by \
     default where that table is in the file";
