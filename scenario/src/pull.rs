//! A scenario: everything that decides how a simulated run goes, as one value.
//!
//! A failing run is saved as this value, never as a seed, so that it stays the same run when a generator changes.
//! Running it is the simulator's part.

use parapull_engine::{HedgeRules, HostRules, Strategy, Timing};
use serde::{Deserialize, Serialize};

use crate::{Faults, Host, ImageSpec, LimitsSpec, MediaType, Mishaps, RegistryProfile};

/// What is pulled, where, from where, how, and what goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What reports call it.
    #[serde(default)]
    pub name: String,
    /// Decides every draw: the engine's jitter and the registry's latencies.
    #[serde(default)]
    pub seed: u64,
    /// The pulls.
    pub pulls: Vec<PullSpec>,
    /// The node.
    #[serde(default)]
    pub host: Host,
    /// The registry.
    #[serde(default)]
    pub registry: RegistryProfile,
    /// The way of pulling.
    #[serde(default = "streamed")]
    pub strategy: Strategy,
    /// What may run at once.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// How long to wait and how often to try; the defaults when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// How hosts are treated; the defaults when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostRules>,
    /// Which slow ranges are asked for twice; the defaults when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<HedgeRules>,
    /// What goes wrong at the registry.
    #[serde(default)]
    pub faults: Faults,
    /// What goes wrong on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_faults: Vec<LocalFault>,
    /// Limits that take force in mid-run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limit_changes: Vec<LimitChange>,
    /// When the daemon is told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_ms: Option<u64>,
    /// What else goes wrong.
    #[serde(default, skip_serializing_if = "Mishaps::is_none")]
    pub mishaps: Mishaps,
}

/// One image asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullSpec {
    /// What is pulled; equal images share their blobs.
    pub image: ImageSource,
    /// When it is asked for.
    #[serde(default)]
    pub at_ms: u64,
    /// How its layers are waited for.
    #[serde(default)]
    pub awaiting: Awaiting,
    /// Its share beside other images.
    #[serde(default = "one")]
    pub weight: u32,
    /// When its caller changes its mind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancel>,
    /// So many layers from the bottom are linked already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub linked: u32,
    /// Indices of layers that lie staged from an earlier life of the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<u32>,
    /// Indices of layers that lie in place over other parents, for images that are not pulled here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<u32>,
    /// Bytes of blobs that lie in a local store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<LocalBytes>,
}

/// Bytes of a layer's blob that lie on the node before it is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalBytes {
    /// Index of the layer.
    pub index: u32,
    /// First byte, in thousandths of the blob.
    pub from_permille: u32,
    /// One past the last byte, in thousandths of the blob; from 0 to 1000 is all of it.
    pub to_permille: u32,
}

/// Where an image's layers are described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// A craft file, such as `{"preset": "ml-like:1GiB"}`; sizes are the planned ones.
    Spec(ImageSpec),
    /// The layers themselves, bottom first.
    Layers(Vec<PlannedLayer>),
}

/// A layer as the simulator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedLayer {
    /// Names the blob: layers with the same number, in any image of the scenario, are the same blob.
    pub content: u32,
    /// Bytes of the blob.
    pub compressed_bytes: u64,
    /// Bytes of the tar.
    pub uncompressed_bytes: u64,
    /// Files and directories.
    #[serde(default)]
    pub entries: u64,
    /// How it is decoded.
    #[serde(default)]
    pub encoding: Encoding,
    /// Places it can be read from.
    #[serde(default = "one_source", skip_serializing_if = "is_one")]
    pub sources: u16,
}

/// How a blob is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Inflated.
    #[default]
    Gzip,
    /// Decoded by zstd.
    Zstd,
    /// Read as it is.
    Plain,
}

/// How callers wait for the layers of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Awaiting {
    /// For all at once, as `parapull-snapshotter pull --to` does.
    #[default]
    Together,
    /// One by one, bottom first, as containerd calls `Prepare`; each call takes so long to come after the last answer.
    BottomUp {
        /// From one answer to the next call.
        pause_us: u32,
    },
}

/// A caller that changes its mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// When, from the start of the run.
    pub at_ms: u64,
    /// Whether the pull is cancelled outright; else its callers leave and its grace period runs.
    pub outright: bool,
}

/// Something that goes wrong on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalFault {
    /// Index of the layer in any image; every layer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// How often it happens, to the first that meet it.
    pub times: u32,
    /// What happens.
    pub kind: LocalFaultKind,
}

