//! A private containerd: own root, state, socket and configuration in one folder.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::containerd_config::{Paths, configuration};
use super::{
    ContainerdVersion, CriPull, Decompressor, Process, ProcessError, ProxySnapshotter, find_program,
};
use crate::cri::CriClient;
use crate::ctr::Ctr;

/// How a private containerd is to be started.
#[derive(Debug, Clone)]
pub struct ContainerdOptions {
    /// The daemon, a name or a path; `ctr` and the shim are taken from beside it.
    pub program: PathBuf,
    /// A proxy snapshotter to announce, which is CRI's snapshotter then; without one it is `overlayfs`.
    pub proxy: Option<ProxySnapshotter>,
    /// Who fetches for CRI.
    pub cri_pull: CriPull,
    /// What inflates gzip layers.
    pub decompressor: Decompressor,
    /// Registries that speak plain HTTP, each `host:port`.
    pub plain_http_hosts: Vec<String>,
}

impl ContainerdOptions {
    /// The containerd of `$PARAPULL_CONTAINERD`, else the installed one, on its own overlayfs, inflating in process.
    ///
    /// # Errors
    /// [`ProcessError::NotFound`] when containerd is not installed.
    pub fn installed() -> Result<Self, ProcessError> {
        Ok(Self {
            program: find_program(
                &std::env::var("PARAPULL_CONTAINERD").unwrap_or_else(|_| "containerd".into()),
                "install the package containerd",
            )?,
            proxy: None,
            cri_pull: CriPull::default(),
            decompressor: Decompressor::Go,
            plain_http_hosts: Vec::new(),
        })
    }
}

/// A running private containerd; dropping it stops it, its containers' shims and its mounts.
#[derive(Debug)]
pub struct Containerd {
    process: Process,
    version: ContainerdVersion,
    decompressor: Decompressor,
    snapshotter: String,
    folder: PathBuf,
    socket: PathBuf,
    ctr: PathBuf,
}

impl Containerd {
    /// Starts a containerd that keeps everything in `folder` (empty, short path) and waits until CRI answers.
    ///
    /// # Errors
    /// When the program is missing, ends, or CRI does not answer within 30 s; the error shows the log's last lines.
    pub fn start(folder: &Path, options: &ContainerdOptions) -> Result<Self, ProcessError> {
        let program = find_program(
            &options.program.to_string_lossy(),
            "install the package containerd",
        )?;
        let version = ContainerdVersion::of(&program)?;
        let paths = make_folders(folder, &options.plain_http_hosts)?;
        let config = config_of(folder);
        let proxy = options.proxy.as_ref();
        let text = configuration(version, &paths, proxy, options.cri_pull)?;
        fs::write(&config, text).map_err(ProcessError::file("write", &config))?;
        link_own_shim(folder, &program)?;
        let process = launch(folder, options, &program, version)?;
        let mut containerd = Self {
            process,
            version,
            decompressor: options.decompressor,
            snapshotter: proxy.map_or_else(|| "overlayfs".into(), |proxy| proxy.name.clone()),
            folder: folder.into(),
            socket: paths.socket,
            ctr: program_beside(&program, "ctr")?,
        };
        containerd.wait_ready()?;
        Ok(containerd)
    }

    fn wait_ready(&mut self) -> Result<(), ProcessError> {
        let socket = self.socket.clone();
        self.process.wait_ready("answer from CRI", READY_LIMIT, || {
            // The socket accepts before the CRI plugin has finished its own start.
            UnixStream::connect(&socket).is_ok()
                && CriClient::connect(&socket).is_ok_and(|mut cri| cri.is_ready())
        })
    }

