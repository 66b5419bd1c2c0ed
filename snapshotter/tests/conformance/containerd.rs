//! A private containerd for tests, with our socket as a proxy plugin.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "every test binary compiles this and uses a part of it; a failed helper is a failed test"
)]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A private containerd; killed when dropped.
pub(crate) struct Containerd {
    directory: PathBuf,
    process: Child,
}

impl Containerd {
    /// Starts it under `directory` with the snapshotter `parapull` at `snapshotter`, and waits until it answers.
    ///
    /// It collects garbage only when asked to, so that what has no root stays where a test looks for it.
    pub(crate) fn start(directory: &Path, snapshotter: &Path) -> Self {
        let configuration = directory.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{0}/containerd.sock\"\n[ttrpc]\naddress = \"{0}/ttrpc.sock\"\n\
             [plugins.\"io.containerd.gc.v1.scheduler\"]\nstartup_delay = \"1h\"\nmutation_threshold = 100000\n\
             [proxy_plugins.parapull]\ntype = \"snapshot\"\naddress = \"{1}\"\n",
            directory.display(),
            snapshotter.display()
        );
        fs::write(&configuration, text).unwrap();
        let log = fs::File::create(directory.join("containerd.log")).unwrap();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self {
            directory: directory.to_path_buf(),
            process,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(containerd.socket()).is_err()
            || containerd.ctr(&["version"]).is_err()
        {
            assert!(Instant::now() < deadline, "{}", containerd.log());
            // The only way to learn that another process listens is to try.
            std::thread::park_timeout(Duration::from_millis(20));
        }
        containerd
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("containerd.log")).unwrap_or_default()
    }

    /// Runs `ctr`; answers its output, or its error text.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Result<String, String> {
        self.ctr_with(arguments, b"")
    }

    pub(crate) fn ctr_with(&self, arguments: &[&str], input: &[u8]) -> Result<String, String> {
        let mut child = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    pub(crate) fn snapshots(&self, arguments: &[&str]) -> Result<String, String> {
        self.ctr(&[&["snapshots", "--snapshotter", "parapull"], arguments].concat())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is missing to run containerd here.
pub(crate) fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("containerd needs root");
    }
    let found = |program| Command::new(program).arg("--version").output().is_ok();
    (!found("containerd") || !found("ctr"))
        .then_some("the Debian package containerd is not installed")
}
