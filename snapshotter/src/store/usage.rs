//! What a tree occupies: the sum that `du` would show, each inode once.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::{Result, StoreError};
use super::snapshot::Usage;

/// Walks the tree at `root`, the root included; what vanishes meanwhile is not counted.
pub(super) fn usage_of(root: &Path) -> Result<Usage> {
    let mut seen = HashSet::new();
    let mut usage = Usage::default();
    let metadata = fs::symlink_metadata(root).map_err(StoreError::io("measure", root))?;
    count(&metadata, &mut seen, &mut usage);
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&directory), &directory)? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = unless_gone(entry, &directory)? else {
                continue;
            };
            let Some(metadata) = unless_gone(entry.metadata(), &entry.path())? else {
                continue;
            };
            count(&metadata, &mut seen, &mut usage);
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(usage)
}

fn count(metadata: &fs::Metadata, seen: &mut HashSet<(u64, u64)>, usage: &mut Usage) {
    // Only what has several names can come twice; not remembering the rest keeps memory flat.
    let may_repeat = metadata.nlink() > 1 && !metadata.is_dir();
    if may_repeat && !seen.insert((metadata.dev(), metadata.ino())) {
        return;
    }
    usage.inodes += 1;
    usage.bytes += metadata.blocks() * 512;
}

fn unless_gone<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("measure", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_inode_once_and_the_root_too() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/a"), vec![1; 10_000]).unwrap();
        fs::hard_link(root.path().join("d/a"), root.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.path().join("c")).unwrap();
        let usage = usage_of(root.path()).unwrap();
        assert_eq!(
            usage.inodes, 4,
            "root, d, the file with two names, the link"
        );
        let file = fs::metadata(root.path().join("b")).unwrap().blocks() * 512;
        let all: u64 = ["", "d", "c"]
            .iter()
            .map(|name| {
                fs::symlink_metadata(root.path().join(name))
                    .unwrap()
                    .blocks()
                    * 512
            })
            .sum();
        assert_eq!(usage.bytes, file + all);
    }

    #[test]
    fn a_missing_root_is_an_error() {
        assert!(matches!(
            usage_of(Path::new("/nonexistent/x")),
            Err(StoreError::Io { .. })
        ));
    }
}
