//! The JSON documents of a crafted image: config, manifest, index, and the record of its layers.

use std::fs;
use std::path::Path;

use parapull_scenario::ImageSpec;
use serde_json::json;

use super::{CraftError, CraftedImage, CraftedLayer, digest};
use crate::layout::OciLayout;

/// Beside `index.json`: what OCI documents do not hold (uncompressed sizes, counts). Other tools ignore it.
const CRAFTED_FILE: &str = "crafted.json";

const CREATED: &str = "2024-01-01T00:00:00Z";

/// Writes config, manifest, `index.json` and `oci-layout` beside the finished blobs.
pub(super) fn write_documents(
    spec: &ImageSpec,
    layers: &[CraftedLayer],
    directory: &Path,
) -> Result<(), CraftError> {
    let config = serde_json::to_vec(&config(spec, layers))?;
    let config_digest = write_blob(directory, &config)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": layers.iter().zip(&spec.layers).map(|(layer, planned)| json!({
            "mediaType": media_type(spec, planned).oci_name(),
            "digest": layer.digest,
            "size": layer.compressed_bytes,
        })).collect::<Vec<_>>(),
    }))?;
    let manifest_digest = write_blob(directory, &manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest_digest,
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
            "platform": {"architecture": "amd64", "os": "linux"},
        }],
    });
    write_file(
        &directory.join(CRAFTED_FILE),
        &serde_json::to_vec_pretty(layers)?,
    )?;
    write_file(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    write_file(&directory.join("index.json"), &serde_json::to_vec(&index)?)
}

/// Reads a folder that [`write_documents`] finished.
pub(super) fn read_crafted(directory: &Path) -> Result<CraftedImage, CraftError> {
    let layout = OciLayout::open(directory)?;
    let path = directory.join(CRAFTED_FILE);
    let layers = serde_json::from_slice(&fs::read(&path).map_err(CraftError::io(&path))?)?;
    let manifest_digest = layout.root_for_tag("latest")?.digest;
    Ok(CraftedImage {
        layout,
        manifest_digest,
        layers,
    })
}

fn media_type(
    spec: &ImageSpec,
    layer: &parapull_scenario::LayerSpec,
) -> parapull_scenario::MediaType {
    let original = layer
        .duplicate_of
        .and_then(|earlier| spec.layers.get(earlier as usize));
    original.unwrap_or(layer).media_type
}

fn config(spec: &ImageSpec, layers: &[CraftedLayer]) -> serde_json::Value {
    json!({
        "created": CREATED,
        "author": "fake-registry",
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            "Entrypoint": ["/bin/hello"],
            "WorkingDir": "/",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>(),
        },
        "history": (0..layers.len()).map(|index| json!({
            "created": CREATED,
            "created_by": format!("craft {} layer {index} seed {}", spec.name, spec.seed),
        })).collect::<Vec<_>>(),
    })
}

fn write_blob(directory: &Path, bytes: &[u8]) -> Result<String, CraftError> {
    let digest = digest::of_bytes(bytes);
    let hex = digest.trim_start_matches("sha256:");
    write_file(&directory.join("blobs").join("sha256").join(hex), bytes)?;
    Ok(digest)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CraftError> {
    fs::write(path, bytes).map_err(CraftError::io(path))
}
