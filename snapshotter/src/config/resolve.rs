//! From settings to what the engine, lanes and the registry client are made from.

use std::time::Duration;

use parapull_engine::{HedgeRules, HostRules, Limits, LimitsError, Scheduling, Timing};
use parapull_scenario::{ByteSize, LimitsSpec, Setting};

use super::error::{ConfigError, Problem};
use super::keys::{self, Key};
use super::settings::Concurrency;
use super::{Config, Given, Source};
use crate::registry::Options;
use crate::store;
use crate::unpack::Bounds;

impl Config {
    /// Whether images are pulled at all; without, this is an ordinary overlay snapshotter.
    ///
    /// SOCI's fallback counts too: it pulls the images that cannot be loaded lazily, which here are all.
    #[must_use]
    pub fn pulls(&self) -> bool {
        self.settings.enable || self.settings.enable_as_fallback
    }

    /// What may run at once, "no limit" replaced by a ceiling.
    ///
    /// - *fetches in total* without limit: 256, or the limit for one image if that is more. Each costs a descriptor and
    ///   about 0.5 MiB of socket buffers, so 128 MiB; registries begin to refuse before.
    /// - *unpacks in total* without limit: 32, or the limit for one image if that is more. The window must hold two chunks
    ///   for each: 32 × 2 × 8 MiB = 512 MiB.
    /// - *for one image* without limit: as many as in total.
    /// - *threads of a wide lane*, if they are `auto`: none without SHA instructions, since hashing is then slower than
    ///   inflating on one thread.
    #[must_use]
    pub fn limits(&self) -> LimitsSpec {
        let settings = &self.settings;
        let (fetches, fetches_per_image) = below(
            FETCHES_CEILING,
            settings.fetches,
            settings.fetches_per_image,
        );
        let (unpacks, unpacks_per_image) = below(
            UNPACKS_CEILING,
            settings.unpacks,
            settings.unpacks_per_image,
        );
        LimitsSpec {
            fetches,
            fetches_per_image,
            unpacks,
            unpacks_per_image,
            chunk: settings.chunk,
            chunk_min: Setting::Auto,
            slice: settings.slice,
            window: settings.window,
            layer_window: settings.layer_window,
            spool: settings.spool,
            threads: settings.threads,
            threads_per_lane: settings.threads_per_lane,
            cores: settings.cores,
            wide_threads: match settings.wide_threads {
                Setting::Auto if !hashes_fast() => Setting::Is(1),
                set => set,
            },
            wide_min: settings.wide_min,
        }
    }

    /// What the indexes of layers may take on disk; `None` if none are kept.
    #[must_use]
    pub fn index_cache_bytes(&self, cores: u32) -> Option<u64> {
        match self.settings.index_cache {
            Setting::Is(ByteSize(0)) => None,
            Setting::Is(ByteSize(bytes)) => Some(bytes),
            Setting::Auto => {
                let limits = self.limits().resolve(cores, self.settings.strategy);
                (limits.threads_per_lane_max >= INDEX_THREADS_MIN).then_some(INDEX_CACHE_BYTES)
            }
        }
    }

