//! Fresh file systems to unpack into: nothing was ever deleted on them.
//!
//! ext4 without a journal, and any ext4 that has just seen a tree removed, makes creating files many times slower for
//! minutes, so each run gets a file system that was made for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use rustix::mount::{MountFlags, mount};

use super::UnpackBenchError;
use crate::processes::{find_program, run, unmount_below};

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// Memory.
    Tmpfs,
    /// ext4 with its journal, on a loop device over memory.
    Ext4,
    /// XFS, on a loop device over memory.
    Xfs,
}

impl PlaceKind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

impl FromStr for PlaceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Tmpfs, Self::Ext4, Self::Xfs]
            .into_iter()
            .find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("{text:?} is no file system: write tmpfs, ext4 or xfs"))
    }
}

/// A file system that was just made and is gone when dropped.
#[derive(Debug)]
pub(super) struct Place {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl Place {
    /// Makes one and mounts it on the folder `at`; a device lies as a file beside it.
    pub(super) fn mount(kind: PlaceKind, at: &Path) -> Result<Self, UnpackBenchError> {
        fs::create_dir_all(at).map_err(UnpackBenchError::file("make", at))?;
        let mut place = Self {
            at: at.to_path_buf(),
            image: None,
        };
        if kind == PlaceKind::Tmpfs {
            mount("parapull", at, "tmpfs", MountFlags::empty(), c"nr_inodes=0")
                .map_err(|error| UnpackBenchError::file("mount a tmpfs on", at)(error.into()))?;
            return Ok(place);
        }
        let image = at.with_extension("image");
        File::create(&image)
            .and_then(|file| file.set_len(IMAGE_BYTES))
            .map_err(UnpackBenchError::file("make", &image))?;
        place.image = Some(image.clone());
        run(maker(kind)?.arg(&image))?;
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", kind.name(), "-o", "loop"])
            .arg(&image)
            .arg(at))?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount_below(&self.at);
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}

/// What makes the file system, complete: nothing is left for the kernel to finish while something is measured.
fn maker(kind: PlaceKind) -> Result<Command, UnpackBenchError> {
    if kind == PlaceKind::Xfs {
        let mut maker = Command::new(find_program("mkfs.xfs", "install the package xfsprogs")?);
        maker.arg("-q");
        return Ok(maker);
    }
    let mut maker = Command::new(find_program("mkfs.ext4", "install the package e2fsprogs")?);
    maker.args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    Ok(maker)
}

/// Sparse; thrice the largest layer.
const IMAGE_BYTES: u64 = 3 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::FileSystem;
    use crate::processes::Workspace;

    #[test]
    fn a_place_is_of_its_kind_and_gone_after_use() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED places to unpack into: needs root to mount");
            assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
            return;
        }
        let workspace = Workspace::new(None).unwrap();
        for kind in [PlaceKind::Tmpfs, PlaceKind::Ext4] {
            let at = workspace.path().join("place");
            let place = Place::mount(kind, &at).unwrap();
            assert_eq!(FileSystem::of(&at).unwrap().name, kind.name());
            fs::write(at.join("file"), "x").unwrap();
            drop(place);
            assert!(fs::read_dir(&at).unwrap().next().is_none());
            assert!(!at.with_extension("image").exists());
        }
    }
}
