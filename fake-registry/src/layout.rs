//! Reads an OCI image layout: which images a folder holds and where their blobs are. It writes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The media type of an OCI image index.
pub(crate) const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Documents beyond this are no manifests.
const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// A folder in OCI image layout.
#[derive(Clone, Debug)]
pub struct OciLayout {
    directory: PathBuf,
    index: Index,
    index_bytes: Vec<u8>,
}

/// A layout that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file is missing or cannot be read.
    #[error("read {path}: is this an OCI layout folder?", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A document is no JSON of its kind.
    #[error("parse {path}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Nothing to serve under that tag.
    #[error("find tag {tag} in {path}: it holds {found}", path = path.display())]
    NoImage {
        /// The layout.
        path: PathBuf,
        /// The tag.
        tag: String,
        /// What there is instead.
        found: String,
    },
    /// A digest that names no file, perhaps on purpose.
    #[error("use digest {digest:?}: it is no sha256 or sha512 digest")]
    Digest {
        /// The text.
        digest: String,
    },
    /// A document too large to be one.
    #[error("read {path}: {bytes} bytes are too many for a manifest", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// A document that a tag leads to: a manifest, or an index of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The digest of `bytes`.
    pub digest: String,
    /// What to serve it as.
    pub media_type: String,
    /// The document as it is stored.
    pub bytes: Vec<u8>,
}

/// What the documents below a root name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Manifests and indexes with their media types, the root included.
    pub documents: Vec<Document>,
    /// Digests of configs.
    pub configs: BTreeSet<String>,
    /// Digests of layers with their index from the bottom, image after image.
    pub layers: Vec<(u32, String)>,
}

#[derive(Clone, Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// A manifest or an index: whichever fields are there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyManifest {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl OciLayout {
    /// Opens a layout folder.
    ///
    /// # Errors
    /// When `oci-layout` or `index.json` is missing or no JSON.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, LayoutError> {
        let directory = directory.as_ref();
        read_document(&directory.join("oci-layout"))?;
        let path = directory.join("index.json");
        let index_bytes = read_document(&path)?;
        let index = parse(&path, &index_bytes)?;
        Ok(Self {
            directory: directory.to_owned(),
            index,
            index_bytes,
        })
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a blob is, whether it exists or not.
    ///
    /// # Errors
    /// When the digest is none, so that no request can leave the folder.
    pub fn blob_path(&self, digest: &str) -> Result<PathBuf, LayoutError> {
        let valid = digest.split_once(':').filter(|(algorithm, hex)| {
            let digits = match *algorithm {
                "sha256" => 64,
                "sha512" => 128,
                _ => 0,
            };
            digits > 0
                && hex.len() == digits
                && hex
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        match valid {
            Some((algorithm, hex)) => Ok(self.directory.join("blobs").join(algorithm).join(hex)),
            None => Err(LayoutError::Digest {
                digest: digest.chars().take(160).collect(),
            }),
        }
    }

    /// What a pull of `tag` gets: the manifest of that name, else the only one, else `index.json` itself as an index.
    ///
    /// # Errors
    /// When the layout is empty or the document cannot be read.
    pub fn root_for_tag(&self, tag: &str) -> Result<Document, LayoutError> {
        const REF_NAME: &str = "org.opencontainers.image.ref.name";
        let named = self.index.manifests.iter().find(|descriptor| {
            let name = descriptor.annotations.get(REF_NAME).map(String::as_str);
            name.is_some_and(|name| name == tag || name.rsplit(':').next() == Some(tag))
        });
        match (named, self.index.manifests.as_slice()) {
            (Some(descriptor), _) | (None, [descriptor]) => self.document(descriptor),
            (None, []) => Err(LayoutError::NoImage {
                path: self.directory.clone(),
                tag: tag.to_owned(),
                found: "no image".to_owned(),
            }),
            (None, _) => Ok(Document {
                digest: crate::craft::digest_of_bytes(&self.index_bytes),
                media_type: INDEX_MEDIA_TYPE.to_owned(),
                bytes: self.index_bytes.clone(),
            }),
        }
    }

    /// Everything `root` leads to, platforms included.
    ///
    /// # Errors
    /// When a manifest is missing or cannot be read; missing layers are noticed when they are asked for.
    pub fn contents(&self, root: &Document) -> Result<Contents, LayoutError> {
        let mut contents = Contents::default();
        let mut waiting = vec![root.clone()];
        while let Some(document) = waiting.pop() {
            if contents
                .documents
                .iter()
                .any(|seen| seen.digest == document.digest)
            {
                continue;
            }
            let manifest: AnyManifest = parse(&self.blob_path(&document.digest)?, &document.bytes)?;
            for descriptor in &manifest.manifests {
                // An index may name platforms that were not copied into the layout.
                if self.blob_path(&descriptor.digest)?.exists() {
                    waiting.push(self.document(descriptor)?);
                }
            }
            contents
                .configs
                .extend(manifest.config.map(|config| config.digest));
            let layers = manifest.layers.into_iter().zip(0..);
            contents
                .layers
                .extend(layers.map(|(layer, index)| (index, layer.digest)));
            contents.documents.push(document);
        }
        Ok(contents)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document, LayoutError> {
        let path = self.blob_path(&descriptor.digest)?;
        let bytes = read_document(&path)?;
        let manifest: AnyManifest = parse(&path, &bytes)?;
        let stated =
            Some(descriptor.media_type.clone()).filter(|media_type| !media_type.is_empty());
        Ok(Document {
            digest: descriptor.digest.clone(),
            media_type: stated.or(manifest.media_type).unwrap_or_default(),
            bytes,
        })
    }
}

fn read_document(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let io = |source| LayoutError::Io {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > DOCUMENT_BYTES_MAX {
        return Err(LayoutError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    fs::read(path).map_err(io)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|source| LayoutError::Json {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_cannot_leave_the_folder() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("oci-layout"), "{}").unwrap();
        fs::write(directory.path().join("index.json"), "{}").unwrap();
        let layout = OciLayout::open(directory.path()).unwrap();
        for digest in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "../x:abc",
            "md5:00",
            &format!("sha256:{}", "G".repeat(64)),
        ] {
            assert!(layout.blob_path(digest).is_err(), "{digest}");
        }
        assert!(
            layout
                .blob_path(&format!("sha256:{}", "a".repeat(64)))
                .is_ok()
        );
        assert!(matches!(
            layout.root_for_tag("x"),
            Err(LayoutError::NoImage { .. })
        ));
    }
}
