//! Limits as people write them: each a number or `"auto"`, and what `auto` comes to.
//!
//! The snapshotter and the simulator resolve with the same function, so what is predicted is what will run. The relations
//! between limits are the engine's to check (`parapull_engine::Limits`).

use parapull_engine::{RawLimits, Strategy};
use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// One limit: a value, or whatever suits the node and the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "\"auto\" or a value such as 8 or \"8MiB\"")]
pub enum Setting<T> {
    /// `"auto"`, or nothing at all.
    #[default]
    #[serde(with = "auto_word")]
    Auto,
    /// Just this.
    Is(T),
}

impl<T> Setting<T> {
    /// The value, or `auto` where none is set.
    pub fn or(self, auto: T) -> T {
        match self {
            Self::Auto => auto,
            Self::Is(value) => value,
        }
    }
}

impl<T> From<T> for Setting<T> {
    fn from(value: T) -> Self {
        Self::Is(value)
    }
}

/// What may run at once, as written in a scenario or configuration; see [`RawLimits`] for what each one costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Fetches at once in total.
    #[serde(skip_serializing_if = "is_auto")]
    pub fetches: Setting<u32>,
    /// Fetches at once for one image.
    #[serde(skip_serializing_if = "is_auto")]
    pub fetches_per_image: Setting<u32>,
    /// Layers unpacked at once in total.
    #[serde(skip_serializing_if = "is_auto")]
    pub unpacks: Setting<u32>,
    /// Layers unpacked at once for one image.
    #[serde(skip_serializing_if = "is_auto")]
    pub unpacks_per_image: Setting<u32>,
    /// Largest range asked for at once; 0 asks for whole blobs.
    #[serde(skip_serializing_if = "is_auto")]
    pub chunk: Setting<ByteSize>,
    /// Credit granted at once to a whole read.
    #[serde(skip_serializing_if = "is_auto")]
    pub slice: Setting<ByteSize>,
    /// Fetched bytes held in memory, in total.
    #[serde(skip_serializing_if = "is_auto")]
    pub window: Setting<ByteSize>,
    /// Fetched bytes held in memory for one layer.
    #[serde(skip_serializing_if = "is_auto")]
    pub layer_window: Setting<ByteSize>,
    /// Compressed bytes held on disk.
    #[serde(skip_serializing_if = "is_auto")]
    pub spool: Setting<ByteSize>,
    /// Threads of all lanes together.
    #[serde(skip_serializing_if = "is_auto")]
    pub threads: Setting<u32>,
    /// Threads of one lane.
    #[serde(skip_serializing_if = "is_auto")]
    pub threads_per_lane: Setting<u32>,
    /// Cores to count on; `auto` is as many as the node has.
    #[serde(skip_serializing_if = "is_auto")]
    pub cores: Setting<u32>,
    /// Threads of a lane that the pull waits for while cores are idle; up to `threads_per_lane` means none is widened.
    #[serde(skip_serializing_if = "is_auto")]
    pub wide_threads: Setting<u32>,
    /// Compressed bytes a layer must still have for its lane to be widened.
    #[serde(skip_serializing_if = "is_auto")]
    pub wide_min: Setting<ByteSize>,
}

/// What every limit comes to when all of them are `auto`.
#[must_use]
pub fn resolve_auto(cores: u32, strategy: Strategy) -> RawLimits {
    LimitsSpec::default().resolve(cores, strategy)
}

