//! A configuration as a file: all keys with their meaning, or what is in force with where it came from.

use std::fmt::Write;

use super::Config;
use super::keys::{KEYS, Key};
use super::settings::Settings;

impl Config {
    /// A whole file with every key, its default and what it means; reading it gives the defaults.
    #[must_use]
    pub fn default_toml() -> String {
        let settings = Settings::default();
        let mut text = HEADER.to_owned();
        write_tables(&mut text, |text, key| {
            text.push('\n');
            for line in key.doc.lines() {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "{} = {}", key.name(), key.kind.written(&settings));
        });
        text
    }

    /// What is in force, as a file; reading it gives the same settings. Comments say where each came from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write_tables(&mut text, |text, key| {
            let value = key.kind.written(&self.settings);
            let _ = writeln!(
                text,
                "{} = {value} # {}",
                key.name(),
                self.given(key).source
            );
        });
        for ignored in &self.ignored {
            let _ = writeln!(text, "# ignored: {}: {}", ignored.key, ignored.reason);
        }
        text
    }
}

/// Writes every table with what `write` makes of its keys. Other names of a setting are left out.
fn write_tables(text: &mut String, mut write: impl FnMut(&mut String, &Key)) {
    let mut table = "";
    for key in KEYS.iter().filter(|key| key.alias_of.is_none()) {
        if key.table() != table {
            table = key.table();
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{table}]");
        }
        write(text, key);
    }
}

const HEADER: &str = "\
# The configuration of parapull-snapshotter: every key with its default.
#
# Sizes: 8mb = 8MB = 8MiB, all 1024-based. Times: \"30s\", \"2m\". \"auto\" is what suits the node and the strategy;
# `parapull-snapshotter config check FILE --explain` tells which number that is on this machine.
# Unknown keys are errors. Keys of SOCI's that only concern lazy loading are accepted and reported.
# Where SOCI's table [pull_modes.parallel_pull_unpack] is in a file, keys missing from it have SOCI's defaults.
";
