//! The configuration: one file, a few overrides, and what comes of them.
//!
//! Operators write containerd's and SOCI's names; this module is the one place that maps them to ours. It reads, checks
//! and explains settings; it acts on none of them. Which number an `"auto"` comes to is for [`parapull_scenario`] to say,
//! which limits go together for the engine.
//!
//! Everything about a key (name, kind, meaning, whether it is built) stands once, in `keys`; parsing, `config default`,
//! `config dump`, `config check` and its explanations all read that table.

mod document;
mod draft;
mod error;
mod explain;
mod foreign;
mod keys;
mod resolve;
mod settings;
mod suggest;
mod values;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::{ConfigError, Problem};
pub use explain::Explanation;
pub use settings::{Concurrency, Resume, Settings};

use draft::Draft;

/// Where the configuration is looked for unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/parapull/config.toml";

/// A configuration that may be used: read, overridden and checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What is in force; only the number of cores is still missing.
    pub settings: Settings,
    /// Keys of SOCI's that are known and have no effect here, in the order of the file.
    pub ignored: Vec<IgnoredKey>,
    /// Where it was read from, for messages.
    origin: String,
    /// What each setting was given by, by the path of its key; a setting that is missing has our default.
    given: BTreeMap<&'static str, Given>,
}

/// What gave a setting its value.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// Where that stands.
    source: Source,
    /// The path it was given under, which may be another name of the setting.
    path: &'static str,
}

/// A key that is known and without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredKey {
    /// The key with its tables, such as `blob.max_retries`.
    pub key: String,
    /// The line it stands on, from 1.
    pub line: usize,
    /// Why it has no effect.
    pub reason: &'static str,
}

/// Where a setting came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it: ours.
    #[default]
    Default,
    /// Nobody set it, but the file has SOCI's table: SOCI's.
    SociDefault,
    /// A line of the file, from 1.
    Line(usize),
    /// An override.
    Override,
}

impl Config {
    /// Reads the file at `path`, or [`DEFAULT_PATH`] if there is one, or else nothing but defaults.
    ///
    /// # Errors
    /// The file cannot be read (a missing one is an error only if it was asked for), or everything that is wrong in it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with(path, &[])
    }

    /// Reads as [`Self::load`] and overrides as [`Self::with_overrides`]; what is checked is the outcome, so that an
    /// override may mend a file.
    ///
    /// # Errors
    /// As both of them.
    pub fn load_with(path: Option<&Path>, overrides: &[String]) -> Result<Self, ConfigError> {
        let explicit = path.is_some();
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        let draft = match std::fs::read_to_string(path) {
            Ok(text) => Draft::read(&text, &path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !explicit => {
                Draft::from(Self::default())
            }
            Err(source) => {
                return Err(ConfigError::Unreadable {
                    path: path.to_path_buf(),
                    source,
                });
            }
        };
        draft.overridden(overrides).finish()
    }

    /// Reads a configuration from text; `origin` says in messages where the text is from.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ConfigError> {
        Draft::read(text, origin).finish()
    }

    /// The same configuration with `key=value` on top. Keys are the flat names of `[parapull]` and of SOCI's table
    /// (`concurrent_download_chunk_size=8mb`), or whole paths of any table; values need no quotes.
    ///
    /// An override does not count as SOCI's table: keys that nobody set keep their defaults.
    ///
    /// # Errors
    /// Everything that is wrong in the overrides, or in what they make of the rest.
    pub fn with_overrides(self, overrides: &[String]) -> Result<Self, ConfigError> {
        Draft::from(self).overridden(overrides).finish()
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::SociDefault => f.write_str("SOCI's default, as its table is in the file"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Override => f.write_str("override"),
        }
    }
}
