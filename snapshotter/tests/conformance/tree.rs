//! A directory tree as a comparable value.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use parapull_snapshotter::digest::Digest;

/// Everything about an entry that must not differ, as text.
pub(crate) type Entries = BTreeMap<PathBuf, String>;

/// The entries under `root`, the root included.
///
/// Directories and whiteouts have no time here: of those that containerd makes without an entry of their own it differs by run.
pub(crate) fn entries_of(root: &Path) -> Entries {
    let mut entries = Entries::new();
    let mut first_names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        if metadata.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&full)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            open.extend(names.into_iter().rev().map(|name| path.join(name)));
        }
        let group = match metadata.nlink() {
            links if links > 1 && !metadata.is_dir() => Some(
                first_names
                    .entry(metadata.ino())
                    .or_insert_with(|| path.clone())
                    .clone(),
            ),
            _ => None,
        };
        let whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        let timed = !metadata.is_dir() && !whiteout;
        let text = format!(
            "{} mode {:o} owner {}:{} time {:?} device {} group {group:?} attributes {:?}",
            content(&full, &metadata),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            timed.then_some(metadata.mtime_nsec() + metadata.mtime() * 1_000_000_000),
            metadata.rdev(),
            attributes(&full)
        );
        entries.insert(path, text);
    }
    entries
}

fn content(path: &Path, metadata: &fs::Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!("file {}", Digest::of(&fs::read(path).unwrap()))
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        "device".to_owned()
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}
