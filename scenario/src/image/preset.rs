//! The images everybody talks about, by name. Their numbers come from the survey of 1,525 real images.

use super::{ContentKind, FileSizes, ImageSpec, LayerSpec, MediaType, OddEntries};
use crate::{ByteSize, ByteSizeError};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A named image.
#[derive(Debug)]
pub struct Preset {
    /// The name before the colon.
    pub name: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// The size without one given; none where the preset takes no size.
    pub uncompressed_bytes: Option<u64>,
    layers: fn(u64) -> Vec<LayerSpec>,
}

/// A text that names no preset.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PresetError {
    /// No such name.
    #[error("{name:?} is no preset: known are {}", preset_names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The size cannot be read.
    #[error("preset {name}: {source}")]
    Size {
        /// The preset.
        name: String,
        /// Why.
        source: ByteSizeError,
    },
    /// The size does not suit the preset.
    #[error("preset {name} {reason}")]
    UnsuitableSize {
        /// The preset.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

/// All presets, in the order of listings.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "tiny",
        summary: "3 small layers for smoke tests",
        uncompressed_bytes: Some(MIB),
        layers: tiny,
    },
    Preset {
        name: "many-layers",
        summary: "125 equal layers, near the limit of overlay mounts",
        uncompressed_bytes: Some(125 * MIB),
        layers: many_layers,
    },
    Preset {
        name: "one-giant-layer",
        summary: "one gzip layer, whose inflate nothing can split without work",
        uncompressed_bytes: Some(GIB),
        layers: one_giant_layer,
    },
    Preset {
        name: "many-files",
        summary: "50,000 files of 4 KiB in 4 layers: creating files is the limit",
        uncompressed_bytes: Some(50_000 * SMALL_FILE_TAR_BYTES),
        layers: many_files,
    },
    Preset {
        name: "ml-like",
        summary: "22 layers like a machine-learning image: largest 41 % of the bytes, ratio 2.4",
        uncompressed_bytes: Some(GIB),
        layers: ml_like,
    },
    Preset {
        name: "zeros-9",
        summary: "9 layers of zeros, as the container-chonks study pulled",
        uncompressed_bytes: Some(GIB),
        layers: zeros_9,
    },
    Preset {
        name: "zstd",
        summary: "5 zstd layers",
        uncompressed_bytes: Some(64 * MIB),
        layers: zstd,
    },
    Preset {
        name: "metadata",
        summary: "odd tar entries on which overlayfs of containerd 1.6 and parapull agree",
        uncompressed_bytes: None,
        layers: metadata,
    },
];

/// A 4 KiB file and its header.
const SMALL_FILE_TAR_BYTES: u64 = 4_096 + 512;

pub(super) fn parse(text: &str) -> Result<ImageSpec, PresetError> {
    let (name, size) = match text.split_once(':') {
        Some((name, size)) => (name, Some(size)),
        None => (text, None),
    };
    let preset = PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| PresetError::Unknown {
            name: name.chars().take(60).collect(),
        })?;
    let bytes = preset_bytes(preset, size)?;
    Ok(ImageSpec {
        name: name.to_owned(),
        seed: 0,
        layers: (preset.layers)(bytes),
    })
}

fn preset_bytes(preset: &Preset, size: Option<&str>) -> Result<u64, PresetError> {
    let name = || preset.name.to_owned();
    match (preset.uncompressed_bytes, size) {
        (default, None) => Ok(default.unwrap_or(0)),
        (None, Some(_)) => Err(PresetError::UnsuitableSize {
            name: name(),
            reason: "takes no size",
        }),
        (Some(_), Some(size)) => {
            let size: ByteSize = size.parse().map_err(|source| PresetError::Size {
                name: name(),
                source,
            })?;
            match size.0 {
                bytes if bytes > 1 << 50 => Err(PresetError::UnsuitableSize {
                    name: name(),
                    reason: "has a size of at most 1 PiB",
                }),
                bytes => Ok(bytes),
            }
        }
    }
}

fn preset_names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    names.join(", ")
}