    /// How long to wait and how often to try.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let settings = &self.settings;
        Timing {
            attempts_max: settings.attempts_max,
            backoff_ms_max: milliseconds(settings.backoff_max),
            retry_after_ms_max: milliseconds(settings.retry_after_max),
            first_byte_ms: milliseconds(settings.connect_timeout + settings.first_byte_timeout),
            stall_ms: milliseconds(settings.stall_timeout),
            stall_bytes_min: milliseconds(settings.stall_timeout) * STALL_BYTES_PER_SECOND / 1_000,
            retries_max: settings.retries_max,
            progress_ms: milliseconds(settings.progress_timeout),
            shutdown_grace_ms: milliseconds(settings.shutdown_grace),
            cancel_grace_ms: milliseconds(settings.cancel_grace),
            staging_ttl_ms: milliseconds(settings.staging_ttl),
            ..Timing::default()
        }
    }

    /// How hosts are treated.
    #[must_use]
    pub fn hosts(&self) -> HostRules {
        let settings = &self.settings;
        let defaults = HostRules::default();
        HostRules {
            connections_max: number_or(settings.connections_per_host, defaults.connections_max),
            requests_per_second_max: number_or(
                settings.requests_per_second_per_host,
                defaults.requests_per_second_max,
            ),
            cool_down_ms: milliseconds(settings.host_cool_down),
            ..defaults
        }
    }

    /// Which slow ranges are asked for twice; two pieces of so many bytes may come twice to begin with.
    #[must_use]
    pub fn hedging(&self, piece_bytes_max: u64) -> HedgeRules {
        let defaults = HedgeRules::default();
        match self.settings.hedge {
            Setting::Is(0) => HedgeRules::off(),
            Setting::Is(bytes_permille) => HedgeRules {
                bytes_permille,
                burst_bytes: 2 * piece_bytes_max,
                ..defaults
            },
            Setting::Auto => HedgeRules {
                burst_bytes: 2 * piece_bytes_max,
                ..defaults
            },
        }
    }

    /// What one layer may unpack to.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let settings = &self.settings;
        Bounds {
            uncompressed_bytes_max: settings.max_uncompressed.0,
            expansion_ratio_max: settings.max_expansion,
            entries_max: settings.max_entries,
            path_bytes_max: settings.max_path.0,
            xattr_bytes_max: settings.max_xattrs.0,
            metadata_bytes_max: settings.max_metadata.0,
            sparse_pieces_max: settings.max_sparse_pieces,
            reserve_bytes: match settings.disk_reserve {
                Setting::Auto => None,
                Setting::Is(size) => Some(size.0),
            },
            ..Bounds::default()
        }
    }

    /// How the snapshot store is opened; the boot remains to be said.
    #[must_use]
    pub fn store_options(&self) -> store::Options {
        let settings = &self.settings;
        store::Options {
            sync: settings.sync,
            mount_options: settings.mount_options.clone(),
            remap_ids: settings.remap_ids,
            upperdir_label: settings.upperdir_label,
            sync_remove: settings.sync_remove,
            ..store::Options::default()
        }
    }

    /// How registries are spoken to; who the client is remains to be said.
    #[must_use]
    pub fn registry_options(&self) -> Options {
        Options {
            connect_timeout: self.settings.connect_timeout,
            first_byte_timeout: self.settings.first_byte_timeout,
            hosts_dir: self.settings.registry_config_path.clone(),
            ..Options::default()
        }
    }

    /// What an engine is made from on a machine of so many cores; all its randomness comes from `seed`.
    ///
    /// # Errors
    /// The limits cannot work together on this machine.
    pub fn engine(&self, cores: u32, seed: u64) -> Result<parapull_engine::Config, ConfigError> {
        let raw = self.limits().resolve(cores, self.settings.strategy);
        let limits = Limits::try_from(raw).map_err(|error| {
            let (path, message) = in_the_operators_words(error, raw.unpacks_max);
            ConfigError::Invalid {
                origin: self.origin_shown().to_owned(),
                problems: vec![Problem {
                    line: keys::at(path).and_then(|key| self.given(key).source.line()),
                    key: Some(path.to_owned()),
                    message,
                }],
            }
        })?;
        Ok(parapull_engine::Config {
            seed,
            limits,
            scheduling: self.scheduling()?,
            timing: self.timing(),
            hosts: self.hosts(),
            hedging: self.hedging(limits.piece_bytes_max()),
        })
    }

    /// In which order things are done.
    fn scheduling(&self) -> Result<Scheduling, ConfigError> {
        let settings = &self.settings;
        let strategy = settings.strategy.scheduling();
        let ordered = strategy.ordered(settings.fetch_order, settings.unpack_order);
        ordered.map_err(|error| {
            let path = "parapull.unpack_order";
            ConfigError::Invalid {
                origin: self.origin_shown().to_owned(),
                problems: vec![Problem {
                    line: keys::at(path).and_then(|key| self.given(key).source.line()),
                    key: Some(path.to_owned()),
                    message: error.to_string(),
                }],
            }
        })
    }

    /// What gave a setting its value.
    pub(super) fn given(&self, key: &Key) -> Given {
        self.given.get(key.setting()).copied().unwrap_or(Given {
            source: Source::Default,
            path: key.setting(),
        })
    }

    /// Where the configuration came from.
    pub(super) fn origin_shown(&self) -> &str {
        if self.origin.is_empty() {
            "of defaults"
        } else {
            &self.origin
        }
    }
}

/// Total and share of one image, with a ceiling where there is no limit.
fn below(ceiling: u32, total: Concurrency, one: Concurrency) -> (Setting<u32>, Setting<u32>) {
    let ceiling = match one {
        Concurrency::AtMost(one) => ceiling.max(one.get()),
        Concurrency::Auto | Concurrency::Unlimited => ceiling,
    };
    match (total, one) {
        (Concurrency::Unlimited, Concurrency::Unlimited)
        | (Concurrency::Auto, Concurrency::Unlimited) => (ceiling.into(), ceiling.into()),
        (Concurrency::AtMost(total), Concurrency::Unlimited) => {
            (total.get().into(), total.get().into())
        }
        (Concurrency::Unlimited, one) => (ceiling.into(), set(one)),
        (total, one) => (set(total), set(one)),
    }
}

fn set(concurrency: Concurrency) -> Setting<u32> {
    match concurrency {
        Concurrency::Auto | Concurrency::Unlimited => Setting::Auto,
        Concurrency::AtMost(number) => Setting::Is(number.get()),
    }
}

fn number_or(concurrency: Concurrency, unlimited: u32) -> u32 {
    match concurrency {
        Concurrency::Auto | Concurrency::Unlimited => unlimited,
        Concurrency::AtMost(number) => number.get(),
    }
}

