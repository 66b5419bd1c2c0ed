//! One child process: its group, its log and its certain end.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{ProcessError, interrupt};

/// A running child in a process group of its own; dropping it stops the group and reaps the child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    reaped: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to the file `log`.
    ///
    /// # Errors
    /// [`ProcessError::Start`] when the program cannot be executed, [`ProcessError::Interrupted`] after Ctrl-C.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        let open = |path: &Path| File::options().create(true).append(true).open(path);
        let stdout = open(log).map_err(ProcessError::file("open", log))?;
        let stderr = stdout
            .try_clone()
            .map_err(ProcessError::file("open", log))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Ok(Self {
            name: name.into(),
            child: spawn(name, command)?,
            log: log.into(),
            reaped: None,
        })
    }

    /// The child's process id, which is also its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file with everything it wrote.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until `ready` says yes, asking every 10 ms for at most `limit`.
    ///
    /// Daemons here announce readiness by a socket or a file only, so it is asked for; the bound makes a hung daemon an
    /// error with its log's last lines.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] as soon as the process has ended, [`ProcessError::NotReady`] after `limit`.
    pub fn wait_ready(
        &mut self,
        waited_for: &str,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), ProcessError> {
        let start = Instant::now();
        loop {
            if interrupt::requested() {
                return Err(ProcessError::Interrupted);
            }
            if let Some(status) = self.try_reap() {
                return Err(ProcessError::Ended {
                    name: self.name.clone(),
                    status: status.to_string(),
                    waited_for: waited_for.into(),
                    log_tail: self.log_tail(),
                });
            }
            if ready() {
                return Ok(());
            }
            if start.elapsed() > limit {
                return Err(ProcessError::NotReady {
                    name: self.name.clone(),
                    waited_for: waited_for.into(),
                    seconds: limit.as_secs(),
                    log_tail: self.log_tail(),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether it runs; the status is kept once it has ended.
    pub fn is_running(&mut self) -> bool {
        self.try_reap().is_none()
    }

    /// The last lines of its log, at most 3,000 bytes.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Asks the process to end (SIGTERM), kills its whole group after 5 s, and reaps it.
    pub fn stop(&mut self) {
        if self.try_reap().is_none() {
            interrupt::kill(self.child.id(), Signal::TERM);
            let start = Instant::now();
            while self.try_reap().is_none()
                && start.elapsed() < STOP_LIMIT
                && !interrupt::requested()
            {
                thread::sleep(POLL_INTERVAL);
            }
        }
        self.kill();
    }

    /// Kills the whole group at once (SIGKILL) and reaps the child.
    pub fn kill(&mut self) {
        if self.reaped.is_none() {
            interrupt::kill(self.child.id(), Signal::KILL);
            self.reaped = self.child.wait().ok();
            interrupt::remove(self.child.id());
        }
    }

    fn try_reap(&mut self) -> Option<ExitStatus> {
        if self.reaped.is_none() {
            self.reaped = self.child.try_wait().ok().flatten();
            if self.reaped.is_some() {
                // Children it left behind share the group, which keeps its number from reuse while one is alive.
                interrupt::kill(self.child.id(), Signal::KILL);
                interrupt::remove(self.child.id());
            }
        }
        self.reaped
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a command that ran to its end left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Everything it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr, as text.
    pub stderr: String,
    /// Wall time from start to end.
    pub elapsed: Duration,
}

impl Finished {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs `command` to its end in a process group of its own and takes its output.
///
/// # Errors
/// [`ProcessError::Failed`] with the end of stderr when it does not exit with 0; [`ProcessError::Start`] when it cannot
/// be executed; [`ProcessError::Interrupted`] when Ctrl-C ended it.
pub fn run(command: &mut Command) -> Result<Finished, ProcessError> {
    let finished = run_any(command)?;
    if finished.status.success() {
        return Ok(finished);
    }
    Err(ProcessError::Failed {
        command: command_line(command),
        status: finished.status.to_string(),
        stderr: last_bytes(finished.stderr.as_bytes()),
    })
}

fn run_any(command: &mut Command) -> Result<Finished, ProcessError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = spawn(&name, command)?;
    let group = child.id();
    let output = child.wait_with_output();
    interrupt::remove(group);
    if interrupt::requested() {
        return Err(ProcessError::Interrupted);
    }
    let output = output.map_err(|source| ProcessError::Start {
        program: name.clone(),
        name,
        source,
    })?;
    Ok(Finished {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        elapsed: start.elapsed(),
    })
}

fn spawn(name: &str, command: &mut Command) -> Result<Child, ProcessError> {
    if interrupt::requested() {
        return Err(ProcessError::Interrupted);
    }
    tracing::debug!(command = command_line(command), "starting");
    let mut child = command
        .process_group(0)
        .spawn()
        .map_err(|source| ProcessError::Start {
            name: name.into(),
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
    if !interrupt::add(child.id()) {
        interrupt::kill(child.id(), Signal::KILL);
        let _ = child.wait();
        interrupt::remove(child.id());
        return Err(ProcessError::Interrupted);
    }
    Ok(child)
}

fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    last_bytes(&read().unwrap_or_default())
}

fn last_bytes(text: &[u8]) -> String {
    let keep = usize::try_from(LOG_TAIL_BYTES).unwrap_or(usize::MAX);
    let start = text.len().saturating_sub(keep);
    String::from_utf8_lossy(&text[start..])
        .trim_end()
        .to_owned()
}

/// How much of a log an error message shows.
const LOG_TAIL_BYTES: u64 = 3000;
/// How often readiness and death are asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long SIGTERM may take before SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    fn exists(pid: &str) -> bool {
        // A zombie still has an entry; its command line is empty.
        std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
    }

    #[test]
    fn dropping_kills_children_of_the_child_too() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process =
            Process::start("sh", &mut shell("sleep 1000 & echo $!; wait"), &log).unwrap();
        process
            .wait_ready("pid", Duration::from_secs(10), || {
                tail(&log).parse::<u32>().is_ok()
            })
            .unwrap();
        let grandchild = tail(&log);
        assert!(exists(&grandchild));
        drop(process);
        let start = Instant::now();
        while exists(&grandchild) && start.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        assert!(!exists(&grandchild), "the grandchild survived");
    }

    #[test]
    fn a_death_before_readiness_shows_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process =
            Process::start("broken", &mut shell("echo no such socket; exit 3"), &log).unwrap();
        let error = process
            .wait_ready("socket", Duration::from_secs(10), || false)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("no such socket") && text.contains("exit status: 3"),
            "{text}"
        );
    }

    #[test]
    fn a_failing_command_names_itself_and_its_complaint() {
        let error = run(&mut shell("echo out; echo complaint >&2; exit 7"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("complaint")
                && error.contains("exit status: 7")
                && error.contains("sh -c"),
            "{error}"
        );
    }
}
