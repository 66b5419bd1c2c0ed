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
    "ml-like:300MB",
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
            let (changed, foreign) =
                with_foreign_platform(&text).ok_or_else(|| ProcessError::Answer {
                    what: "a crafted image's index".into(),
                    text,
                })?;
            let digest = Digest::of(foreign.as_bytes());
            write(&layout.join("blobs/sha256").join(digest.hex()), &foreign)?;
            write(&index, &changed)?;
            Ok(layout.display().to_string())
        }
        other => Ok(other.to_owned()),
    }
}

/// The index with another platform before its only image, and that platform's manifest, whose blobs exist nowhere: who
/// takes the first manifest instead of the right one fails.
fn with_foreign_platform(index: &str) -> Option<(String, String)> {
    let absent = |name: &str| Digest::of(name.as_bytes()).to_string();
    let foreign = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": absent("config"), "size": 6},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": absent("layer"), "size": 5}],
    })
    .to_string();
    let mut index: Value = serde_json::from_str(index).ok()?;
    let manifests = index.get_mut("manifests")?.as_array_mut()?;
    for manifest in manifests.iter_mut() {
        // Without a name of its own the index itself is what the tag leads to.
        manifest.as_object_mut()?.remove("annotations");
    }
    let listed = json!({
        "mediaType": MANIFEST, "digest": Digest::of(foreign.as_bytes()).to_string(), "size": foreign.len(),
        "platform": {"architecture": "s390x", "os": "linux"},
    });
    manifests.insert(0, listed);
    Some((index.to_string(), foreign))
}

const ENCODINGS: &str = "encodings";
const MULTI_ARCH: &str = "multi-arch";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

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
        let (changed, foreign) = with_foreign_platform(index).unwrap();
        let changed: Value = serde_json::from_str(&changed).unwrap();
        let first = &changed["manifests"][0];
        assert_eq!(first["platform"]["architecture"], "s390x");
        assert_eq!(first["digest"], Digest::of(foreign.as_bytes()).to_string());
        assert_eq!(changed["manifests"][1]["digest"], "sha256:aa");
        assert!(changed["manifests"][1].get("annotations").is_none());
        assert!(with_foreign_platform("{}").is_none());
    }
}
