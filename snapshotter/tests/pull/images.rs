//! Images to pull: crafted ones, and ones written byte by byte.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use fake_registry::{OciLayout, craft};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use parapull_scenario::ImageSpec;
use parapull_snapshotter::digest::Digest;
use serde_json::json;

use super::archive::{Member, archive};

/// An image in OCI layout.
#[derive(Clone)]
pub struct TestImage {
    pub layout: OciLayout,
    /// Bottom first.
    pub layers: Vec<TestLayer>,
    pub manifest_digest: String,
    /// Where it was written, unless it is a cached one.
    _folder: Option<std::sync::Arc<tempfile::TempDir>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestLayer {
    pub digest: String,
    pub diff_id: String,
    pub compressed_bytes: u64,
}

impl TestLayer {
    /// The first 12 hex digits of its digest.
    pub fn short(&self) -> &str {
        &self.digest["sha256:".len()..][..12]
    }
}

impl TestImage {
    /// A preset such as `tiny`, kept for the next run.
    pub fn preset(name: &str) -> Self {
        Self::crafted(&ImageSpec::preset(name).unwrap())
    }

    /// What a craft file describes, kept for the next run.
    pub fn of_yaml(text: &str) -> Self {
        Self::crafted(&serde_json::from_str(text).unwrap())
    }

    fn crafted(spec: &ImageSpec) -> Self {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
        let crafted = craft(spec, &cache).unwrap();
        Self {
            layers: crafted
                .layers
                .iter()
                .map(|layer| TestLayer {
                    digest: layer.digest.clone(),
                    diff_id: layer.diff_id.clone(),
                    compressed_bytes: layer.compressed_bytes,
                })
                .collect(),
            layout: crafted.layout,
            manifest_digest: crafted.manifest_digest,
            _folder: None,
        }
    }

    /// One gzip layer per list of tar members.
    pub fn of_members(layers: Vec<Vec<Member>>) -> Self {
        Self::of_archives(layers.into_iter().map(archive).collect())
    }

    /// One gzip layer per tar stream.
    pub fn of_archives(archives: Vec<Vec<u8>>) -> Self {
        let layers = archives
            .iter()
            .map(|archive| (gzip(archive), Digest::of(archive).to_string()));
        Self::of_blobs(layers.collect())
    }

    /// Gzip blobs with the diffIDs they are said to have.
    pub fn of_blobs(blobs: Vec<(Vec<u8>, String)>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("image-")
            .tempdir_in(memory())
            .unwrap();
        let store = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            let blobs = folder.path().join("blobs/sha256");
            std::fs::create_dir_all(&blobs).unwrap();
            std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
            digest.to_string()
        };
        let layers: Vec<TestLayer> = blobs
            .iter()
            .map(|(blob, diff_id)| TestLayer {
                digest: store(blob),
                diff_id: diff_id.clone(),
                compressed_bytes: blob.len() as u64,
            })
            .collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string();
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| {
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer.digest,
                "size": layer.compressed_bytes})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": store(config.as_bytes()), "size": config.len()}})
        .to_string();
        let manifest_digest = store(manifest.as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": manifest_digest, "size": manifest.len()}]});
        std::fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
        let marker = r#"{"imageLayoutVersion":"1.0.0"}"#;
        std::fs::write(folder.path().join("oci-layout"), marker).unwrap();
        Self {
            layout: OciLayout::open(folder.path()).unwrap(),
            layers,
            manifest_digest,
            _folder: Some(std::sync::Arc::new(folder)),
        }
    }

    /// Bytes of its distinct blobs.
    pub fn compressed_bytes(&self) -> u64 {
        let mut seen = BTreeSet::new();
        self.layers
            .iter()
            .filter(|layer| seen.insert(&layer.digest))
            .map(|layer| layer.compressed_bytes)
            .sum()
    }

    /// The layer with the most bytes.
    pub fn largest(&self) -> (usize, &TestLayer) {
        let layers = self.layers.iter().enumerate();
        layers
            .max_by_key(|(_, layer)| layer.compressed_bytes)
            .unwrap()
    }

    /// The directories that a layer's archive names itself, and the regular files, without their `./` and last slash.
    pub fn entries(&self, index: usize) -> Entries {
        let blob = self.layout.blob_path(&self.layers[index].digest).unwrap();
        let bytes = std::fs::read(blob).unwrap();
        let mut tar = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            MultiGzDecoder::new(&bytes[..])
                .read_to_end(&mut tar)
                .unwrap();
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            tar = zstd::decode_all(&bytes[..]).unwrap();
        } else {
            tar = bytes;
        }
        let mut archive = tar::Archive::new(&tar[..]);
        let (mut directories, mut files) = (BTreeSet::new(), Vec::new());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = clean(&entry.path_bytes());
            if entry.header().entry_type().is_dir() {
                directories.insert(path);
            } else if entry.header().entry_type().is_file() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                files.push((path, Digest::of(&content)));
            }
        }
        (directories, files)
    }
}

fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    parts.join(&b'/')
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A memory file system where there is one.
pub fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Paths of a layer, and the digests of its files.
pub type Entries = (BTreeSet<Vec<u8>>, Vec<(Vec<u8>, Digest)>);
