//! `parapull-snapshotter serve` in a folder of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Process, ProcessError, Programs, ProxySnapshotter};

/// How the snapshotter is to be started.
#[derive(Debug, Clone, Default)]
pub struct SnapshotterOptions {
    /// containerd's socket, which the snapshotter reads manifests from.
    pub containerd_socket: PathBuf,
    /// Lines of its configuration's `[parapull]` table, such as `window = "64MiB"`.
    pub settings: Vec<String>,
    /// Where it is to record its pulls; not at all when not given.
    pub traces: Option<PathBuf>,
    /// The boot it is to take this one for; the kernel's when not given.
    pub boot_id: Option<String>,
}

/// A running snapshotter; dropping it stops it.
#[derive(Debug)]
pub struct Snapshotter {
    process: Process,
    proxy: ProxySnapshotter,
}

impl Snapshotter {
    /// Where a snapshotter in `folder` will listen and keep its snapshots.
    ///
    /// containerd must be told before either is started: it connects on first use only.
    pub fn announced(folder: &Path) -> ProxySnapshotter {
        ProxySnapshotter {
            name: "parapull".into(),
            socket: folder.join("p.sock"),
            root: folder.join("root"),
        }
    }

    /// Starts the snapshotter in `folder` and waits until its socket accepts.
    ///
    /// # Errors
    /// When the program is missing, ends, or does not accept within 15 s; the error shows the log's last lines.
    pub fn start(
        programs: &Programs,
        folder: &Path,
        options: &SnapshotterOptions,
    ) -> Result<Self, ProcessError> {
        let proxy = Self::announced(folder);
        let config = folder.join("config.toml");
        fs::create_dir_all(folder).map_err(ProcessError::file("make", folder))?;
        // Registries here are on loopback, which the snapshotter speaks plain HTTP to unasked.
        let mut text = "[parapull]\n".to_owned();
        if let Some(traces) = &options.traces {
            fs::create_dir_all(traces).map_err(ProcessError::file("make", traces))?;
            text.push_str(&format!("trace_dir = {:?}\n", traces.display().to_string()));
        }
        for line in &options.settings {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&config, text).map_err(ProcessError::file("write", &config))?;
        let mut command = Command::new(programs.snapshotter()?);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--address")
            .arg(format!("unix://{}", proxy.socket.display()))
            .arg("--root")
            .arg(&proxy.root)
            .arg("--containerd-address")
            .arg(&options.containerd_socket);
        if let Some(boot_id) = &options.boot_id {
            command.arg("--boot-id").arg(boot_id);
        }
        let process = Process::start(
            "parapull-snapshotter",
            &mut command,
            &folder.join("snapshotter.log"),
        )?;
        let mut snapshotter = Self { process, proxy };
        let socket = snapshotter.proxy.socket.clone();
        snapshotter
            .process
            .wait_ready("connection on its socket", READY_LIMIT, || {
                UnixStream::connect(&socket).is_ok()
            })?;
        Ok(snapshotter)
    }

    /// What containerd is told about it.
    pub const fn proxy(&self) -> &ProxySnapshotter {
        &self.proxy
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

    /// Kills it as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

const READY_LIMIT: Duration = Duration::from_secs(15);
