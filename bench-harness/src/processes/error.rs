//! Why a process could not be started, waited for or asked.

use std::io;
use std::path::PathBuf;

/// Why a process of the bench failed; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not on `PATH` nor beside this one.
    #[error("find the program {name}: {hint}")]
    NotFound {
        /// The program's name.
        name: String,
        /// Which package or command provides it.
        hint: String,
    },
    /// The operating system refused to start the program.
    #[error("start {name} ({program}): {source}")]
    Start {
        /// What it is for.
        name: String,
        /// The path or name that was executed.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The process ended before it was ready.
    #[error("start {name}: it ended with {status} before {waited_for}\n{log_tail}")]
    Ended {
        /// What it is for.
        name: String,
        /// Its exit status.
        status: String,
        /// What was awaited.
        waited_for: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// The process was not ready in time.
    #[error("start {name}: no {waited_for} within {seconds} s\n{log_tail}")]
    NotReady {
        /// What it is for.
        name: String,
        /// What was awaited.
        waited_for: String,
        /// How long it was awaited, in seconds.
        seconds: u64,
        /// The last lines of its log.
        log_tail: String,
    },
    /// A command ended with an error.
    #[error("run {command}: {status}\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote to stderr, cut to its last lines.
        stderr: String,
    },
    /// A file or directory could not be used.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted, such as "write".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program answered what cannot be understood.
    #[error("understand {what}: {text:?}")]
    Answer {
        /// What was read.
        what: String,
        /// Its text, cut.
        text: String,
    },
    /// Packages of Debian's archive could not be had.
    #[error("obtain {packages} of Debian's {suite}: {cause}")]
    Obtain {
        /// The packages.
        packages: String,
        /// The suite they were looked for in.
        suite: String,
        /// The cause, which the text holds already.
        cause: Box<ProcessError>,
    },
    /// A fragment of containerd's configuration in `deploy/` is no TOML.
    #[error("read deploy/containerd/{name}: {reason}")]
    Fragment {
        /// The file's name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The user asked to stop (SIGINT or SIGTERM).
    #[error("go on: interrupted")]
    Interrupted,
}

impl ProcessError {
    /// Wraps an I/O error with what was attempted on which path.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