/// What goes wrong on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LocalFaultKind {
    /// The disk fails a lane after so much of its layer.
    LaneDisk {
        /// Thousandths of the compressed bytes.
        at_permille: u32,
    },
    /// The layer holds something no lane will unpack.
    LaneBadImage {
        /// Thousandths of the compressed bytes.
        at_permille: u32,
    },
    /// The tree depends on what lies below.
    LinkNeedsParents,
    /// The staged tree is gone when it is to be linked or cloned.
    LinkSourceGone,
    /// The disk fails a link or clone.
    LinkDisk,
    /// A blob is not in the local store that was said to hold it.
    LocalGone,
    /// A blob in the local store has a wrong byte.
    LocalCorrupt,
}

/// Limits that take force in mid-run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitChange {
    /// When.
    pub at_ms: u64,
    /// The limits from there on.
    pub limits: LimitsSpec,
}

impl Scenario {
    /// One image pulled once, with nothing going wrong.
    #[must_use]
    pub fn single(
        image: ImageSource,
        host: Host,
        registry: RegistryProfile,
        strategy: Strategy,
    ) -> Self {
        Self {
            name: String::new(),
            seed: 0,
            pulls: vec![PullSpec::new(image)],
            host,
            registry,
            strategy,
            limits: LimitsSpec::default(),
            timing: None,
            hosts: None,
            hedging: None,
            faults: Faults::default(),
            local_faults: Vec::new(),
            limit_changes: Vec::new(),
            shutdown_ms: None,
            mishaps: Mishaps::default(),
        }
    }
}

impl PullSpec {
    /// A pull at time 0 whose layers are all waited for and none of which is here.
    #[must_use]
    pub fn new(image: ImageSource) -> Self {
        Self {
            image,
            at_ms: 0,
            awaiting: Awaiting::Together,
            weight: 1,
            cancel: None,
            linked: 0,
            staged: Vec::new(),
            local: Vec::new(),
            elsewhere: Vec::new(),
        }
    }
}

impl ImageSource {
    /// The layers, bottom first; those of a craft file are numbered by index, repeats by the index they repeat.
    #[must_use]
    pub fn layers(&self) -> Vec<PlannedLayer> {
        match self {
            Self::Layers(layers) => layers.clone(),
            Self::Spec(spec) => spec
                .shape()
                .into_iter()
                .zip(0..)
                .map(|(shape, index)| PlannedLayer {
                    content: shape.duplicate_of.unwrap_or(index),
                    compressed_bytes: shape.compressed_bytes,
                    uncompressed_bytes: shape.uncompressed_bytes,
                    entries: u64::from(shape.files) + u64::from(shape.directories),
                    encoding: shape.media_type.into(),
                    sources: 1,
                })
                .collect(),
        }
    }

    /// What reports call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Spec(spec) => &spec.name,
            Self::Layers(_) => "layers",
        }
    }
}

impl From<MediaType> for Encoding {
    fn from(media_type: MediaType) -> Self {
        match media_type {
            MediaType::Gzip { .. } | MediaType::GzipMembers { .. } => Self::Gzip,
            MediaType::Zstd { .. } => Self::Zstd,
            MediaType::Uncompressed => Self::Plain,
        }
    }
}

const fn streamed() -> Strategy {
    Strategy::Streamed
}

const fn one() -> u32 {
    1
}

const fn one_source() -> u16 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_one(value: &u16) -> bool {
    *value == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_is_a_scenario_that_survives_serde() {
        let text = r#"{"pulls": [{"image": {"spec": {"preset": "tiny"}}}], "strategy": "sequential",
            "limits": {"fetches": 3, "chunk": "4MiB"}}"#;
        let scenario: Scenario = serde_json::from_str(text).unwrap();
        assert_eq!(scenario.strategy, Strategy::Sequential);
        assert_eq!(scenario.pulls[0].image.layers().len(), 3);
        let again: Scenario =
            serde_json::from_str(&serde_json::to_string(&scenario).unwrap()).unwrap();
        assert_eq!(again, scenario);
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Scenario>(r#"{"pulls": [], "hots": {}}"#).is_err());
    }

    #[test]
    fn repeated_layers_share_their_content() {
        let image = ImageSource::Spec(ImageSpec::preset("ml-like:64MiB").unwrap());
        let layers = image.layers();
        assert_eq!(layers[7].content, layers[3].content);
        assert_eq!(layers[7].compressed_bytes, layers[3].compressed_bytes);
    }
}
