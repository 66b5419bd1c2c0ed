//! The images that compatibility is judged by: presets, one of every layer encoding, one for several platforms.

use std::fs;
use std::path::Path;

use parapull_snapshotter::digest::Digest;
use serde_json::{Value, json};

use crate::processes::{FakeRegistry, ProcessError, Programs};

/// What is judged unasked; each name is a preset or one of the two that [`prepare`] makes.
pub const IMAGES: &[&str] = &[
    "tiny",
    "metadata",
    ENCODINGS,
    MULTI_ARCH,
    "many-layers:20MB",
    "ml-like:100MB",
];

/// Makes `image` in the empty folder `folder` where it is `encodings` or `multi-arch`; what to serve is returned.
///
/// # Errors
/// When the image cannot be crafted or written.
pub fn prepare(image: &str, programs: &Programs, folder: &Path) -> Result<String, ProcessError> {
    let write =
        |path: &Path, text: &str| fs::write(path, text).map_err(ProcessError::file("write", path));
    match image {
        ENCODINGS => {
            let file = folder.join("encodings.yaml");
            write(&file, ENCODINGS_CRAFT)?;
            Ok(file.display().to_string())
        }
        MULTI_ARCH => {
            let layout = folder.join(MULTI_ARCH);
            FakeRegistry::craft(programs, "tiny", &layout)?;
            let index = layout.join("index.json");
            let text = fs::read_to_string(&index).map_err(ProcessError::file("read", &index))?;
            let image = ForeignImage::new();
            let changed =
                with_foreign_platform(&text, &image).ok_or_else(|| ProcessError::Answer {
                    what: "a crafted image's index".into(),
                    text,
                })?;
            for blob in [&image.layer, &image.config, &image.manifest] {
                let path = layout.join("blobs/sha256").join(Digest::of(blob).hex());
                fs::write(&path, blob).map_err(ProcessError::file("write", &path))?;
            }
            write(&index, &changed)?;
            Ok(layout.display().to_string())
        }
        other => Ok(other.to_owned()),
    }
}

/// The index with another platform before its only image: who takes the first manifest instead of the right one makes
/// another tree.
fn with_foreign_platform(index: &str, image: &ForeignImage) -> Option<String> {
    let mut index: Value = serde_json::from_str(index).ok()?;
    let manifests = index.get_mut("manifests")?.as_array_mut()?;
    for manifest in manifests.iter_mut() {
        // Without a name of its own the index itself is what the tag leads to.
        manifest.as_object_mut()?.remove("annotations");
    }
    let mut listed = descriptor("manifest.v1+json", &image.manifest);
    listed["platform"] = json!({"architecture": FOREIGN, "os": "linux"});
    manifests.insert(0, listed);
    Some(index.to_string())
}

/// An image without files for a platform that this machine is not.
///
/// Its blobs exist: `ctr` of containerd 2 fetches every platform's.
struct ForeignImage {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl ForeignImage {
    fn new() -> Self {
        // Two empty blocks are an empty archive.
        let layer = vec![0; 1024];
        let diff_id = Digest::of(&layer).to_string();
        let config = json!({
            "architecture": FOREIGN, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        })
        .to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{MEDIA_TYPE}.manifest.v1+json"),
            "config": descriptor("config.v1+json", config.as_bytes()),
            "layers": [descriptor("layer.v1.tar", &layer)],
        })
        .to_string();
        Self {
            layer,
            config: config.into_bytes(),
            manifest: manifest.into_bytes(),
        }
    }
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    let digest = Digest::of(blob).to_string();
    json!({"mediaType": format!("{MEDIA_TYPE}.{kind}"), "digest": digest, "size": blob.len()})
}

const ENCODINGS: &str = "encodings";
const MULTI_ARCH: &str = "multi-arch";
const MEDIA_TYPE: &str = "application/vnd.oci.image";
const FOREIGN: &str = "s390x";

/// Every encoding, and a layer that occurs twice.
const ENCODINGS_CRAFT: &str = "\
name: encodings
seed: 5
layers:
  - {uncompressed_bytes: 500000, files: 5}
  - {uncompressed_bytes: 3000000, files: 30, directories: 4, media_type: 'zstd:3'}
  - {uncompressed_bytes: 2000000, files: 7, media_type: uncompressed}
  - {duplicate_of: 1}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_platform_comes_first_and_the_index_has_no_name() {
        let index = r#"{"manifests": [{"digest": "sha256:aa", "annotations": {"a": "b"}, "platform": {"os": "linux"}}]}"#;
        let image = ForeignImage::new();
        let changed = with_foreign_platform(index, &image).unwrap();
        let changed: Value = serde_json::from_str(&changed).unwrap();
        let first = &changed["manifests"][0];
        assert_eq!(first["platform"]["architecture"], FOREIGN);
        let manifest = Digest::of(&image.manifest).to_string();
        assert_eq!(first["digest"], manifest);
        assert_eq!(changed["manifests"][1]["digest"], "sha256:aa");
        assert!(changed["manifests"][1].get("annotations").is_none());
        assert!(with_foreign_platform("{}", &image).is_none());
    }
}
