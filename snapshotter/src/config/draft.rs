//! A configuration in the making: what the file says, what overrides it, and whether the outcome may be used.

use std::collections::BTreeMap;

use super::document::{Document, Entry};
use super::error::{ConfigError, Problem};
use super::keys::{self, KEYS, Key};
use super::settings::{Concurrency, Settings};
use super::values::Found;
use super::{Config, Given, Source, suggest};

/// A configuration nobody may use yet.
#[derive(Default)]
pub(super) struct Draft {
    config: Config,
    problems: Vec<Problem>,
}

impl From<Config> for Draft {
    fn from(config: Config) -> Self {
        let problems = Vec::new();
        Self { config, problems }
    }
}

impl Draft {
    /// What a text says.
    pub(super) fn read(text: &str, origin: &str) -> Self {
        let document = Document::read(text);
        let mut draft = Self::default();
        draft.config.origin = origin.to_owned();
        if document.has_soci_table {
            draft.start_with_soci();
        }
        draft.config.ignored = document.ignored;
        draft.problems = document.problems;
        let mut seen = BTreeMap::new();
        for entry in document.entries {
            draft.refuse_contradiction(&entry, &mut seen);
            draft.set(entry.key, &entry.found, Source::Line(entry.line));
        }
        draft
    }

    /// The same with `key=value` on top.
    pub(super) fn overridden(mut self, overrides: &[String]) -> Self {
        for text in overrides {
            let Some((name, value)) = text.split_once('=') else {
                self.problem(None, text, "must be key=value".to_owned());
                continue;
            };
            let name = name.trim();
            match keys::overridden_by(name) {
                Some(key) => {
                    let found = Found::overriding(key.kind, value);
                    self.set(key, &found, Source::Override);
                }
                None => {
                    let known = KEYS.iter().map(Key::override_name);
                    let message = match suggest::nearest(name, known) {
                        Some(nearest) => format!("unknown key; did you mean {nearest}?"),
                        None => "unknown key".to_owned(),
                    };
                    self.problem(None, name, message);
                }
            }
        }
        self
    }

    /// The configuration, if it may be used.
    pub(super) fn finish(mut self) -> Result<Config, ConfigError> {
        self.refuse_missing();
        self.refuse_more_for_one_than_in_total();
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        self.problems.sort();
        self.problems.dedup();
        Err(ConfigError::Invalid {
            origin: self.config.origin_shown().to_owned(),
            problems: self.problems,
        })
    }

    fn start_with_soci(&mut self) {
        self.config.settings = Settings::soci();
        for key in KEYS.iter().filter(|key| key.table() == keys::SOCI) {
            self.note(key, Source::SociDefault);
        }
    }

    fn set(&mut self, key: &'static Key, found: &Found, source: Source) {
        match key.kind.read(found, &mut self.config.settings) {
            Ok(()) => self.note(key, source),
            Err(message) => self.problem(source.line(), key.path, message),
        }
    }

    fn note(&mut self, key: &'static Key, source: Source) {
        let path = key.path;
        self.config
            .given
            .insert(key.setting(), Given { source, path });
    }

    /// Two names of one setting must say the same.
    fn refuse_contradiction(
        &mut self,
        entry: &Entry,
        seen: &mut BTreeMap<&'static str, (&'static str, usize, String)>,
    ) {
        let mut settings = Settings::default();
        if entry.key.kind.read(&entry.found, &mut settings).is_err() {
            return;
        }
        let written = entry.key.kind.written(&settings);
        let first = seen
            .entry(entry.key.setting())
            .or_insert_with(|| (entry.key.path, entry.line, written.clone()));
        if first.2 != written {
            let message = format!(
                "is {written}, but {} on line {} is {}: remove one of them",
                first.0, first.1, first.2
            );
            self.problem(Some(entry.line), entry.key.path, message);
        }
    }

    /// What is not built must not look as if it worked.
    fn refuse_missing(&mut self) {
        let pulls = self.config.pulls();
        for key in KEYS.iter().filter(|key| key.alias_of.is_none()) {
            let Some(missing) = key
                .missing
                .filter(|missing| pulls || !missing.while_pulling)
            else {
                continue;
            };
            let written = key.kind.written(&self.config.settings);
            if written == missing.only {
                continue;
            }
            let given = self.config.given(key);
            let of_whom = match given.source {
                Source::SociDefault => " (SOCI's default, as its table is in the file)",
                Source::Default | Source::Line(_) | Source::Override => "",
            };
            let message = format!("{written}{of_whom} is not built yet: {}", missing.advice);
            self.problem(given.source.line(), given.path, message);
        }
    }

    /// SOCI's rule: a limit for one image is not above a limit in total; "no limit" passes.
    fn refuse_more_for_one_than_in_total(&mut self) {
        if !self.config.pulls() {
            return;
        }
        let settings = &self.config.settings;
        let pairs = [
            (settings.fetches_per_image, settings.fetches, DOWNLOADS),
            (settings.unpacks_per_image, settings.unpacks, UNPACKS),
        ];
        for (one, total, name) in pairs {
            let (Concurrency::AtMost(one), Concurrency::AtMost(total)) = (one, total) else {
                continue;
            };
            let Some(key) = keys::overridden_by(name).filter(|_| one > total) else {
                continue;
            };
            let line = self.config.given(key).source.line();
            let message = format!(
                "{one} for one image is more than {total} in total ({}): lower it or raise the total",
                name.trim_end_matches("_per_image")
            );
            self.problem(line, key.path, message);
        }
    }

    fn problem(&mut self, line: Option<usize>, key: &str, message: String) {
        self.problems.push(Problem {
            line,
            key: Some(key.to_owned()),
            message,
        });
    }
}

impl Source {
    pub(super) const fn line(self) -> Option<usize> {
        match self {
            Self::Line(line) => Some(line),
            Self::Default | Self::SociDefault | Self::Override => None,
        }
    }
}

const DOWNLOADS: &str = "max_concurrent_downloads_per_image";
const UNPACKS: &str = "max_concurrent_unpacks_per_image";
