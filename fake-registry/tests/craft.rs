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
            let output = Command::new("tar").arg("-Ptvf").arg(&tar).output().unwrap();
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

/// Path, type, mode and xattrs of each entry, in order.
fn entries(
    image: &CraftedImage,
    index: usize,
    media_type: MediaType,
) -> Vec<(Vec<u8>, u8, u32, Vec<String>)> {
    let tar = tar_bytes(&blob(image, &image.layers[index]), media_type);
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut entries = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        // The reader ends records at newlines, so it cannot read the value that holds one.
        let records = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .flatten();
        let keys = records
            .map(|record| record.key().unwrap().to_owned())
            .collect();
        let path = entry.path_bytes().into_owned();
        let header = entry.header();
        entries.push((
            path,
            header.entry_type().as_byte(),
            header.mode().unwrap(),
            keys,
        ));
    }
    entries
}

#[test]
fn the_metadata_preset_contains_what_it_promises() {
    let directory = tempfile::tempdir().unwrap();
    let spec = ImageSpec::preset("metadata").unwrap();
    let image = craft(&spec, directory.path()).unwrap();
    let types = entries(&image, 1, spec.layers[1].media_type);
    for kind in b"0123456" {
        assert!(
            types.iter().any(|entry| entry.1 == *kind),
            "type {}",
            char::from(*kind)
        );
    }
    for mode in [0o4755, 0o2755, 0o1777, 0] {
        assert!(types.iter().any(|entry| entry.2 == mode), "mode {mode:o}");
    }
    let has_key = |key: &str| {
        types
            .iter()
            .any(|entry| entry.3.iter().any(|have| have == key))
    };
    for key in [
        "SCHILY.xattr.user.text",
        "SCHILY.xattr.security.capability",
        "mtime",
        "path",
        "uid",
    ] {
        assert!(has_key(key), "{key}");
    }
    assert!(
        types
            .iter()
            .any(|entry| std::str::from_utf8(&entry.0).is_err()),
        "a name that is no UTF-8"
    );
    assert!(
        types.iter().any(|entry| entry.0.len() > 255),
        "a path beyond 255 bytes"
    );
    assert!(
        !types.iter().any(|entry| entry.0 == b"odd/implied/"),
        "implied directories have no entry"
    );

    let overrides = entries(&image, 2, spec.layers[2].media_type);
    let position = |name: &str| {
        overrides
            .iter()
            .position(|entry| entry.0 == name.as_bytes())
            .unwrap()
    };
    assert!(position("odd/over/opaque-first/.wh..wh..opq") < position("odd/over/opaque-first/new"));
    assert!(position("odd/over/opaque-last/.wh..wh..opq") > position("odd/over/opaque-last/new"));
    position("odd/over/.wh.directory");

    let repeats = entries(&image, 4, spec.layers[4].media_type);
    let twice = repeats
        .iter()
        .filter(|entry| entry.0 == b"odd/repeats/file")
        .count();
    assert_eq!(twice, 2);

    let members = std::fs::read(blob(&image, &image.layers[1])).unwrap();
    let mut first = flate2::bufread::GzDecoder::new(members.as_slice());
    first.read_to_end(&mut Vec::new()).unwrap();
    assert!(
        first.into_inner().starts_with(&[0x1f, 0x8b]),
        "a second gzip member follows the first"
    );
}

#[test]
fn whiteouts_name_files_of_the_layer_below() {
    let directory = tempfile::tempdir().unwrap();
    let spec = ImageSpec::preset("tiny").unwrap();
    let image = craft(&spec, directory.path()).unwrap();
    let lower = entries(&image, 1, spec.layers[1].media_type);
    let upper = entries(&image, 2, spec.layers[2].media_type);
    let whiteouts: Vec<String> = upper
        .iter()
        .map(|entry| String::from_utf8(entry.0.clone()).unwrap())
        .filter(|path| path.contains("/.wh."))
        .collect();
    assert_eq!(whiteouts.len(), 1);
    let hidden = whiteouts[0].replace("/.wh.", "/");
    assert!(
        lower.iter().any(|entry| entry.0 == hidden.as_bytes()),
        "{hidden}"
    );
}

#[test]
fn the_config_fits_the_layers() {
    let directory = tempfile::tempdir().unwrap();
    let image = craft(&ImageSpec::preset("metadata").unwrap(), directory.path()).unwrap();
    let read = |digest: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(image.layout.blob_path(digest).unwrap()).unwrap())
            .unwrap()
    };
    let manifest = read(&image.manifest_digest);
    let config = read(manifest["config"]["digest"].as_str().unwrap());
    let diff_ids: Vec<&str> = image
        .layers
        .iter()
        .map(|layer| layer.diff_id.as_str())
        .collect();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(diff_ids));
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/bin/hello"])
    );
    assert_eq!(config["history"].as_array().unwrap().len(), diff_ids.len());
    let media_types: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["mediaType"].as_str().unwrap())
        .collect();
    assert!(media_types.contains(&"application/vnd.oci.image.layer.v1.tar+zstd"));
    assert!(media_types.contains(&"application/vnd.oci.image.layer.v1.tar"));
}
