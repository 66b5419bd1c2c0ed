//! `parapull-snapshotter index`: what it writes is read back by a reader that shares nothing with it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use flate2::{Compression, write::GzEncoder};
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::index::Cache;

/// A layer of files that do and do not compress, and of links.
fn layer(path: &Path) {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::new(6)));
    let mut state = 1_u32;
    for file in 0_u32..40 {
        let mut header = tar::Header::new_gnu();
        let data: Vec<u8> = (0..120_000 + file * 7)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b'a' + (state >> 28) as u8
            })
            .collect();
        header.set_size(data.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o640);
        header.set_uid(file.into());
        let name = format!("usr/share/{}file{file}", "long/".repeat(file as usize));
        archive.append_data(&mut header, name, &data[..]).unwrap();
    }
    for (kind, name) in [
        (tar::EntryType::Symlink, "soft"),
        (tar::EntryType::Link, "hard"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive
            .append_link(&mut header, name, "usr/share/file0")
            .unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    archive.append_data(&mut header, "empty/", &[][..]).unwrap();
    let bytes = archive.into_inner().unwrap().finish().unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn index(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"));
    let output = command.arg("index").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn what_is_created_is_read_back_by_another_reader() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("layer.tar.gz");
    layer(&path);
    let (layer, out) = (path.to_str().unwrap(), place.path().to_str().unwrap());
    let (is_good, told, error) =
        index(&["create", layer, "--out", out, "--span", "256KiB", "--json"]);
    assert!(is_good, "{error}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told[0]["checkpoints"].as_u64().unwrap() > 12, "{told}");
    assert_eq!(told[0]["entries"], 43);
    let blob = Digest::of(&std::fs::read(&path).unwrap());
    assert_eq!(told[0]["blob"], blob.to_string());
    let ztoc = place.path().join(format!("{}.ztoc", blob.hex()));
    let (is_good, shown, error) = index(&["show", ztoc.to_str().unwrap(), "--json"]);
    assert!(is_good, "{error}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["checkpoints"], told[0]["checkpoints"]);
    assert_eq!(shown["entries"], 43);
    read_by_python(&path, &ztoc);
}

fn read_by_python(layer: &Path, ztoc: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/index/read_ztoc.py");
    let read = Command::new("python3")
        .arg(script)
        .arg(layer)
        .arg(ztoc)
        .output();
    match read {
        Ok(read) => assert!(
            read.status.success(),
            "{}",
            String::from_utf8_lossy(&read.stderr)
        ),
        Err(error) => {
            assert!(
                std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
                "python3: {error}"
            );
            eprintln!(
                "SKIPPED the other reader of what_is_created_is_read_back_by_another_reader: python3: {error}"
            );
        }
    }
}

#[test]
fn the_cache_is_filled_and_pruned() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("layer.tar.gz");
    layer(&path);
    let directory = place.path().join("indexes");
    let (layer, cache) = (path.to_str().unwrap(), directory.to_str().unwrap());
    let (is_good, told, error) = index(&["create", layer, "--cache", cache]);
    assert!(is_good, "{error}");
    assert!(told.contains("checkpoints, 43 entries"), "{told}");
    let blob = Digest::of(&std::fs::read(&path).unwrap());
    let kept = Cache::new(directory.clone(), u64::MAX)
        .find(&blob)
        .unwrap()
        .unwrap();
    assert!(!kept.checkpoints.is_empty());
    let (is_good, told, error) = index(&["prune", "--cache", cache]);
    assert!(is_good, "{error}");
    assert!(told.starts_with("removed 1 indexes"), "{told}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn what_is_no_gzip_layer_is_refused_and_named() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().to_str().unwrap();
    let mut broken = GzEncoder::new(Vec::new(), Compression::fast());
    broken.write_all(&[1; 2048]).unwrap();
    for (name, bytes) in [
        ("plain.tar", vec![0; 1024]),
        ("broken.gz", broken.finish().unwrap()),
        ("short.gz", vec![0x1f, 0x8b, 8, 0]),
    ] {
        let path = place.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let (is_good, _, error) = index(&["create", path.to_str().unwrap(), "--out", out]);
        assert!(!is_good, "{name}");
        assert!(
            error.starts_with("error: index: ") && error.contains(name),
            "{error}"
        );
        let (is_good, _, error) = index(&["show", path.to_str().unwrap()]);
        assert!(!is_good && error.contains("zTOC"), "{error}");
    }
    let (is_good, _, error) = index(&["create", "/no/such/layer", "--out", out]);
    assert!(!is_good && error.contains("/no/such/layer"), "{error}");
}
