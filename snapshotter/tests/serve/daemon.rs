//! The real program in a folder of its own; where there is a containerd at all, its socket lies in the same folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;

use crate::served;

/// A running daemon; dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    root: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    /// With these settings.
    pub(crate) fn start(folder: &Path, settings: &[&str]) -> Self {
        Self::run(
            folder,
            settings.iter().flat_map(|setting| ["--set", setting]),
        )
    }

    /// With this configuration file.
    pub(crate) fn start_with(folder: &Path, config: &Path) -> Self {
        Self::run(folder, ["--config".as_ref(), config.as_os_str()])
    }

    fn run(folder: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let (root, socket) = (folder.join("store"), folder.join("s.sock"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"));
        command
            .arg("serve")
            .args(["--log-level", "warn"])
            .arg("--root")
            .arg(&root)
            .arg("--address")
            .arg(format!("unix://{}", socket.display()))
            .arg("--containerd-address")
            .arg(folder.join("containerd.sock"))
            .env_remove("LISTEN_FDS")
            .stdin(Stdio::null())
            .args(arguments);
        // What a killed one left would be taken for the new one's.
        let _ = fs::remove_file(&socket);
        let child = command.spawn().unwrap();
        wait_until("the daemon's socket", || socket.exists());
        Self {
            child,
            root,
            socket,
        }
    }

    pub(crate) async fn client(&self) -> SnapshotsClient<Channel> {
        served::connect(&self.socket).await
    }

    #[track_caller]
    pub(crate) fn end(mut self, signal: Signal) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert_eq!(status.success(), signal == Signal::TERM, "{status}");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, which must come soon.
    #[track_caller]
    pub(crate) fn ended(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The root of its state.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The images that `status` shows.
    pub(crate) fn images(&self) -> Vec<String> {
        let status = self.status();
        let pulls = status["pulls"].as_array().unwrap();
        pulls.iter().map(|pull| pull["image"].to_string()).collect()
    }

    /// What `status --json` prints.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"))
            .args(["status", "--json", "--address"])
            .arg(format!("unix://{}", self.socket.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What lies in staging, and of it what is noted as finished.
    pub(crate) fn staged(&self) -> (usize, usize) {
        self.staging().counts()
    }

    /// Its staging area, to be looked into after its end.
    pub(crate) fn staging(&self) -> Staging {
        Staging(self.root.join("staging"))
    }
}

/// Where layers are staged.
pub(crate) struct Staging(PathBuf);

impl Staging {
    /// The layers in it, and of them those noted as finished.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let below = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let layers: Vec<PathBuf> = below(&self.0).iter().flat_map(|job| below(job)).collect();
        let noted = layers
            .iter()
            .filter(|layer| layer.join("layer.json").exists());
        (layers.len(), noted.count())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
