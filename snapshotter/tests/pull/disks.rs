//! Disks that are too small.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{Pull, names, skip};
use super::images::{TestImage, memory};
use super::served::Served;
use super::strategies::STRATEGIES;

/// A memory file system of its own, unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(test: &str, options: &str) -> Option<Self> {
        let folder = tempfile::tempdir_in(memory()).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        skip(test, "cannot mount a tmpfs");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

/// Pulls to a directory on a disk that cannot hold the image and expects to be told so, with nothing left.
fn pull_to(disk: &SmallDisk, served: &Served, strategy: &str) {
    for (to, make) in [("absent/deep", false), ("empty", true)] {
        let to: PathBuf = disk.path().join(to);
        if make {
            std::fs::create_dir(&to).unwrap();
        }
        let pull = Pull::of(served)
            .to(&to)
            .with(&["--strategy", strategy])
            .set("concurrent_download_chunk_size=512kb");
        let ended = pull.run();
        let error = ended.failure("disk");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("No space left on device"),
            "{strategy}: {message}"
        );
        let start = format!("error: {}: layer ", served.reference);
        assert!(
            ended.stderr.starts_with(&start),
            "{strategy}: {}",
            ended.stderr
        );
        if make {
            assert_eq!(names(disk.path()), ["empty"], "{strategy}");
            assert!(names(&to).is_empty(), "{strategy}");
            std::fs::remove_dir(&to).unwrap();
        } else {
            assert!(names(disk.path()).is_empty(), "{strategy}");
        }
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left() {
    let served = Served::healthy(TestImage::preset("ml-like:30MB"));
    // Too small for the first stored blobs, for the trees beside them, and for the last trees.
    for size in ["1m", "9m", "20m"] {
        let Some(disk) = SmallDisk::mount(
            "a_full_disk_is_told_and_nothing_is_left",
            &format!("size={size}"),
        ) else {
            return;
        };
        for strategy in STRATEGIES {
            pull_to(&disk, &served, strategy);
        }
    }
}

#[test]
fn a_disk_without_inodes_is_told_and_nothing_is_left() {
    let served = Served::healthy(TestImage::preset("ml-like:30MB"));
    let Some(disk) = SmallDisk::mount(
        "a_disk_without_inodes_is_told_and_nothing_is_left",
        "nr_inodes=60",
    ) else {
        return;
    };
    for strategy in STRATEGIES {
        pull_to(&disk, &served, strategy);
    }
}

#[test]
fn a_disk_just_large_enough_is_enough() {
    let served = Served::healthy(TestImage::preset("ml-like:30MB"));
    let Some(disk) = SmallDisk::mount("a_disk_just_large_enough_is_enough", "size=44m") else {
        return;
    };
    // Streaming keeps no compressed byte on disk; the trees alone take about 31 MB.
    let pull = Pull::of(&served).to(&disk.path().join("d"));
    pull.run().figures();
    pull.trees(&served.image);
}

/// What is reserved is looked after at a lane's start and while it unpacks: the one layer here has few compressed bytes.
#[test]
fn what_is_reserved_stays_free() {
    let layer = r#"{"uncompressed_bytes": "48mb", "files": 24, "content": "zeros"}"#;
    let spec = format!(r#"{{"name": "reserve", "layers": [{layer}]}}"#);
    let zeros = Served::healthy(TestImage::of_yaml(&spec));
    let many = Served::healthy(TestImage::preset("ml-like:30MB"));
    let Some(disk) = SmallDisk::mount("what_is_reserved_stays_free", "size=64m") else {
        return;
    };
    for (served, reserve, fits) in [
        (&zeros, "40mb", false),
        (&many, "48mb", false),
        (&many, "63mb", false),
        (&zeros, "4mb", true),
        (&many, "auto", true),
    ] {
        let to = disk.path().join("d");
        let pull = Pull::of(served)
            .to(&to)
            .set(&format!("disk_reserve={reserve}"));
        let ended = pull.run();
        if fits {
            ended.figures();
            std::fs::remove_dir_all(&to).unwrap();
            continue;
        }
        let error = ended.failure("disk");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("No space left on device") && message.contains("disk_reserve"),
            "{reserve}: {message}"
        );
        assert!(names(disk.path()).is_empty(), "{reserve}");
    }
}
