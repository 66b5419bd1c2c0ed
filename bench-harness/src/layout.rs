//! Reading an OCI image layout: manifest, config, and which directories each layer's archive names itself.
//!
//! Those directories decide whose modification time two unpackers must agree on: one that a layer only implies has no
//! time of its own. Nothing is unpacked here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use parapull_scenario::Encoding;
use serde::Deserialize;

/// Why an image layout cannot be read; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of the layout cannot be read.
    #[error("read {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A document is not what the specification says.
    #[error("understand {path}: {source}", path = path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The layout holds no usable image.
    #[error("find an image in {path}: {reason}", path = path.display())]
    NoImage {
        /// The layout.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
}

/// One compressed layer of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutLayer {
    /// The digest of its compressed bytes.
    pub digest: String,
    /// The digest of its archive.
    pub diff_id: String,
    /// Compressed bytes.
    pub compressed_bytes: u64,
    /// The blob's file.
    pub blob: PathBuf,
}

/// An image in an OCI layout folder.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The manifest's digest.
    pub digest: String,
    /// Its layers, bottom first.
    pub layers: Vec<LayoutLayer>,
}

/// What one layer's archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerContents {
    /// Directories with an entry of their own: cleaned paths without a leading slash.
    pub directories: BTreeSet<Vec<u8>>,
    /// Number of entries.
    pub entries: u64,
    /// Uncompressed bytes of the archive.
    pub uncompressed_bytes: u64,
    /// How it is compressed.
    pub encoding: Encoding,
}

impl Layout {
    /// Reads the image of the layout `directory`: of an index, this machine's platform, else the first of its manifests.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(directory: &Path) -> Result<Self, LayoutError> {
        let no_image = |reason: &str| LayoutError::NoImage {
            path: directory.into(),
            reason: reason.into(),
        };
        let index: Index = document(&directory.join("index.json"))?;
        let mut digest = chosen(index.manifests).ok_or_else(|| no_image("its index is empty"))?;
        for _ in 0..INDEX_DEPTH_MAX {
            let path = blob_path(directory, &digest);
            let manifest: Manifest = document(&path)?;
            if let Some(inner) = chosen(manifest.manifests) {
                digest = inner;
                continue;
            }
            let config = manifest
                .config
                .ok_or_else(|| no_image("its manifest names no config"))?;
            let config: Config = document(&blob_path(directory, &config.digest))?;
            if config.rootfs.diff_ids.len() != manifest.layers.len() {
                return Err(no_image(
                    "its config and manifest disagree about the number of layers",
                ));
            }
            let layers =
                manifest
                    .layers
                    .into_iter()
                    .zip(config.rootfs.diff_ids)
                    .map(|(layer, diff_id)| LayoutLayer {
                        blob: blob_path(directory, &layer.digest),
                        digest: layer.digest,
                        diff_id,
                        compressed_bytes: layer.size,
                    });
            return Ok(Self {
                digest,
                layers: layers.collect(),
            });
        }
        Err(no_image("its indexes are nested too deeply"))
    }

    /// Reads every layer's archive once.
    ///
    /// # Errors
    /// [`LayoutError::File`].
    pub fn contents(&self) -> Result<Vec<LayerContents>, LayoutError> {
        self.layers.iter().map(LayoutLayer::contents).collect()
    }

    /// The sum of the layers' compressed bytes.
    pub fn compressed_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.compressed_bytes).sum()
    }
}

impl LayoutLayer {
    /// How the layer's archive is compressed, told by its magic as containerd does.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub fn encoding(&self) -> io::Result<Encoding> {
        let mut magic = [0; 4];
        let read = File::open(&self.blob)?.read(&mut magic)?;
        Ok(match &magic[..read] {
            [0x1f, 0x8b, ..] => Encoding::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Encoding::Zstd,
            _ => Encoding::Plain,
        })
    }

    /// Opens the layer's archive, decompressed.
    ///
    /// # Errors
    /// When the blob cannot be opened.
    pub fn open(&self) -> io::Result<Box<dyn Read>> {
        let reader = BufReader::with_capacity(BUFFER_BYTES, File::open(&self.blob)?);
        Ok(match self.encoding()? {
            Encoding::Gzip => Box::new(MultiGzDecoder::new(reader)),
            Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
            Encoding::Plain => Box::new(reader),
        })
    }

    /// Lists what the archive holds.
    ///
    /// # Errors
    /// [`LayoutError::File`] when the blob cannot be read or is no archive.
    pub fn contents(&self) -> Result<LayerContents, LayoutError> {
        let read = || -> io::Result<LayerContents> {
            let mut contents = LayerContents {
                encoding: self.encoding()?,
                ..LayerContents::default()
            };
            let mut archive = tar::Archive::new(self.open()?);
            for entry in archive.entries()? {
                let entry = entry?;
                contents.entries += 1;
                if entry.header().entry_type().is_dir() {
                    contents.directories.insert(clean(&entry.path_bytes()));
                }
            }
            contents.uncompressed_bytes = io::copy(&mut self.open()?, &mut io::sink())?;
            Ok(contents)
        };
        read().map_err(|source| LayoutError::File {
            path: self.blob.clone(),
            source,
        })
    }
}

/// The digest of this machine's platform, else of the first.
fn chosen(mut manifests: Vec<Descriptor>) -> Option<String> {
    let is_ours = |one: &Descriptor| one.platform.as_ref().is_some_and(Platform::is_ours);
    let place = manifests.iter().position(is_ours).unwrap_or(0);
    (place < manifests.len()).then(|| manifests.swap_remove(place).digest)
}

/// Cleans an archive's entry name lexically and clamps it to the root: `./a//b/../c/` is `a/c`.
pub fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

fn document<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, LayoutError> {
    let text = fs::read(path).map_err(|source| LayoutError::File {
        path: path.into(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| LayoutError::Document {
        path: path.into(),
        source,
    })
}

fn blob_path(directory: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    directory.join("blobs").join(algorithm).join(hex)
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Platform {
    fn is_ours(&self) -> bool {
        let ours = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.os == "linux" && self.architecture == ours
    }
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// An index of indexes exists in practice; more is a mistake or a loop.
const INDEX_DEPTH_MAX: usize = 4;
const BUFFER_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_leads_to_this_machine_s_platform() {
        let index = |architectures: &[&str]| {
            let of = |name: &&str| {
                let platform = serde_json::json!({"architecture": name, "os": "linux"});
                serde_json::json!({"digest": name, "platform": platform})
            };
            let manifests: Vec<_> = architectures.iter().map(of).collect();
            serde_json::from_value::<Index>(serde_json::json!({"manifests": manifests})).unwrap()
        };
        let both = index(&["s390x", "amd64", "arm64"]);
        let found = chosen(both.manifests).unwrap();
        assert!(["amd64", "arm64"].contains(&found.as_str()), "{found}");
        let other = index(&["s390x", "riscv64"]);
        assert_eq!(chosen(other.manifests).as_deref(), Some("s390x"));
        assert_eq!(chosen(Vec::new()), None);
    }

    #[test]
    fn cleans_names_as_containerd_does() {
        for (name, path) in [
            ("./", ""),
            ("./usr/bin/", "usr/bin"),
            ("/etc//passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("..", ""),
        ] {
            assert_eq!(clean(name.as_bytes()), path.as_bytes(), "{name}");
        }
    }
}
