//! Each setting in force, where it came from, and what `"auto"` comes to.
//!
//! [`parapull_scenario`] decides what `"auto"` comes to; here its arithmetic is told. Where the two should ever disagree,
//! the number stands alone.

use std::fmt;

use parapull_engine::{RawLimits, Strategy};
use parapull_scenario::{ByteSize, LimitsSpec, Setting};

use super::keys::{KEYS, Key};
use super::resolve::{LIMITS, hashes_fast};
use super::settings::{Concurrency, Settings};
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
    /// What it comes to and how, for limits that are not written as plain numbers.
    pub note: Option<String>,
}

impl Config {
    /// Every setting on a machine of so many cores, in the order of `config default`.
    #[must_use]
    pub fn explain(&self, cores: u32) -> Vec<Explanation> {
        let spec = self.limits();
        let strategy = self.settings.strategy;
        let raw = spec.resolve(cores, strategy);
        let arithmetic = Arithmetic {
            spec,
            strategy,
            cores: raw.cores,
            raw,
        };
        KEYS.iter()
            .filter(|key| key.alias_of.is_none())
            .map(|key| Explanation {
                key: key.path,
                value: key.kind.written(&self.settings),
                source: self.given(key).source,
                note: arithmetic.note(key, &self.settings),
            })
            .collect()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.source)?;
        match &self.note {
            Some(note) => write!(f, "\n    {note}"),
            None => Ok(()),
        }
    }
}

/// What limits come to, and why.
struct Arithmetic {
    spec: LimitsSpec,
    strategy: Strategy,
    cores: u32,
    raw: RawLimits,
}

impl Arithmetic {
    fn note(&self, key: &Key, settings: &Settings) -> Option<String> {
        let (limit, _) = LIMITS.iter().find(|(_, path)| *path == key.path)?;
        if let Some(concurrency) = concurrency(limit, settings) {
            match concurrency {
                Concurrency::AtMost(_) => return None,
                Concurrency::Unlimited => return Some(self.without_limit(limit)),
                Concurrency::Auto => {}
            }
        }
        let is_auto = key.kind.written(settings) == "\"auto\"";
        is_auto.then(|| self.told(limit))
    }

    fn told(&self, limit: &str) -> String {
        let value = value(&self.raw, limit);
        let shown = if is_bytes(limit) {
            size(value)
        } else {
            value.to_string()
        };
        let shown = match (limit, value) {
            ("chunk_bytes_max", 0) => "whole layers".to_owned(),
            ("spool_bytes_max", bytes) if bytes > SHOWN_BYTES_MAX => "no bound".to_owned(),
            _ => shown,
        };
        match self.reason(limit) {
            Some((reason, told)) if told == value => format!("auto = {shown}: {reason}"),
            _ => format!("auto = {shown}"),
        }
    }

    fn without_limit(&self, limit: &str) -> String {
        let value = value(&self.raw, limit);
        if limit.contains("per_image") {
            format!("no limit = {value}: as many as in total")
        } else {
            format!("no limit = {value}: the ceiling, or the limit for one image if that is more")
        }
    }

    /// How a limit that is `auto` follows from the others, and the number that gives.
    fn reason(&self, limit: &str) -> Option<(String, u64)> {
        let Self { raw, strategy, .. } = self;
        Some(match limit {
            "fetches_per_image_max" => {
                let own = match strategy {
                    Strategy::Sequential => 3,
                    Strategy::Multipart | Strategy::StoreThenUnpack => 10,
                    Strategy::Streamed => 16,
                };
                capped(format!("{own} for {strategy}"), own, self.spec.fetches)
            }
            "fetches_max" => four_images(raw.fetches_per_image_max),
            "unpacks_per_image_max" => {
                let (text, own) = self.unpacks_of_one();
                capped(text, own, self.spec.unpacks)
            }
            "unpacks_max" if *strategy == Strategy::Streamed => (
                "as for one image, since cores are shared".to_owned(),
                raw.unpacks_per_image_max.into(),
            ),
            "unpacks_max" => four_images(raw.unpacks_per_image_max),
            "chunk_bytes_max" => self.chunk(),
            "slice_bytes" if raw.chunk_bytes_max == 0 => {
                ("as a chunk would be".to_owned(), CHUNK_BYTES)
            }
            "slice_bytes" => (
                format!("a chunk, at most {}", size(CHUNK_BYTES)),
                raw.chunk_bytes_max.min(CHUNK_BYTES),
            ),
            "window_bytes_max" => self.window(),
            "layer_window_bytes_max" => self.layer_window(),
            "spool_bytes_max" if *strategy == Strategy::Streamed => {
                (format!("{strategy} stores nothing compressed"), 0)
            }
            "spool_bytes_max" => return None,
            "threads_max" => (
                format!(
                    "2 × {} cores, at least one for each of {} unpacks",
                    self.cores, raw.unpacks_max
                ),
                (2 * u64::from(self.cores)).max(raw.unpacks_max.into()),
            ),
            "threads_per_lane_max" => match strategy {
                Strategy::Sequential | Strategy::Multipart => {
                    ("all in one, as containerd does".to_owned(), 1)
                }
                Strategy::StoreThenUnpack => ("one inflates, one hashes, one writes".to_owned(), 3),
                Strategy::Streamed => ("one inflates, one hashes and writes".to_owned(), 2),
            },
            "cores" => (
                "those this process may run on".to_owned(),
                self.cores.into(),
            ),
            "wide_threads_max" => self.wide_threads(),
            "wide_bytes_min" => (
                "less is unpacked in a fifth of a second".to_owned(),
                WIDE_BYTES_MIN,
            ),
            _ => return None,
        })
    }