impl LimitsSpec {
    /// The limits as numbers. What is `auto` follows what is set, so that the relations between limits hold whenever
    /// they can.
    ///
    /// | limit | sequential | multipart | store-then-unpack | streamed |
    /// |---|---|---|---|---|
    /// | fetches per image | 3 | 10 | 10 | 16 |
    /// | unpacks per image | 1 | 1 | 10 | cores + 1 |
    /// | chunk | whole | 8 MiB | 8 MiB | 8 MiB |
    /// | threads per lane | 1 | 1 | 3 | 2 |
    /// | threads of a wide lane | 1 | 1 | 1 | cores + 1, 4 to 6; 1 on two cores |
    ///
    /// - *fetches*: 3 is containerd's default; 10 is what SOCI's documentation recommends. 16 × 45 MB/s of one connection to
    ///   a typical registry = 720 MB/s, which feeds eight inflating cores at ratio 2.4 (8 × 740 / 2.4 = 2.5 GB/s is the
    ///   bound, but one layer seldom has them all). In total four images' worth.
    /// - *chunk* 8 MiB: at 90 MB/s and 20 ms to the first byte, 82 % of a connection is used; 16 MiB would give 90 % but
    ///   double what a lane must be kept ahead.
    /// - *unpacks* cores + 1: one lane may wait for bytes while every core is busy. In total the same for `streamed`, where
    ///   cores are shared; four images' worth where a strategy limits each image by itself.
    /// - *window* 512 MiB, more if two chunks for every lane need it. *Layer window* 128 MiB = 16 chunks, so that all
    ///   fetches of an image may serve one layer.
    /// - *threads* two for every core (a lane alternates between inflating and writing), at least one for each unpack.
    ///   *Threads per lane*: containerd decodes, hashes and applies a layer in one goroutine (`diff/apply`, with Go's gunzip);
    ///   SOCI decodes, hashes and applies in three; ours inflates in one and hashes and writes in the other.
    /// - *threads of a wide lane*: several threads inflate one stream at 0.6 of the speed each, which two cores cannot repay
    ///   (`WIDE_CORES_MIN`); beyond four that inflate the hash of the layer is the wall (1.75 GB/s), and two more hash and
    ///   write. *Wide from* 32 MiB, four pieces of 2 MiB for each of four that inflate: what is shorter is inflated in 0.15 s.
    /// - *spool* without bound for those that store; they have never had one.
    #[must_use]
    pub fn resolve(&self, cores: u32, strategy: Strategy) -> RawLimits {
        let cores = self.cores.or(cores).clamp(1, CORES_MAX);
        let auto = Typical::of(cores, strategy);
        let fetches_per_image = per_image(self.fetches_per_image, self.fetches, auto.fetches);
        let unpacks_per_image = per_image(self.unpacks_per_image, self.unpacks, auto.unpacks);
        let unpacks = self.unpacks.or(match strategy {
            Strategy::Streamed => unpacks_per_image,
            Strategy::Sequential | Strategy::Multipart | Strategy::StoreThenUnpack => {
                unpacks_per_image.saturating_mul(IMAGES_AT_ONCE)
            }
        });
        let chunk_bytes = self.chunk.or(ByteSize(auto.chunk_bytes)).0;
        let slice_bytes = self.slice.or(ByteSize(match chunk_bytes {
            0 => CHUNK_BYTES,
            chunk => chunk.min(CHUNK_BYTES),
        }));
        let piece_bytes = chunk_bytes.max(slice_bytes.0);
        let for_lanes = piece_bytes.saturating_mul(2).saturating_mul(unpacks.into());
        let window = self.window.or(ByteSize(WINDOW_BYTES.max(for_lanes)));
        let for_layer = LAYER_WINDOW_BYTES.max(piece_bytes.saturating_mul(2));
        RawLimits {
            fetches_max: self
                .fetches
                .or(fetches_per_image.saturating_mul(IMAGES_AT_ONCE)),
            fetches_per_image_max: fetches_per_image,
            unpacks_max: unpacks,
            unpacks_per_image_max: unpacks_per_image,
            chunk_bytes_max: chunk_bytes,
            slice_bytes: slice_bytes.0,
            window_bytes_max: window.0,
            layer_window_bytes_max: self.layer_window.or(ByteSize(for_layer.min(window.0))).0,
            spool_bytes_max: self.spool.or(ByteSize(auto.spool_bytes)).0,
            threads_max: self.threads.or((2 * cores).max(unpacks)),
            threads_per_lane_max: self.threads_per_lane.or(auto.threads_per_lane),
            cores,
            wide_threads_max: self.wide_threads.or(auto.wide_threads),
            wide_bytes_min: self.wide_min.or(ByteSize(WIDE_BYTES_MIN)).0,
        }
    }
}

/// What strategies differ in.
struct Typical {
    fetches: u32,
    threads_per_lane: u32,
    wide_threads: u32,
    unpacks: u32,
    chunk_bytes: u64,
    spool_bytes: u64,
}

