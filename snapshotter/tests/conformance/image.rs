//! An image archive made by hand: an OCI layout in a tar, with layers that hold what layers can hold.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;
use std::path::Path;

use parapull_snapshotter::digest::Digest;
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// The image's reference after its import.
pub(crate) const NAME: &str = "docker.io/library/crafted:1";
/// How many layers it has.
pub(crate) const LAYERS: usize = 3;

/// The archive; `program` becomes `/bin/busybox` if it exists.
pub(crate) fn archive(program: &Path) -> Vec<u8> {
    let layers = [bottom(program), middle(), top()];
    let descriptor = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes).to_string();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
    };
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| Digest::of(layer).to_string())
        .collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect::<Vec<_>>(),
    })
    .to_string();
    let mut listed = descriptor("manifest.v1+json", manifest.as_bytes());
    listed["annotations"] = json!({"io.containerd.image.name": NAME});
    let index = json!({"schemaVersion": 2, "manifests": [listed]}).to_string();

    let mut archive = Layer::new();
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644, 0);
    archive.file("index.json", index.as_bytes(), 0o644, 0);
    let blobs = layers.iter().map(Vec::as_slice);
    for blob in blobs.chain([config.as_bytes(), manifest.as_bytes()]) {
        archive.file(
            &format!("blobs/sha256/{}", Digest::of(blob).hex()),
            blob,
            0o644,
            0,
        );
    }
    archive.finish()
}

fn bottom(program: &Path) -> Vec<u8> {
    let mut layer = Layer::new();
    for (path, mode, owner) in [
        ("bin/", 0o755, 0),
        ("etc/", 0o755, 0),
        ("opaque/", 0o700, 5),
        ("implied/", 0o1700, 1000),
        ("gone/", 0o755, 0),
        ("becomes-file/", 0o755, 0),
    ] {
        layer.directory(path, mode, owner);
    }
    if let Ok(bytes) = fs::read(program) {
        layer.file("bin/busybox", &bytes, 0o755, 0);
    }
    layer.file("etc/kept", b"kept in layer 1\n", 0o644, 0);
    layer.file("etc/setuid", b"x", 0o4755, 12);
    layer.file("etc/removed", b"x", 0o644, 0);
    layer.file("opaque/old", b"x", 0o644, 0);
    layer.file("gone/file", b"x", 0o600, 0);
    layer.file("becomes-file/child", b"x", 0o600, 0);
    layer.file("becomes-directory", b"x", 0o600, 0);
    layer.link(EntryType::Link, "etc/hard", "etc/kept");
    layer.link(EntryType::Symlink, "etc/dangling", "../nowhere/at/all");
    layer.special(EntryType::Fifo, "etc/fifo", 0, 0);
    layer.special(EntryType::Char, "etc/zero", 1, 5);
    layer.finish()
}

fn middle() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.file("etc/.wh.removed", b"", 0o644, 0);
    layer.file("opaque/new", b"x", 0o644, 0);
    layer.file("opaque/.wh..wh..opq", b"", 0o644, 0);
    layer.file(".wh.gone", b"", 0o644, 0);
    layer.file("implied/inside", b"x", 0o644, 7);
    layer.file("becomes-file", b"x", 0o644, 0);
    layer.directory("becomes-directory/", 0o755, 0);
    layer.file("becomes-directory/child", b"x", 0o644, 0);
    layer.finish()
}

fn top() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.directory("gone/", 0o711, 3);
    layer.file("gone/back", b"x", 0o644, 0);
    layer.file("becomes-directory/.wh.child", b"", 0o644, 0);
    layer.file("etc/.wh.hard", b"", 0o644, 0);
    layer.link(EntryType::Symlink, "implied/link", "/etc");
    layer.finish()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A tar that is being written; every entry has its own time.
struct Layer {
    tar: Builder<Vec<u8>>,
    time_s: u64,
}

impl Layer {
    fn new() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
            time_s: 1_600_000_000,
        }
    }

    fn header(&mut self, kind: EntryType, mode: u32, owner: u64) -> Header {
        self.time_s += 1001;
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner * 2);
        header.set_mtime(self.time_s);
        header.set_size(0);
        header
    }

    fn directory(&mut self, path: &str, mode: u32, owner: u64) {
        let mut header = self.header(EntryType::Directory, mode, owner);
        self.tar.append_data(&mut header, path, &b""[..]).unwrap();
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32, owner: u64) {
        let mut header = self.header(EntryType::Regular, mode, owner);
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes).unwrap();
    }

    fn link(&mut self, kind: EntryType, path: &str, target: &str) {
        let mut header = self.header(kind, 0o777, 0);
        self.tar.append_link(&mut header, path, target).unwrap();
    }

    fn special(&mut self, kind: EntryType, path: &str, major: u32, minor: u32) {
        let mut header = self.header(kind, 0o640, 9);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.tar.append_data(&mut header, path, &b""[..]).unwrap();
    }

    fn finish(self) -> Vec<u8> {
        self.tar.into_inner().unwrap()
    }
}