    fn chunk(&self) -> (String, u64) {
        let Self { raw, strategy, .. } = self;
        if *strategy == Strategy::Sequential {
            ("as containerd reads them".to_owned(), 0)
        } else if raw.chunk_bytes_min > 0 {
            let least = size(raw.chunk_bytes_min);
            let text = format!(
                "the largest; from {least} on each is chosen by what is measured of its host, to last five times as long \
                 as its first byte takes"
            );
            (text, raw.chunk_bytes_max)
        } else {
            let text = "82 % of a connection at 90 MB/s and 20 ms to the first byte";
            (text.to_owned(), CHUNK_BYTES)
        }
    }

    fn unpacks_of_one(&self) -> (String, u64) {
        let strategy = self.strategy;
        match strategy {
            Strategy::Sequential | Strategy::Multipart => (format!("1 for {strategy}"), 1),
            Strategy::StoreThenUnpack => (format!("10 for {strategy}"), 10),
            Strategy::Streamed => (
                format!(
                    "{} cores + 1, so that one may wait for bytes while all cores are busy",
                    self.cores
                ),
                u64::from(self.cores) + 1,
            ),
        }
    }

    fn wide_threads(&self) -> (String, u64) {
        match self.strategy {
            Strategy::Streamed if !hashes_fast() => (
                "hashing without SHA instructions is slower than inflating".to_owned(),
                1,
            ),
            Strategy::Streamed if self.cores < 3 => (
                "inflating on several threads does not pay on two cores".to_owned(),
                1,
            ),
            Strategy::Streamed => (
                format!(
                    "{} cores + 1, at most 6: four inflate, one hashes, one writes",
                    self.cores
                ),
                (u64::from(self.cores) + 1).min(6),
            ),
            other => (format!("never for {other}"), 1),
        }
    }

    fn window(&self) -> (String, u64) {
        let piece = match self.raw.chunk_bytes_min {
            0 => self.piece_bytes(),
            _ => CHUNK_BYTES,
        };
        let unpacks = u64::from(self.raw.unpacks_max);
        let for_lanes = piece.saturating_mul(2).saturating_mul(unpacks);
        (
            format!(
                "the larger of {} and 2 × {} for each of {unpacks} unpacks = {}",
                size(WINDOW_BYTES),
                size(piece),
                size(for_lanes)
            ),
            WINDOW_BYTES.max(for_lanes),
        )
    }

    fn layer_window(&self) -> (String, u64) {
        let (piece, window) = (self.piece_bytes(), self.raw.window_bytes_max);
        (
            format!(
                "the larger of {} and 2 × {}, at most the window of {}",
                size(LAYER_WINDOW_BYTES),
                size(piece),
                size(window)
            ),
            LAYER_WINDOW_BYTES.max(piece.saturating_mul(2)).min(window),
        )
    }

    fn piece_bytes(&self) -> u64 {
        self.raw.chunk_bytes_max.max(self.raw.slice_bytes)
    }
}

fn four_images(one: u32) -> (String, u64) {
    let total = u64::from(one) * 4;
    (format!("4 images × {one}"), total)
}

/// A limit for one image follows a total that is set.
fn capped(text: String, own: u64, total: Setting<u32>) -> (String, u64) {
    match total {
        Setting::Is(total) => (
            format!("{text}, at most {total} in total"),
            own.min(total.into()),
        ),
        Setting::Auto => (text, own),
    }
}

