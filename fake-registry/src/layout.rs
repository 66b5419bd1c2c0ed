//! Reads an OCI image layout: which images a folder holds and where their blobs are. It writes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::craft::digest_of_bytes;

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
                digest: digest_of_bytes(&self.index_bytes),
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

    /// A layout of one file per document, with `index.json` as given and blobs under their digests.
    fn layout_of(
        index: &serde_json::Value,
        blobs: &[&serde_json::Value],
    ) -> (tempfile::TempDir, OciLayout) {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("blobs/sha256");
        fs::create_dir_all(&folder).unwrap();
        for blob in blobs {
            fs::write(
                folder.join(digest_of(blob).trim_start_matches("sha256:")),
                blob.to_string(),
            )
            .unwrap();
        }
        fs::write(directory.path().join("oci-layout"), "{}").unwrap();
        fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
        let layout = OciLayout::open(directory.path()).unwrap();
        (directory, layout)
    }

    fn digest_of(document: &serde_json::Value) -> String {
        digest_of_bytes(document.to_string().as_bytes())
    }

    #[test]
    fn an_index_leads_to_its_platforms() {
        let manifest = |name: &str| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"digest": format!("sha256:{name}")},
                "layers": [{"digest": "sha256:shared"}, {"digest": format!("sha256:top-{name}")}],
            })
        };
        let (first, second) = (manifest("a"), manifest("b"));
        let absent = manifest("c");
        let descriptors = serde_json::json!([
            {"digest": digest_of(&first)}, {"digest": digest_of(&second)}, {"digest": digest_of(&absent)}]);
        let nested = serde_json::json!({"mediaType": INDEX_MEDIA_TYPE, "manifests": descriptors});
        let index = serde_json::json!({"manifests": [{"digest": digest_of(&nested)}]});
        let (_directory, layout) = layout_of(&index, &[&first, &second, &nested]);
        let root = layout.root_for_tag("any").unwrap();
        assert_eq!(
            (root.digest.as_str(), root.media_type.as_str()),
            (digest_of(&nested).as_str(), INDEX_MEDIA_TYPE)
        );
        let contents = layout.contents(&root).unwrap();
        assert_eq!(
            contents.documents.len(),
            3,
            "what was not copied into the layout is left out"
        );
        assert_eq!(
            contents
                .layers
                .iter()
                .filter(|(index, _)| *index == 0)
                .count(),
            2
        );
        assert_eq!(contents.configs.len(), 2);
    }

    #[test]
    fn tags_pick_and_several_manifests_without_tags_are_an_index() {
        let manifest =
            |name: &str| serde_json::json!({"mediaType": "x", "config": {"digest": name}});
        let (first, second) = (manifest("a"), manifest("b"));
        let name = |tag: &str| serde_json::json!({"org.opencontainers.image.ref.name": tag});
        let named = serde_json::json!({"manifests": [
            {"digest": digest_of(&first), "annotations": name("v1")},
            {"digest": digest_of(&second), "annotations": name("host/app:v2")}]});
        let (_directory, layout) = layout_of(&named, &[&first, &second]);
        assert_eq!(layout.root_for_tag("v1").unwrap().digest, digest_of(&first));
        assert_eq!(
            layout.root_for_tag("v2").unwrap().digest,
            digest_of(&second)
        );
        let fallback = layout.root_for_tag("v3").unwrap();
        assert_eq!(
            (fallback.digest, fallback.media_type.as_str()),
            (digest_of(&named), INDEX_MEDIA_TYPE)
        );
    }
}
