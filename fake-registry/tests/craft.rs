//! Crafted images: reproducible, shaped as planned, readable by others.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use fake_registry::{CraftedImage, CraftedLayer, Crafter, OciLayout, craft};
use parapull_scenario::{ImageSpec, MediaType};

/// Says why a test proves nothing here, or fails if it must prove something.
fn skip(name: &str, why: &str) {
    eprintln!("SKIPPED {name}: {why}");
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{name} was skipped: {why}"
    );
}

fn blob(image: &CraftedImage, layer: &CraftedLayer) -> std::path::PathBuf {
    image.layout.blob_path(&layer.digest).unwrap()
}

fn tar_bytes(path: &Path, media_type: MediaType) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let mut bytes = Vec::new();
    match media_type {
        MediaType::Gzip { .. } | MediaType::GzipMembers { .. } => {
            flate2::read::MultiGzDecoder::new(file)
                .read_to_end(&mut bytes)
                .unwrap()
        }
        MediaType::Zstd { .. } => zstd::stream::read::Decoder::new(file)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap(),
        MediaType::Uncompressed => { file }.read_to_end(&mut bytes).unwrap(),
    };
    bytes
}

#[test]
fn the_same_spec_gives_the_same_digests_and_another_seed_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = ImageSpec::preset("tiny").unwrap();
    let first = craft(&spec, &directory.path().join("a")).unwrap();
    let second = Crafter::new(&directory.path().join("b"))
        .threads(1)
        .craft(&spec)
        .unwrap();
    assert_eq!(first.manifest_digest, second.manifest_digest);
    assert_eq!(first.layers, second.layers);
    spec.seed = 1;
    let third = craft(&spec, &directory.path().join("a")).unwrap();
    assert_ne!(first.manifest_digest, third.manifest_digest);
}

#[test]
fn a_second_craft_comes_from_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let spec = ImageSpec::preset("tiny").unwrap();
    let crafter = Crafter::new(directory.path());
    let first = crafter.craft(&spec).unwrap();
    let crafted_bytes = crafter
        .progress()
        .load(std::sync::atomic::Ordering::Relaxed);
    let second = crafter.craft(&spec).unwrap();
    assert_eq!(
        crafter
            .progress()
            .load(std::sync::atomic::Ordering::Relaxed),
        crafted_bytes
    );
    assert_eq!(first.manifest_digest, second.manifest_digest);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no staging folder stays behind: {left:?}");
}

#[test]
fn an_output_folder_with_something_in_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("precious"), "").unwrap();
    let spec = ImageSpec::preset("tiny").unwrap();
    assert!(
        Crafter::new(directory.path())
            .craft_into(&spec, directory.path())
            .is_err()
    );
}

#[test]
fn layers_have_the_planned_shape() {
    let directory = tempfile::tempdir().unwrap();
    for preset in [
        "tiny",
        "many-layers:16MiB",
        "one-giant-layer:16MiB",
        "many-files:8MiB",
        "ml-like:64MiB",
        "zeros-9:32MiB",
        "zstd:16MiB",
        "metadata",
    ] {
        let spec = ImageSpec::preset(preset).unwrap();
        let image = craft(&spec, directory.path()).unwrap();
        assert_eq!(image.layers.len(), spec.layers.len());
        for (index, (planned, crafted)) in spec.shape().iter().zip(&image.layers).enumerate() {
            let place = format!("{preset} layer {index}: {planned:?} {crafted:?}");
            assert_eq!(
                planned.uncompressed_bytes, crafted.uncompressed_bytes,
                "{place}"
            );
            assert_eq!(
                (planned.files, planned.directories),
                (crafted.files, crafted.directories),
                "{place}"
            );
            if planned.uncompressed_bytes > 1 << 20 && !preset.starts_with("zeros") {
                let error_bytes = planned.compressed_bytes.abs_diff(crafted.compressed_bytes);
                assert!(error_bytes <= planned.compressed_bytes / 10, "{place}");
            }
        }
    }
}

#[test]
fn diff_ids_digests_and_counts_are_those_of_the_blobs() {
    let directory = tempfile::tempdir().unwrap();
    for preset in ["tiny", "metadata"] {
        let spec = ImageSpec::preset(preset).unwrap();
        let image = craft(&spec, directory.path()).unwrap();
        for (layer, planned) in image.layers.iter().zip(spec.shape()) {
            let path = blob(&image, layer);
            assert_eq!(sha256(&std::fs::read(&path).unwrap()), layer.digest);
            let tar = tar_bytes(&path, planned.media_type);
            assert_eq!(sha256(&tar), layer.diff_id);
            let mut archive = tar::Archive::new(tar.as_slice());
            let kinds: Vec<tar::EntryType> = archive
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().header().entry_type())
                .collect();
            let directories = kinds.iter().filter(|kind| kind.is_dir()).count();
            assert_eq!(directories, layer.directories as usize);
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[test]
fn gnu_tar_lists_every_layer() {
    if Command::new("tar").arg("--version").output().is_err() {
        return skip("gnu_tar_lists_every_layer", "tar is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    for preset in ["tiny", "metadata"] {
        let spec = ImageSpec::preset(preset).unwrap();
        let image = craft(&spec, directory.path()).unwrap();
        for (layer, planned) in image.layers.iter().zip(spec.shape()) {
            let tar = directory.path().join("layer.tar");
            std::fs::write(&tar, tar_bytes(&blob(&image, layer), planned.media_type)).unwrap();
            let output = Command::new("tar").arg("-tvf").arg(&tar).output().unwrap();
            assert!(output.status.success(), "{preset}: {output:?}");
            assert!(output.stderr.is_empty(), "{preset}: {output:?}");
        }
    }
}

#[test]
fn skopeo_reads_the_layout() {
    let directory = tempfile::tempdir().unwrap();
    let image = craft(&ImageSpec::preset("tiny").unwrap(), directory.path()).unwrap();
    let reference = format!("oci:{}", image.layout.directory().display());
    let Ok(output) = Command::new("skopeo")
        .args(["inspect", &reference])
        .output()
    else {
        return skip("skopeo_reads_the_layout", "skopeo is not installed");
    };
    assert!(output.status.success(), "{output:?}");
    let inspected: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inspected["Digest"], image.manifest_digest);
    assert_eq!(inspected["Architecture"], "amd64");
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 3);
    assert!(OciLayout::open(image.layout.directory()).is_ok());
}
