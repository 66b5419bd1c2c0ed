//! Where the programs are: our own beside this one, everybody else's on `PATH`.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::ProcessError;

/// The paths of the project's own binaries.
#[derive(Debug, Clone)]
pub struct Programs {
    directories: Vec<PathBuf>,
}

impl Programs {
    /// Looks beside the running program, then one folder up (a test runs from `target/<profile>/deps`), then on `PATH`.
    pub fn beside_this_one() -> Self {
        let own = env::current_exe().ok();
        let beside = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let above = beside
            .as_deref()
            .and_then(Path::parent)
            .map(Path::to_path_buf);
        Self {
            directories: beside.into_iter().chain(above).collect(),
        }
    }

    /// Looks in `directory` only, then on `PATH`.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            directories: vec![directory.to_path_buf()],
        }
    }

    /// The snapshotter, `parapull-snapshotter`.
    ///
    /// # Errors
    /// [`ProcessError::NotFound`] with the command that builds it.
    pub fn snapshotter(&self) -> Result<PathBuf, ProcessError> {
        self.own("parapull-snapshotter")
    }

    /// The registry, `fake-registry`.
    ///
    /// # Errors
    /// [`ProcessError::NotFound`] with the command that builds it.
    pub fn fake_registry(&self) -> Result<PathBuf, ProcessError> {
        self.own("fake-registry")
    }

    fn own(&self, name: &str) -> Result<PathBuf, ProcessError> {
        let beside = self
            .directories
            .iter()
            .map(|directory| directory.join(name))
            .find(|path| is_program(path));
        beside.map_or_else(
            || find_program(name, &format!("build it with `cargo build --bin {name}`")),
            Ok,
        )
    }
}

/// Finds `name` on `PATH` and in the folders where Debian keeps daemons; a path with a slash is taken as it is.
///
/// # Errors
/// [`ProcessError::NotFound`] with `hint`, which says how to get the program.
pub fn find_program(name: &str, hint: &str) -> Result<PathBuf, ProcessError> {
    let not_found = || ProcessError::NotFound {
        name: name.into(),
        hint: hint.into(),
    };
    if name.contains('/') {
        return Some(PathBuf::from(name))
            .filter(|path| is_program(path))
            .ok_or_else(not_found);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| is_program(path))
        .ok_or_else(not_found)
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
