//! How a command fails: one line for people, one document for machines, one exit code for scripts.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;

use parapull_snapshotter::driver::{PullError, with_sources};
use parapull_snapshotter::registry::RegistryError;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: PullError,
    /// The command line is to blame.
    pub(super) misuse: bool,
}

impl Failure {
    pub(super) fn new(kind: &'static str, message: impl ToString) -> Self {
        Self {
            error: PullError {
                kind,
                layer: None,
                host: None,
                message: message.to_string(),
            },
            misuse: false,
        }
    }

    pub(super) fn misuse(message: impl ToString) -> Self {
        Self {
            misuse: true,
            ..Self::new("config", message)
        }
    }

    /// Prints `error: <subject>: <cause>` to standard error and, if asked, the document to standard output.
    pub(super) fn report(&self, subject: &str, json: bool) -> ExitCode {
        let _ = writeln!(io::stderr(), "error: {subject}: {}", self.error);
        if json {
            let document = json!({"error": {
                "kind": self.error.kind,
                "image": subject,
                "host": self.error.host,
                "digest": self.error.layer.map(|(_, digest)| digest.to_string()),
                "message": self.error.message,
            }});
            let _ = writeln!(io::stdout(), "{document}");
        }
        if self.misuse {
            ExitCode::from(2)
        } else {
            ExitCode::FAILURE
        }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        Self {
            error,
            misuse: false,
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let kind = error.kind();
        let host = error.host().map(str::to_owned);
        let message = match &error {
            RegistryError::Fetch(error) => with_sources(error.cause()),
            RegistryError::Image { source, .. } => with_sources(source),
            other => with_sources(other),
        };
        let mut failure = Self::new(kind, message);
        failure.error.host = host;
        failure
    }
}
