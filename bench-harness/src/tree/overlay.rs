//! The merged view of an image's layers: a read-only overlay mount that is always taken away again.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount, unmount,
};

use super::TreeError;

/// A mounted merged view; dropping it unmounts it.
#[derive(Debug)]
pub struct MergedView {
    path: PathBuf,
}

impl MergedView {
    /// Mounts `layers` (overlay form, bottom first) read-only on the folder `path`, which is made if missing.
    ///
    /// # Errors
    /// [`TreeError::Mount`], for example without the privilege to mount.
    pub fn mount(layers: &[PathBuf], path: &Path) -> Result<Self, TreeError> {
        let failed = |source: io::Error| TreeError::Mount {
            layers: layers.len(),
            path: path.into(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        match layers {
            [] => {
                return Err(failed(io::Error::other(
                    "an image without layers has no tree",
                )));
            }
            // overlayfs refuses a single lower directory without an upper one.
            [only] => {
                mount_bind_recursive(only, path).map_err(|error| failed(error.into()))?;
                mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "")
                    .map_err(|error| failed(error.into()))?;
            }
            layers => mount_overlay(layers, path).map_err(failed)?,
        }
        Ok(Self { path: path.into() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MergedView {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// Names each layer by an open descriptor: the kernel takes one page of options, too little for a hundred long paths.
fn mount_overlay(layers: &[PathBuf], path: &Path) -> io::Result<()> {
    let open = |layer: &PathBuf| -> io::Result<OwnedFd> {
        let flags = i32::try_from((OFlags::PATH | OFlags::DIRECTORY).bits()).unwrap_or_default();
        Ok(File::options()
            .read(true)
            .custom_flags(flags)
            .open(layer)?
            .into())
    };
    let descriptors = layers
        .iter()
        .rev()
        .map(open)
        .collect::<io::Result<Vec<_>>>()?;
    let names: Vec<String> = descriptors
        .iter()
        .map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")))?;
    mount(
        "overlay",
        path,
        "overlay",
        MountFlags::RDONLY,
        options.as_c_str(),
    )?;
    Ok(())
}