    /// Kills the daemon as a crash would (SIGKILL) and starts it again on what is there.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn crash(&mut self, options: &ContainerdOptions) -> Result<(), ProcessError> {
        self.process.kill();
        let program = find_program(
            &options.program.to_string_lossy(),
            "install the package containerd",
        )?;
        self.process = launch(&self.folder, options, &program, self.version)?;
        self.wait_ready()
    }

    /// Its version.
    pub const fn version(&self) -> ContainerdVersion {
        self.version
    }

    /// What it inflates gzip layers with.
    pub const fn decompressor(&self) -> Decompressor {
        self.decompressor
    }

    /// CRI's snapshotter.
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// Its Unix socket, for CRI and for containerd's own API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Everything it keeps.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// A CRI client of it.
    ///
    /// # Errors
    /// When its runtime cannot be made or the socket does not accept.
    pub fn cri(&self) -> Result<CriClient, crate::cri::CriError> {
        CriClient::connect(&self.socket)
    }

    /// `ctr` in CRI's namespace, `k8s.io`.
    pub fn ctr(&self) -> Ctr {
        Ctr::new(&self.ctr, &self.socket, "k8s.io")
    }

    /// Stops the daemon as an operator would (SIGTERM), then kills what is left of it.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Kills the daemon as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.stop();
        super::workspace::kill_processes_of(&self.folder);
        super::unmount_below(&self.folder);
    }
}

fn launch(
    folder: &Path,
    options: &ContainerdOptions,
    program: &Path,
    version: ContainerdVersion,
) -> Result<Process, ProcessError> {
    let mut command = Command::new(program);
    command.arg("--config").arg(config_of(folder));
    command.env("PATH", path_with_own_shim(folder));
    command.envs(options.decompressor.environment(version)?);
    Process::start("containerd", &mut command, &folder.join("containerd.log"))
}

fn config_of(folder: &Path) -> PathBuf {
    folder.join("config.toml")
}

fn make_folders(folder: &Path, plain_http_hosts: &[String]) -> Result<Paths, ProcessError> {
    let paths = Paths {
        root: folder.join("root"),
        state: folder.join("state"),
        socket: folder.join("c.sock"),
        hosts: folder.join("hosts"),
        empty: folder.join("empty"),
    };
    for path in [&paths.root, &paths.state, &paths.hosts, &paths.empty] {
        fs::create_dir_all(path).map_err(ProcessError::file("make", path))?;
    }
    write_hosts(&paths.hosts, plain_http_hosts)?;
    Ok(paths)
}

/// Writes `hosts.toml` per registry: containerd 2.x speaks plain HTTP only where it is told so.
pub(super) fn write_hosts(hosts: &Path, plain_http_hosts: &[String]) -> Result<(), ProcessError> {
    for host in plain_http_hosts {
        let directory = hosts.join(host);
        fs::create_dir_all(&directory).map_err(ProcessError::file("make", &directory))?;
        let file = directory.join("hosts.toml");
        let text = format!(
            "server = \"http://{host}\"\n\n[host.\"http://{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(&file, text).map_err(ProcessError::file("write", &file))?;
    }
    Ok(())
}

/// An unpacked newer containerd needs its own shim, but a runc unpacked beside it may need a newer C library than the
/// machine has: so the shim alone is linked into a folder.
fn link_own_shim(folder: &Path, program: &Path) -> Result<(), ProcessError> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).map_err(ProcessError::file("make", &bin))?;
    let shim = program_beside(program, SHIM)?;
    let link = bin.join(SHIM);
    symlink(&shim, &link).map_err(ProcessError::file("link", &link))
}

/// `PATH` with this containerd's own shim first and nothing else of its folder.
fn path_with_own_shim(folder: &Path) -> OsString {
    let mut path = OsString::from(folder.join("bin"));
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

fn program_beside(program: &Path, name: &str) -> Result<PathBuf, ProcessError> {
    let beside = program.with_file_name(name);
    if beside.is_file() {
        return Ok(beside);
    }
    find_program(name, "install the package containerd")
}

/// A cold containerd starts in under a second on an idle machine; a loaded one is given time.
const READY_LIMIT: Duration = Duration::from_secs(30);
const SHIM: &str = "containerd-shim-runc-v2";
