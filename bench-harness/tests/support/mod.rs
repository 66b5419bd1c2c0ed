//! Small images written by hand, and whether this machine can run a real containerd.

#![expect(clippy::unwrap_used, reason = "test support fails by panicking")]
#![allow(dead_code, clippy::allow_attributes, reason = "no test uses all of it")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use parapull_bench::processes::find_program;
use parapull_snapshotter::digest::Digest;
use serde_json::json;
use tar::{Builder, EntryType, Header};

pub(crate) mod node;

/// Says loudly why a test cannot run here, or fails where everything is required.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| find_program(name, "").is_err());
    let why = match missing {
        _ if !rustix::process::geteuid().is_root() => "it needs root".to_owned(),
        Some(name) => format!("the program {name} is missing"),
        None => return true,
    };
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
        "{test}: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
    false
}

/// One entry of a layer.
pub(crate) struct Item {
    pub(crate) path: &'static str,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) owner: u64,
    pub(crate) mtime: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) link: &'static str,
}

pub(crate) fn directory(path: &'static str, mode: u32, mtime: u64) -> Item {
    item(path, EntryType::Directory, mode, mtime, Vec::new(), "")
}

pub(crate) fn file(path: &'static str, mode: u32, data: &[u8]) -> Item {
    item(
        path,
        EntryType::Regular,
        mode,
        1_600_000_000,
        data.to_vec(),
        "",
    )
}

pub(crate) fn symlink(path: &'static str, link: &'static str) -> Item {
    item(
        path,
        EntryType::Symlink,
        0o777,
        1_600_000_001,
        Vec::new(),
        link,
    )
}

pub(crate) fn hard_link(path: &'static str, link: &'static str) -> Item {
    item(
        path,
        EntryType::Link,
        0o644,
        1_600_000_000,
        Vec::new(),
        link,
    )
}

fn item(
    path: &'static str,
    kind: EntryType,
    mode: u32,
    mtime: u64,
    data: Vec<u8>,
    link: &'static str,
) -> Item {
    Item {
        path,
        kind,
        mode,
        owner: 0,
        mtime,
        data,
        link,
    }
}

/// Writes an OCI layout with one gzip layer per list of items.
pub(crate) fn write_layout(to: &Path, layers: &[Vec<Item>], entrypoint: &[&str]) {
    let blobs = to.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let store = |bytes: &[u8]| -> (String, usize) {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for items in layers {
        let archive = archive(items);
        diff_ids.push(Digest::of(&archive).to_string());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(&archive).unwrap();
        let (digest, size) = store(&encoder.finish().unwrap());
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        descriptors.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
    }
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let (digest, size) = store(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size},
        "layers": descriptors,
    });
    let (digest, size) = store(manifest.to_string().as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": media_type, "digest": digest, "size": size}]});
    fs::write(to.join("index.json"), index.to_string()).unwrap();
    fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for item in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(item.owner);
        header.set_gid(item.owner);
        header.set_mtime(item.mtime);
        header.set_size(item.data.len() as u64);
        if item.link.is_empty() {
            builder
                .append_data(&mut header, item.path, item.data.as_slice())
                .unwrap();
        } else {
            builder
                .append_link(&mut header, item.path, item.link)
                .unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// A static x86-64 program that writes "hello from parapull\n" and exits with 0, without any C library.
pub(crate) fn hello_program() -> Vec<u8> {
    let text = b"hello from parapull\n";
    let mut code: Vec<u8> = vec![
        0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
        0xbf, 1, 0, 0, 0, // mov edi, 1 (stdout)
        0xbe, 0, 0, 0, 0, // mov esi, text
        0xba, 0, 0, 0, 0, // mov edx, length
        0x0f, 0x05, // syscall
        0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ];
    let base = 0x40_0000_u32;
    let header = 64 + 56_u32;
    let text_address = base + header + u32::try_from(code.len()).unwrap();
    code[11..15].copy_from_slice(&text_address.to_le_bytes());
    code[16..20].copy_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
    code.extend_from_slice(text);

    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend_from_slice(&2_u16.to_le_bytes()); // executable
    elf.extend_from_slice(&62_u16.to_le_bytes()); // x86-64
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for value in [u64::from(base + header), 64, 0] {
        elf.extend_from_slice(&value.to_le_bytes()); // entry, program headers, section headers
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for value in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&value.to_le_bytes());
    }
    elf.extend_from_slice(&1_u32.to_le_bytes()); // load
    elf.extend_from_slice(&5_u32.to_le_bytes()); // read and execute
    let size = u64::from(header) + code.len() as u64;
    for value in [0, u64::from(base), u64::from(base), size, size, 0x1000] {
        elf.extend_from_slice(&value.to_le_bytes());
    }
    elf.extend_from_slice(&code);
    elf
}