/// Whether hashing has instructions of its own: 1.75 GB/s instead of 0.55.
pub(super) fn hashes_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sha");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The key to change, and what is wrong with it.
fn in_the_operators_words(error: LimitsError, unpacks: u32) -> (&'static str, String) {
    match error {
        LimitsError::WindowTooSmall { bytes_min } => (
            "parapull.window",
            format!(
                "must hold a chunk for each of {unpacks} layers unpacked at once: raise it to {} or more, or lower \
                 concurrent_download_chunk_size or max_concurrent_unpacks",
                ByteSize(bytes_min)
            ),
        ),
        LimitsError::LayerWindowTooSmall { bytes_min } => (
            "parapull.layer_window",
            format!(
                "must hold a chunk: raise it to {} or more, or lower concurrent_download_chunk_size",
                ByteSize(bytes_min)
            ),
        ),
        LimitsError::TooFewThreads => (
            "parapull.threads",
            format!(
                "every layer unpacked at once needs a thread: raise it to {unpacks} or more, or lower \
                 max_concurrent_unpacks"
            ),
        ),
        LimitsError::PerImageAboveTotal(name) => (
            path_of(name),
            "the limit for one image is larger than the limit in total".to_owned(),
        ),
        LimitsError::Zero(name) => (path_of(name), "must be at least 1".to_owned()),
    }
}

/// The key that operators know a limit of the engine by.
pub(super) fn path_of(limit: &'static str) -> &'static str {
    LIMITS
        .iter()
        .find(|(name, _)| *name == limit)
        .map_or(limit, |(_, path)| path)
}

/// Fewer cannot inflate one layer together.
const INDEX_THREADS_MIN: u32 = 3;
/// The indexes of 80 GiB of layers, at 0.3 %.
const INDEX_CACHE_BYTES: u64 = 256 << 20;

/// The engine's limits and the operators' names for them.
pub(super) const LIMITS: [(&str, &str); 14] = [
    (
        "fetches_max",
        "pull_modes.parallel_pull_unpack.max_concurrent_downloads",
    ),
    (
        "fetches_per_image_max",
        "pull_modes.parallel_pull_unpack.max_concurrent_downloads_per_image",
    ),
    (
        "unpacks_max",
        "pull_modes.parallel_pull_unpack.max_concurrent_unpacks",
    ),
    (
        "unpacks_per_image_max",
        "pull_modes.parallel_pull_unpack.max_concurrent_unpacks_per_image",
    ),
    (
        "chunk_bytes_max",
        "pull_modes.parallel_pull_unpack.concurrent_download_chunk_size",
    ),
    ("slice_bytes", "parapull.slice"),
    ("window_bytes_max", "parapull.window"),
    ("layer_window_bytes_max", "parapull.layer_window"),
    ("spool_bytes_max", "parapull.spool"),
    ("threads_max", "parapull.threads"),
    ("threads_per_lane_max", "parapull.threads_per_lane"),
    ("cores", "parapull.cores"),
    ("wide_threads_max", "parapull.wide_threads"),
    ("wide_bytes_min", "parapull.wide_min"),
];

/// Fetches at once where nobody set a limit.
pub(super) const FETCHES_CEILING: u32 = 256;
/// Unpacks at once where nobody set a limit.
pub(super) const UNPACKS_CEILING: u32 = 32;
/// A fetch below this rate stalls.
const STALL_BYTES_PER_SECOND: u64 = 10 * 1024;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn no_limit_has_a_ceiling_and_keeps_the_relation() {
        let at_most =
            |number| NonZeroU32::new(number).map_or(Concurrency::Auto, Concurrency::AtMost);
        let (auto, unlimited) = (Concurrency::Auto, Concurrency::Unlimited);
        for (total, one, expected) in [
            (auto, auto, (Setting::Auto, Setting::Auto)),
            (unlimited, unlimited, (Setting::Is(256), Setting::Is(256))),
            (auto, unlimited, (Setting::Is(256), Setting::Is(256))),
            (unlimited, auto, (Setting::Is(256), Setting::Auto)),
            (unlimited, at_most(3), (Setting::Is(256), Setting::Is(3))),
            (
                unlimited,
                at_most(300),
                (Setting::Is(300), Setting::Is(300)),
            ),
            (at_most(7), unlimited, (Setting::Is(7), Setting::Is(7))),
            (at_most(7), at_most(3), (Setting::Is(7), Setting::Is(3))),
            (auto, at_most(300), (Setting::Auto, Setting::Is(300))),
        ] {
            assert_eq!(below(256, total, one), expected, "{total:?} {one:?}");
        }
    }

    #[test]
    fn defaults_are_the_engines_and_the_lanes() {
        let config = Config::default();
        assert_eq!(config.timing(), Timing::default());
        assert_eq!(config.bounds(), Bounds::default());
        assert_eq!(config.limits(), LimitsSpec::default());
        let (ours, theirs) = (config.registry_options(), Options::default());
        assert_eq!(ours.connect_timeout, theirs.connect_timeout);
        assert_eq!(ours.first_byte_timeout, theirs.first_byte_timeout);
    }

    #[test]
    fn every_limit_has_a_key() {
        for (_, path) in LIMITS {
            assert!(keys::at(path).is_some(), "{path}");
        }
    }
}
