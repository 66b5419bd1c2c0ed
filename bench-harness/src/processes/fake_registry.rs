//! The project's own registry as a process of its own, so that its CPU time is not counted as the puller's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Process, ProcessError, Programs, http_get, run};

/// What a fake registry is to serve.
#[derive(Debug, Clone, Default)]
pub struct FakeRegistryOptions {
    /// Repository (with optional tag) and spec or OCI layout folder, as `--image NAME=SPEC` takes them.
    pub images: Vec<(String, String)>,
    /// A profile's name or file.
    pub profile: Option<String>,
    /// A fault plan's file.
    pub faults: Option<PathBuf>,
}

/// A running `fake-registry serve`; dropping it stops it.
#[derive(Debug)]
pub struct FakeRegistry {
    process: Process,
    host: String,
}

impl FakeRegistry {
    /// Starts the registry on a free loopback port, with its log and port file in `folder`.
    ///
    /// # Errors
    /// When the program is missing, ends, or announces no port within 120 s (it may craft images first).
    pub fn start(
        programs: &Programs,
        folder: &Path,
        options: &FakeRegistryOptions,
    ) -> Result<Self, ProcessError> {
        let port_file = folder.join("port");
        let mut command = Command::new(programs.fake_registry()?);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--port-file"])
            .arg(&port_file);
        for (name, spec) in &options.images {
            command.arg("--image").arg(format!("{name}={spec}"));
        }
        if let Some(profile) = &options.profile {
            command.arg("--profile").arg(profile);
        }
        if let Some(faults) = &options.faults {
            command.arg("--faults").arg(faults);
        }
        let mut process =
            Process::start("fake-registry", &mut command, &folder.join("registry.log"))?;
        let mut host = None;
        process.wait_ready("port in the port file", READY_LIMIT, || {
            host = fs::read_to_string(&port_file)
                .ok()
                .and_then(|text| parse_port(&text));
            // A profile with authentication answers 401, which is an answer.
            host.as_ref()
                .is_some_and(|host| http_get(&format!("http://{host}/v2/"), None, |_| {}).is_ok())
        })?;
        Ok(Self {
            process,
            host: host.unwrap_or_default(),
        })
    }

    /// Crafts the image `spec` as an OCI layout in the folder `to`.
    ///
    /// # Errors
    /// When the program is missing or refuses the spec.
    pub fn craft(programs: &Programs, spec: &str, to: &Path) -> Result<(), ProcessError> {
        run(Command::new(programs.fake_registry()?)
            .arg("craft")
            .arg(spec)
            .arg("--out")
            .arg(to))
        .map(drop)
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

/// Reads a port file: a bare port, or an address with one, on its first line.
fn parse_port(text: &str) -> Option<String> {
    // Without its line end the file may be only half written.
    let line = text.lines().next().filter(|_| text.ends_with('\n'))?.trim();
    let port: u16 = line
        .rsplit(':')
        .next()?
        .parse()
        .ok()
        .filter(|&port| port != 0)?;
    Some(format!("127.0.0.1:{port}"))
}

/// Crafting a gigabyte takes a while on a slow machine.
const READY_LIMIT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_complete_port_files_only() {
        for (text, host) in [
            ("5000\n", Some("127.0.0.1:5000")),
            ("127.0.0.1:5000\n", Some("127.0.0.1:5000")),
            ("50", None),
            ("", None),
            ("0\n", None),
            ("port\n", None),
        ] {
            assert_eq!(parse_port(text).as_deref(), host, "{text:?}");
        }
    }
}