/// A package-like layer: text of that ratio, one file per `file_bytes`, 20 files to a directory, sizes skewed.
fn packages(bytes: u64, ratio_permille: u32, file_bytes: u64) -> LayerSpec {
    let files = count(bytes, file_bytes);
    LayerSpec::new(ContentKind::Text, bytes)
        .with_ratio_permille(ratio_permille)
        .with_files(files, files.div_ceil(20), FileSizes::Skewed)
}

fn count(bytes: u64, each_bytes: u64) -> u32 {
    u32::try_from((bytes / each_bytes).max(1)).unwrap_or(u32::MAX)
}

fn tiny(bytes: u64) -> Vec<LayerSpec> {
    let mut top = packages(bytes / 4, 2_400, 8 << 10);
    top.whiteouts = 1;
    vec![
        packages(bytes - bytes / 4 - bytes / 4, 2_400, 8 << 10),
        packages(bytes / 4, 2_400, 8 << 10),
        top,
    ]
}

fn many_layers(bytes: u64) -> Vec<LayerSpec> {
    vec![packages(bytes / 125, 2_400, 64 << 10); 125]
}

fn one_giant_layer(bytes: u64) -> Vec<LayerSpec> {
    vec![packages(bytes, 2_400, 256 << 10)]
}

fn many_files(bytes: u64) -> Vec<LayerSpec> {
    let files = count(bytes, SMALL_FILE_TAR_BYTES);
    let shares_percent = [50, 25, 15];
    let mut rest = files;
    let mut counts: Vec<u32> = Vec::new();
    for percent in shares_percent {
        let share = u32::try_from(u64::from(files) * percent / 100).unwrap_or(0);
        rest -= share;
        counts.push(share);
    }
    counts.push(rest);
    counts.into_iter().map(small_files).collect()
}

fn small_files(files: u32) -> LayerSpec {
    let directories = files.div_ceil(100);
    let layer =
        LayerSpec::new(ContentKind::Text, 0).with_files(files, directories, FileSizes::Even);
    LayerSpec {
        uncompressed_bytes: u64::from(files) * SMALL_FILE_TAR_BYTES
            + u64::from(directories) * 512
            + 1_024,
        ..layer
    }
}

/// Shares of the bytes in 1/10,000, bottom first. 22 layers, the largest 41 %, ten that matter, half of them below 0.1 %.
const ML_LIKE_SHARES: [u64; 22] = [
    75, 2, 410, 0, 1_450, 1, 620, 0, 230, 4_100, 12, 1_700, 3, 90, 1, 850, 5, 400, 1, 45, 1, 4,
];
const ML_LIKE_EMPTY: usize = 3;
const ML_LIKE_EMPTY_AGAIN: usize = 7;
const ML_LIKE_LARGEST: usize = 9;
const ML_LIKE_WEIGHTS: usize = 15;

/// The largest layer has the overall ratio 2.4, so that it is 41 % of both kinds of bytes; the weights shrink by 1.26,
/// and the rest by 2.83 so that the whole comes to 2.4.
fn ml_like(bytes: u64) -> Vec<LayerSpec> {
    let layer = |(index, share): (usize, &u64)| {
        let share_bytes =
            u64::try_from(u128::from(bytes) * u128::from(*share) / 10_000).unwrap_or(0);
        match index {
            ML_LIKE_EMPTY => LayerSpec::empty(),
            ML_LIKE_EMPTY_AGAIN => LayerSpec::duplicate(3),
            ML_LIKE_LARGEST => packages(share_bytes, 2_400, 160 << 10),
            ML_LIKE_WEIGHTS => {
                let files = count(share_bytes, 256 * MIB);
                LayerSpec::new(ContentKind::Weights, share_bytes).with_files(
                    files,
                    1,
                    FileSizes::Even,
                )
            }
            _ => packages(share_bytes, 2_830, 80 << 10),
        }
    };
    ML_LIKE_SHARES.iter().enumerate().map(layer).collect()
}

fn zeros_9(bytes: u64) -> Vec<LayerSpec> {
    vec![LayerSpec::new(ContentKind::Zeros, bytes / 9); 9]
}

