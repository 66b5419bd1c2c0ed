//! The pull trace: every engine input and output with its time, one JSON document a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use parapull_engine::{BlobId, Config, Input, Instant, LayerId, OpId, Output};
use parapull_scenario::{TraceHead, TraceLine};

use crate::digest::Digest;

/// Writes a pull trace.
///
/// A trace that cannot be written any more is given up with a warning: it must not stop a pull.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

/// Why a trace cannot be begun.
#[derive(Debug, thiserror::Error)]
#[error("write the trace {}: {source}", path.display())]
pub struct RecorderError {
    path: PathBuf,
    source: std::io::Error,
}

impl Recorder {
    /// Begins a trace in a new file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, RecorderError> {
        let file = File::create(path).map_err(|source| RecorderError {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            file: Some(BufWriter::new(file)),
        })
    }

    pub(super) fn head(&mut self, config: Config, next_op: OpId) {
        self.line(&TraceLine::Head(TraceHead { config, next_op }));
    }

    pub(super) fn blob(&mut self, id: BlobId, digest: &Digest) {
        self.line(&TraceLine::Blob {
            id,
            digest: digest.to_string(),
        });
    }

    pub(super) fn layer(&mut self, id: LayerId, diff_id: &Digest) {
        self.line(&TraceLine::Layer {
            id,
            diff_id: diff_id.to_string(),
        });
    }

    pub(super) fn input(&mut self, at: Instant, input: &Input) {
        self.line(&TraceLine::Input {
            at,
            input: input.clone(),
        });
    }

    pub(super) fn output(&mut self, output: &Output) {
        self.line(&TraceLine::Output {
            output: output.clone(),
        });
    }

    pub(super) fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.give_up(&error);
        }
    }

    fn line(&mut self, line: &TraceLine) {
        let Some(file) = &mut self.file else { return };
        let written = serde_json::to_writer(&mut *file, line)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"));
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &std::io::Error) {
        tracing::warn!(path = %self.path.display(), %error, "the trace ends early");
        self.file = None;
    }
}
