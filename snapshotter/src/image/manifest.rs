//! Manifests and indexes of OCI and of Docker schema 2.

use serde::Deserialize;

use super::descriptor::{Descriptor, MediaKind, RawDescriptor};
use super::error::{self, ImageError};
use super::platform::Platform;
use super::{LAYERS_MAX, MANIFEST_BYTES_MAX};

/// What a registry answers when asked for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A list of images for several platforms.
    Index(Index),
    /// One platform's image.
    Manifest(Manifest),
}

/// An OCI index or a Docker manifest list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The entries, in the order of the document.
    pub entries: Vec<IndexEntry>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The manifest or nested index.
    pub descriptor: Descriptor,
    /// What it is for, if the index says so.
    pub platform: Option<Platform>,
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
}

impl Document {
    /// Parses a manifest or an index.
    ///
    /// `content_type` is the header it came with, if any; it is only believed where the document itself is silent.
    ///
    /// # Errors
    /// See [`ImageError`]; among them schema 1 and documents that could be read in two ways.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ImageError> {
        let raw: RawDocument = error::parse_json("manifest", bytes, MANIFEST_BYTES_MAX)?;
        raw.into_document(content_type)
    }
}

impl Manifest {
    /// Parses a document that must be an image manifest.
    ///
    /// # Errors
    /// As [`Document::parse`], and an index is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        match Document::parse(bytes, None)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ImageError::UnknownMediaType {
                media_type: "image index".to_owned(),
            }),
        }
    }
}

impl Index {
    /// The entry that suits `platform` best.
    ///
    /// The order is containerd's (`platforms.Only`): the exact variant, then older ones, then the 32-bit sibling. An entry
    /// without a platform is the last resort; its configuration decides later. Among equals the first wins.
    ///
    /// # Errors
    /// Nothing suits.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor, ImageError> {
        let acceptable = platform.acceptable();
        let rank = |entry: &IndexEntry| match &entry.platform {
            Some(offered) => {
                let offered = offered.normalized();
                acceptable
                    .iter()
                    .position(|candidate| candidate.matches(&offered))
            }
            None => Some(acceptable.len()),
        };
        self.entries
            .iter()
            .filter(|entry| {
                matches!(
                    MediaKind::of(&entry.descriptor.media_type),
                    MediaKind::Index | MediaKind::Manifest
                )
            })
            .filter_map(|entry| rank(entry).map(|rank| (rank, entry)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| &entry.descriptor)
            .ok_or_else(|| self.nothing_for(platform))
    }

    fn nothing_for(&self, platform: &Platform) -> ImageError {
        let offered: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref().map(Platform::to_string))
            .collect();
        ImageError::NoPlatform {
            platform: platform.to_string(),
            offered: if offered.is_empty() {
                "nothing".to_owned()
            } else {
                error::excerpt(&offered.join(", "))
            },
        }
    }
}

/// Both kinds of document at once, so that contradictions are seen.
#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl RawDocument {
    fn into_document(self, content_type: Option<&str>) -> Result<Document, ImageError> {
        let kind = self.kind(content_type)?;
        match (kind, self.manifests, self.config, self.layers) {
            (MediaKind::Index, Some(manifests), None, None) => {
                index(manifests).map(Document::Index)
            }
            (MediaKind::Manifest, None, Some(config), layers) => {
                manifest(config, layers.unwrap_or_default()).map(Document::Manifest)
            }
            (MediaKind::Index, None, ..) => Err(malformed("an index needs \"manifests\"")),
            (MediaKind::Manifest, None, None, _) => {
                Err(malformed("an image manifest needs \"config\""))
            }
            (MediaKind::Index | MediaKind::Manifest, ..) => Err(ImageError::Ambiguous {
                what: "manifest",
                message: "it has \"manifests\" beside \"config\" or \"layers\", or its media type says otherwise",
            }),
            (MediaKind::Schema1, ..) => Err(ImageError::Schema1),
            (MediaKind::Other, ..) => Err(malformed("it has neither \"manifests\" nor \"config\"")),
        }
    }

    /// What the document says it is, else what the header says, else what it looks like.
    fn kind(&self, content_type: Option<&str>) -> Result<MediaKind, ImageError> {
        if self.schema_version == Some(1) || self.fs_layers.is_some() {
            return Ok(MediaKind::Schema1);
        }
        if let Some(media_type) = &self.media_type {
            return match MediaKind::of(media_type) {
                MediaKind::Other => Err(ImageError::UnknownMediaType {
                    media_type: error::excerpt(media_type),
                }),
                kind @ (MediaKind::Index | MediaKind::Manifest | MediaKind::Schema1) => Ok(kind),
            };
        }
        Ok(match content_type.map(MediaKind::of) {
            Some(kind @ (MediaKind::Index | MediaKind::Manifest | MediaKind::Schema1)) => kind,
            Some(MediaKind::Other) | None if self.manifests.is_some() => MediaKind::Index,
            Some(MediaKind::Other) | None if self.config.is_some() => MediaKind::Manifest,
            Some(MediaKind::Other) | None => MediaKind::Other,
        })
    }
}

fn index(manifests: Vec<RawDescriptor>) -> Result<Index, ImageError> {
    let entries = manifests
        .into_iter()
        .map(|mut raw| {
            let platform = raw.platform.take();
            IndexEntry {
                descriptor: raw.into_descriptor(),
                platform,
            }
        })
        .collect();
    Ok(Index { entries })
}

fn manifest(config: RawDescriptor, layers: Vec<RawDescriptor>) -> Result<Manifest, ImageError> {
    if layers.len() > LAYERS_MAX {
        return Err(ImageError::TooManyLayers {
            layers: layers.len(),
            layers_max: LAYERS_MAX,
        });
    }
    let config = config.into_descriptor();
    config.check_size("configuration")?;
    let layers: Vec<_> = layers
        .into_iter()
        .map(RawDescriptor::into_descriptor)
        .collect();
    for layer in &layers {
        layer.check_size("layer")?;
    }
    Ok(Manifest { config, layers })
}

fn malformed(message: &str) -> ImageError {
    ImageError::Malformed {
        what: "manifest",
        message: message.to_owned(),
    }
}