impl Typical {
    fn of(cores: u32, strategy: Strategy) -> Self {
        let spool_bytes = SPOOL_UNLIMITED_BYTES;
        match strategy {
            Strategy::Sequential => Self {
                fetches: 3,
                threads_per_lane: 1,
                wide_threads: 1,
                unpacks: 1,
                chunk_bytes: 0,
                spool_bytes,
            },
            Strategy::Multipart => Self {
                fetches: 10,
                threads_per_lane: 1,
                wide_threads: 1,
                unpacks: 1,
                chunk_bytes: CHUNK_BYTES,
                spool_bytes,
            },
            Strategy::StoreThenUnpack => Self {
                fetches: 10,
                threads_per_lane: 3,
                wide_threads: 1,
                unpacks: 10,
                chunk_bytes: CHUNK_BYTES,
                spool_bytes,
            },
            Strategy::Streamed => Self {
                fetches: 16,
                threads_per_lane: 2,
                wide_threads: if cores < WIDE_CORES_MIN {
                    1
                } else {
                    (cores + 1).min(WIDE_THREADS)
                },
                unpacks: cores + 1,
                chunk_bytes: CHUNK_BYTES,
                spool_bytes: 0,
            },
        }
    }
}

/// A limit per image is never above a total that was set.
fn per_image(own: Setting<u32>, total: Setting<u32>, auto: u32) -> u32 {
    own.or(match total {
        Setting::Auto => auto,
        Setting::Is(total) => auto.min(total),
    })
}

fn is_auto<T>(setting: &Setting<T>) -> bool {
    matches!(setting, Setting::Auto)
}

mod auto_word {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        Auto,
    }

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        Word::Auto.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        Word::deserialize(deserializer).map(|_| ())
    }
}

const CHUNK_BYTES: u64 = 8 << 20;
const WINDOW_BYTES: u64 = 512 << 20;
const LAYER_WINDOW_BYTES: u64 = 128 << 20;
const IMAGES_AT_ONCE: u32 = 4;
/// Beyond any disk, and still far from where sums overflow.
const SPOOL_UNLIMITED_BYTES: u64 = u64::MAX / 2;
/// Inflating on several threads costs 1.6 to 1.8 times the work, so what two cores do together is what one did alone.
const WIDE_CORES_MIN: u32 = 3;
/// Four that inflate, one that hashes, one that writes.
const WIDE_THREADS: u32 = 6;
const WIDE_BYTES_MIN: u64 = 32 << 20;
/// More cores than any node has; keeps the arithmetic within 32 bits.
const CORES_MAX: u32 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use parapull_engine::Limits;

    #[test]
    fn auto_works_for_every_strategy_on_every_node() {
        for strategy in Strategy::ALL {
            for cores in [0, 1, 2, 8, 32, 192, 1_000, u32::MAX] {
                let raw = resolve_auto(cores, strategy);
                assert!(Limits::try_from(raw).is_ok(), "{strategy} {cores}: {raw:?}");
            }
        }
    }

    #[test]
    fn auto_follows_what_is_set() {
        for text in [
            r#"{"unpacks": 40}"#,
            r#"{"unpacks_per_image": 100}"#,
            r#"{"fetches": 2}"#,
            r#"{"chunk": "1GiB"}"#,
            r#"{"chunk": 0, "unpacks": 200}"#,
            r#"{"fetches_per_image": 300, "chunk": "auto"}"#,
            r#"{"window": "64MiB", "unpacks": 4}"#,
        ] {
            let spec: LimitsSpec = serde_json::from_str(text).unwrap();
            for strategy in Strategy::ALL {
                let limits = Limits::try_from(spec.resolve(4, strategy));
                assert!(limits.is_ok(), "{text} {strategy}: {limits:?}");
            }
        }
    }

    #[test]
    fn a_setting_reads_as_people_write_it() {
        let spec: LimitsSpec =
            toml::from_str("chunk = \"16mb\"\nfetches = \"auto\"\nunpacks = 3\n").unwrap();
        assert_eq!(spec.chunk, Setting::Is(ByteSize(16 << 20)));
        assert_eq!(spec.fetches, Setting::Auto);
        assert_eq!(spec.unpacks, Setting::Is(3));
        let error = toml::from_str::<LimitsSpec>("unpacks = \"many\"\n").unwrap_err();
        assert!(error.to_string().contains("auto"), "{error}");
        let again: LimitsSpec =
            serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
    }
}