fn zstd(bytes: u64) -> Vec<LayerSpec> {
    let shares_percent = [10, 40, 25, 20, 5];
    let layer = |percent: u64| {
        packages(bytes / 100 * percent, 2_400, 64 << 10)
            .with_media_type(MediaType::Zstd { level: 3 })
    };
    shares_percent.into_iter().map(layer).collect()
}

/// The sizes and counts are those of the entries the crafter writes; its tests hold the two together.
fn metadata(_bytes: u64) -> Vec<LayerSpec> {
    let odd = |odd_entries, media_type, uncompressed_bytes, files, directories| LayerSpec {
        uncompressed_bytes,
        files,
        directories,
        ratio_permille: ODD_RATIO_PERMILLE,
        odd_entries: Some(odd_entries),
        media_type,
        ..LayerSpec::empty()
    };
    vec![
        packages(64 << 10, 2_400, 8 << 10),
        odd(
            OddEntries::Types,
            MediaType::GzipMembers { level: 6 },
            81_920,
            47,
            27,
        ),
        odd(
            OddEntries::Overrides,
            MediaType::Zstd { level: 3 },
            16_896,
            9,
            5,
        ),
        LayerSpec::empty(),
        odd(OddEntries::Repeats, MediaType::Uncompressed, 16_384, 11, 4),
        LayerSpec::duplicate(3),
    ]
}

/// Headers with little behind them shrink a lot.
const ODD_RATIO_PERMILLE: u32 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_sizes_and_refuse_nonsense() {
        let image = ImageSpec::preset("zeros-9:9MiB").unwrap();
        assert_eq!(image.layers.len(), 9);
        assert_eq!(image.uncompressed_bytes(), 9 * MIB);
        assert!(matches!(
            ImageSpec::preset("huge"),
            Err(PresetError::Unknown { .. })
        ));
        assert!(matches!(
            ImageSpec::preset("tiny:x"),
            Err(PresetError::Size { .. })
        ));
        for text in ["metadata:1MiB", "tiny:2000TiB"] {
            assert!(
                matches!(
                    ImageSpec::preset(text),
                    Err(PresetError::UnsuitableSize { .. })
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn ml_like_is_like_the_survey() {
        let image = ImageSpec::preset("ml-like").unwrap();
        let shape = image.shape();
        assert_eq!(shape.len(), 22);
        let uncompressed = image.uncompressed_bytes();
        let compressed = image.compressed_bytes();
        let ratio_permille = uncompressed * 1_000 / compressed;
        assert!(
            (2_370..=2_430).contains(&ratio_permille),
            "{ratio_permille}"
        );
        let largest = shape
            .iter()
            .map(|layer| layer.compressed_bytes)
            .max()
            .unwrap();
        let share_permille = largest * 1_000 / compressed;
        assert!((400..=420).contains(&share_permille), "{share_permille}");
        let small = shape
            .iter()
            .filter(|layer| layer.compressed_bytes < 1_000_000)
            .count();
        assert!((10..=14).contains(&small), "{small} layers below 1 MB");
    }

    #[test]
    fn sizes_are_honoured_within_a_hundredth() {
        for name in [
            "tiny",
            "many-layers",
            "one-giant-layer",
            "many-files",
            "ml-like",
            "zeros-9",
            "zstd",
        ] {
            for bytes in [64 * MIB, 5 * GIB] {
                let image = ImageSpec::preset(&format!("{name}:{bytes}")).unwrap();
                let got = image.uncompressed_bytes();
                assert!(
                    got.abs_diff(bytes) <= bytes / 100,
                    "{name}: {got} for {bytes}"
                );
            }
        }
    }

    #[test]
    fn small_sizes_stay_possible() {
        for preset in PRESETS
            .iter()
            .filter(|preset| preset.uncompressed_bytes.is_some())
        {
            for size in ["0", "1", "1KiB", "1MiB"] {
                let image = ImageSpec::preset(&format!("{}:{size}", preset.name)).unwrap();
                assert_eq!(image.check(), Ok(()), "{}:{size}", preset.name);
            }
        }
    }

    #[test]
    fn many_files_has_fifty_thousand() {
        let image = ImageSpec::preset("many-files").unwrap();
        let files: u32 = image.layers.iter().map(|layer| layer.files).sum();
        assert_eq!(files, 50_000);
    }
}
