//! Where the layers of a pulled image lie: in containerd's snapshots, or in the folder of a pull without containerd.

use std::fs;
use std::path::{Path, PathBuf};

use parapull_snapshotter::digest::Digest;

use super::TreeError;
use crate::ctr::Ctr;

/// The folders of an image's committed snapshots, bottom first, taken from the mounts of an active snapshot on its top layer.
///
/// `diff_ids` are the image's, bottom first. Works for every snapshotter that mounts overlays from one folder per layer.
///
/// # Errors
/// When the image is not unpacked in `snapshotter`, or its mounts are no overlay.
pub fn layers_from_snapshots(
    ctr: &Ctr,
    snapshotter: &str,
    diff_ids: &[String],
) -> Result<Vec<PathBuf>, TreeError> {
    let top = chain_id(diff_ids)?;
    let key = format!("parapull-bench-{}", top.trim_start_matches("sha256:"));
    ctr.prepare(snapshotter, &key, &top)?;
    let mounts = ctr.mounts(snapshotter, &key);
    ctr.remove_snapshot(snapshotter, &key)?;
    let mounts = mounts?;
    let mut layers = parse_mounts(&mounts).ok_or_else(|| TreeError::Snapshots {
        image: top,
        reason: format!("its mounts are neither an overlay nor a bind: {mounts:?}"),
    })?;
    layers.reverse();
    Ok(layers)
}

/// The folders `layers/<nnn>-<digest12>/fs` of a pull into `directory`, bottom first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn layers_from_pull(directory: &Path) -> Result<Vec<PathBuf>, TreeError> {
    let layers = directory.join("layers");
    let entries = fs::read_dir(&layers).map_err(|error| TreeError::file("list", &layers, error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path().join("fs")))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TreeError::file("list", &layers, error))?;
    paths.sort();
    Ok(paths)
}

/// The chain id of the topmost of `diff_ids` (OCI image specification, "Layer ChainID").
fn chain_id(diff_ids: &[String]) -> Result<String, TreeError> {
    let odd = |reason: String| TreeError::Snapshots {
        image: diff_ids.first().cloned().unwrap_or_default(),
        reason,
    };
    let mut chain: Option<Digest> = None;
    for diff_id in diff_ids {
        let diff_id: Digest = diff_id.parse().map_err(|error| odd(format!("{error}")))?;
        chain = Some(chain.map_or(diff_id, |chain| chain.chain(&diff_id)));
    }
    chain
        .map(|chain| chain.to_string())
        .ok_or_else(|| odd("it has no layers".into()))
}

/// Reads `mount -t overlay overlay /target -o ro,lowerdir=top:…:bottom`, or a bind of one folder; topmost first.
fn parse_mounts(text: &str) -> Option<Vec<PathBuf>> {
    let line = text.lines().find(|line| line.starts_with("mount "))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = words
        .get(1..)?
        .iter()
        .position(|&word| word == "-t")
        .and_then(|at| words.get(at + 2))?;
    let source = words
        .get(1..)?
        .iter()
        .position(|&word| word == "-t")
        .and_then(|at| words.get(at + 3))?;
    if *kind == "bind" {
        return Some(vec![PathBuf::from(source)]);
    }
    let options = words
        .iter()
        .position(|&word| word == "-o")
        .and_then(|at| words.get(at + 1))?;
    let lower = options
        .split(',')
        .find_map(|option| option.strip_prefix("lowerdir="))?;
    Some(lower.split(':').map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_overlay_and_bind_mounts() {
        for (text, layers) in [
            (
                "mount -t overlay overlay /target -o index=off,lowerdir=/s/3/fs:/s/2/fs:/s/1/fs\n",
                Some(vec!["/s/3/fs", "/s/2/fs", "/s/1/fs"]),
            ),
            (
                "mount -t bind /s/1/fs /target -o ro,rbind\n",
                Some(vec!["/s/1/fs"]),
            ),
            ("mount -t tmpfs tmpfs /target -o ro\n", None),
            ("", None),
        ] {
            let layers = layers.map(|layers| layers.into_iter().map(PathBuf::from).collect());
            assert_eq!(parse_mounts(text), layers, "{text}");
        }
    }

    #[test]
    fn chains_from_the_bottom() {
        let a = Digest::of(b"a");
        let b = Digest::of(b"b");
        assert_eq!(chain_id(&[a.to_string()]).unwrap(), a.to_string());
        assert_eq!(
            chain_id(&[a.to_string(), b.to_string()]).unwrap(),
            a.chain(&b).to_string()
        );
        assert!(chain_id(&[]).is_err());
    }
}
