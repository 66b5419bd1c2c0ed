//! Debian's `docker-registry` on loopback with its storage in a folder: the peer that every client is measured against.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Process, ProcessError, find_program, http_get, run};

/// A running docker-registry; dropping it stops it.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Process,
    host: String,
}

impl DockerRegistry {
    /// Starts it on a free loopback port with its storage in `folder`.
    ///
    /// # Errors
    /// When the program is missing, or does not answer on three ports in turn.
    pub fn start(folder: &Path) -> Result<Self, ProcessError> {
        let program = find_program("docker-registry", "install the package docker-registry")?;
        let mut attempt = 0;
        loop {
            // It cannot be told to take any free port, and another process may take the one found here first.
            match Self::start_on(&program, folder, free_port()?) {
                Err(ProcessError::Ended { .. }) if attempt < 2 => attempt += 1,
                other => return other,
            }
        }
    }

    fn start_on(program: &Path, folder: &Path, port: u16) -> Result<Self, ProcessError> {
        let storage = folder.join("storage");
        fs::create_dir_all(&storage).map_err(ProcessError::file("make", &storage))?;
        let host = format!("127.0.0.1:{port}");
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: {host}\n",
            storage.display()
        );
        fs::write(&config, text).map_err(ProcessError::file("write", &config))?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        let mut process = Process::start(
            "docker-registry",
            &mut command,
            &folder.join("registry.log"),
        )?;
        let url = format!("http://{host}/v2/");
        process.wait_ready("answer to GET /v2/", Duration::from_secs(15), || {
            http_get(&url, None, |_| {}).is_ok_and(|response| response.status == 200)
        })?;
        Ok(Self { process, host })
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Copies the image of an OCI layout into it as `name` (`demo:latest`) and returns the full reference.
    ///
    /// Digests are kept, so the layout's manifest describes what is served.
    ///
    /// # Errors
    /// When skopeo is missing or refuses the layout.
    pub fn load(&self, layout: &Path, name: &str) -> Result<String, ProcessError> {
        let skopeo = find_program("skopeo", "install the package skopeo")?;
        let reference = format!("{}/{name}", self.host);
        let mut command = Command::new(skopeo);
        command
            .args([
                "copy",
                "--insecure-policy",
                "--preserve-digests",
                "--dest-tls-verify=false",
                "--quiet",
            ])
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{reference}"));
        run(&mut command)?;
        Ok(reference)
    }
}

fn free_port() -> Result<u16, ProcessError> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(ProcessError::file("find a free port on", "127.0.0.1"))
}