fn concurrency(limit: &str, settings: &Settings) -> Option<Concurrency> {
    Some(match limit {
        "fetches_max" => settings.fetches,
        "fetches_per_image_max" => settings.fetches_per_image,
        "unpacks_max" => settings.unpacks,
        "unpacks_per_image_max" => settings.unpacks_per_image,
        _ => return None,
    })
}

/// The value of the limit with this name.
fn value(raw: &RawLimits, limit: &str) -> u64 {
    let RawLimits {
        fetches_max,
        fetches_per_image_max,
        unpacks_max,
        unpacks_per_image_max,
        chunk_bytes_max,
        chunk_bytes_min: _,
        slice_bytes,
        window_bytes_max,
        layer_window_bytes_max,
        spool_bytes_max,
        threads_max,
        threads_per_lane_max,
        cores,
        wide_threads_max,
        wide_bytes_min,
    } = *raw;
    match limit {
        "fetches_max" => fetches_max.into(),
        "fetches_per_image_max" => fetches_per_image_max.into(),
        "unpacks_max" => unpacks_max.into(),
        "unpacks_per_image_max" => unpacks_per_image_max.into(),
        "chunk_bytes_max" => chunk_bytes_max,
        "slice_bytes" => slice_bytes,
        "window_bytes_max" => window_bytes_max,
        "layer_window_bytes_max" => layer_window_bytes_max,
        "spool_bytes_max" => spool_bytes_max,
        "threads_max" => threads_max.into(),
        "threads_per_lane_max" => threads_per_lane_max.into(),
        "cores" => cores.into(),
        "wide_threads_max" => wide_threads_max.into(),
        "wide_bytes_min" => wide_bytes_min,
        _ => 0,
    }
}

fn is_bytes(limit: &str) -> bool {
    limit.contains("bytes")
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

const CHUNK_BYTES: u64 = 8 << 20;
const WINDOW_BYTES: u64 = 512 << 20;
const LAYER_WINDOW_BYTES: u64 = 128 << 20;
const WIDE_BYTES_MIN: u64 = 32 << 20;
/// What is larger means no bound at all.
const SHOWN_BYTES_MAX: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::super::resolve::path_of;
    use super::*;

    /// Whatever `auto` comes to is told with arithmetic that gives the same number.
    #[test]
    fn tells_the_arithmetic_of_the_resolution() {
        let overrides: [&[&str]; 7] = [
            &[],
            &["max_concurrent_downloads=2"],
            &["max_concurrent_unpacks=40"],
            &["concurrent_download_chunk_size=64MiB"],
            &["concurrent_download_chunk_size=1MiB"],
            &["concurrent_download_chunk_size=0"],
            &["window=100MiB", "max_concurrent_unpacks=2"],
        ];
        for strategy in Strategy::ALL {
            for texts in overrides {
                let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
                let mut config = Config::default().with_overrides(&texts).unwrap();
                config.settings.strategy = strategy;
                for cores in [1, 2, 8, 96] {
                    let spec = config.limits();
                    let raw = spec.resolve(cores, strategy);
                    let arithmetic = Arithmetic {
                        spec,
                        strategy,
                        cores,
                        raw,
                    };
                    let autos = config.explain(cores);
                    for (limit, path) in LIMITS {
                        let explained = autos.iter().find(|each| each.key == path).unwrap();
                        let Some((reason, told)) = arithmetic.reason(limit) else {
                            continue;
                        };
                        if explained.value == "\"auto\"" {
                            let context = format!("{strategy} {texts:?} {cores} {limit}: {reason}");
                            assert_eq!(told, value(&raw, limit), "{context}");
                            let note = explained.note.as_deref().unwrap_or_default();
                            assert!(note.contains(&reason), "{context}: {note}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_limit_has_a_value_of_its_own() {
        let raw = RawLimits {
            fetches_max: 1,
            fetches_per_image_max: 2,
            unpacks_max: 3,
            unpacks_per_image_max: 4,
            chunk_bytes_max: 5,
            chunk_bytes_min: 0,
            slice_bytes: 6,
            window_bytes_max: 7,
            layer_window_bytes_max: 8,
            spool_bytes_max: 9,
            threads_max: 10,
            threads_per_lane_max: 11,
            cores: 12,
            wide_threads_max: 13,
            wide_bytes_min: 14,
        };
        let values = LIMITS.map(|(limit, _)| value(&raw, limit));
        assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert!(LIMITS.iter().all(|(limit, path)| path_of(limit) == *path));
    }
}
