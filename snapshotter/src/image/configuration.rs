//! The image configuration, of which a pull needs the diff ids and the platform only.

use serde::Deserialize;

use super::error::{self, ImageError};
use super::platform::Platform;
use super::{CONFIG_BYTES_MAX, LAYERS_MAX};
use crate::digest::Digest;

/// The parts of an image configuration that a pull uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
    /// What the image runs on; fields may be empty in images of old builders.
    pub platform: Platform,
}

impl Configuration {
    /// Parses a configuration.
    ///
    /// # Errors
    /// It is too large, malformed, or has no `rootfs` of type `layers`, as artefacts that are no images do.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let raw: RawConfiguration = error::parse_json(WHAT, bytes, CONFIG_BYTES_MAX)?;
        let Some(rootfs) = raw.rootfs else {
            return Err(malformed(
                "it has no \"rootfs\", so this is an artefact and not a container image",
            ));
        };
        if rootfs.kind != "layers" {
            return Err(malformed("its \"rootfs\" is not of type \"layers\""));
        }
        let diff_ids = rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() > LAYERS_MAX {
            return Err(ImageError::TooManyLayers {
                layers: diff_ids.len(),
                layers_max: LAYERS_MAX,
            });
        }
        Ok(Self {
            diff_ids,
            platform: Platform {
                os: raw.os.unwrap_or_default(),
                architecture: raw.architecture.unwrap_or_default(),
                variant: raw.variant.unwrap_or_default(),
            },
        })
    }

    /// Refuses a configuration that is for another platform; what it leaves empty is not held against it.
    ///
    /// # Errors
    /// The operating system or the architecture is not one that `wanted` can run.
    pub fn check_platform(&self, wanted: &Platform) -> Result<(), ImageError> {
        if self.platform.os.is_empty() || self.platform.architecture.is_empty() {
            return Ok(());
        }
        let actual = self.platform.normalized();
        let fits = |candidate: &Platform| {
            candidate.os == actual.os && candidate.architecture == actual.architecture
        };
        if wanted.acceptable().iter().any(fits) {
            return Ok(());
        }
        Err(ImageError::WrongPlatform {
            expected: wanted.to_string(),
            actual: error::excerpt(&self.platform.to_string()),
        })
    }
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

fn malformed(message: &str) -> ImageError {
    ImageError::Malformed {
        what: WHAT,
        message: message.to_owned(),
    }
}

const WHAT: &str = "configuration";
