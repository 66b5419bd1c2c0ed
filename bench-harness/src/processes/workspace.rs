//! The one directory below which a run keeps everything, and its removal.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{ProcessError, mounts_below, unmount_below};

/// A private directory that is emptied of processes and mounts and then removed when dropped.
///
/// As root it is a tmpfs of its own, so that the growth of the file system is exactly what a pull wrote
/// ([`crate::measure::WrittenBytes`]) and so that no run inherits another's disk state; otherwise, or when a base is
/// given, a folder on the base's file system.
#[derive(Debug)]
pub struct Workspace {
    directory: Option<TempDir>,
    path: PathBuf,
}

impl Workspace {
    /// Makes a workspace: below `base` if given, else on a tmpfs.
    ///
    /// The path is kept short: a Unix socket's path holds 107 bytes.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(base: Option<&Path>) -> Result<Self, ProcessError> {
        if let Some(base) = base {
            fs::create_dir_all(base).map_err(ProcessError::file("make", base))?;
            return Self::below(base);
        }
        if rustix::process::geteuid().is_root() {
            let workspace = Self::below(&std::env::temp_dir())?;
            let mounted = mount(
                "parapull",
                &workspace.path,
                "tmpfs",
                MountFlags::empty(),
                TMPFS_OPTIONS,
            );
            if mounted.is_ok() {
                return Ok(workspace);
            }
        }
        let shared_memory = Path::new("/dev/shm");
        if shared_memory.is_dir() {
            return Self::below(shared_memory);
        }
        Self::below(&std::env::temp_dir())
    }

    fn below(base: &Path) -> Result<Self, ProcessError> {
        let directory = tempfile::Builder::new()
            .prefix("parapull-")
            .tempdir_in(base)
            .map_err(ProcessError::file("make a directory in", base))?;
        let path = directory
            .path()
            .canonicalize()
            .map_err(ProcessError::file("resolve", base))?;
        Ok(Self {
            directory: Some(directory),
            path,
        })
    }

    /// Its path, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder `name` in it, empty.
    ///
    /// # Errors
    /// When it exists with content that cannot be removed, or cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, ProcessError> {
        let path = self.path.join(name);
        self.remove(name)?;
        fs::create_dir_all(&path).map_err(ProcessError::file("make", &path))?;
        Ok(path)
    }

    /// Unmounts what is below the folder `name` and removes it.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), ProcessError> {
        let path = self.path.join(name);
        kill_processes_of(&path);
        unmount_below(&path);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ProcessError::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        kill_processes_of(&self.path);
        unmount_below(&self.path);
        if !mounts_below(&self.path).is_empty() {
            tracing::warn!(path = %self.path.display(), "left behind: something is mounted there");
            if let Some(directory) = self.directory.take() {
                let _ = directory.keep();
            }
        }
    }
}

/// Kills container shims that outlive their daemon: they name the daemon's socket on their command line.
pub(super) fn kill_processes_of(directory: &Path) {
    let needle = format!("{}/", directory.display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let is_shim = line
            .split('\0')
            .next()
            .is_some_and(|program| program.contains("containerd-shim"));
        if is_shim
            && line.contains(&needle)
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Sparse until used; more than memory would only move the failure to the kernel's killer.
const TMPFS_OPTIONS: &std::ffi::CStr = c"size=80%,mode=0700,nr_inodes=0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_neither_mounts_nor_files() {
        let workspace = Workspace::new(None).unwrap();
        let path = workspace.path().to_owned();
        let folder = workspace.folder("a").unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        if rustix::process::geteuid().is_root() {
            mount("inner", &folder, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
            assert_eq!(mounts_below(&path).first(), Some(&folder));
            assert!(
                workspace
                    .folder("a")
                    .unwrap()
                    .read_dir()
                    .unwrap()
                    .next()
                    .is_none()
            );
        }
        drop(workspace);
        assert!(!path.exists());
        assert!(mounts_below(&path).is_empty());
    }
}
