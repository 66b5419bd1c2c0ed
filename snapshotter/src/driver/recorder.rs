//! The pull trace: every engine input and output with its time, one JSON document a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use parapull_engine::{BlobId, Config, Input, Instant, LayerId, OpId, Output};
use parapull_scenario::{TraceHead, TraceLine};

use crate::digest::Digest;

/// Writes a pull trace, on a thread of its own; dropping it waits until all is written.
///
/// A trace that cannot be written any more, or not fast enough, is given up with a warning: it must not stop a pull.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    lines: Option<SyncSender<TraceLine>>,
    writer: Option<JoinHandle<()>>,
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
        let failed = |source| RecorderError {
            path: path.to_path_buf(),
            source,
        };
        let file = File::create(path).map_err(failed)?;
        let (lines, written) = sync_channel(LINES_QUEUED_MAX);
        let name = path.to_path_buf();
        let writer = thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || write(&name, BufWriter::new(file), &written))
            .map_err(failed)?;
        Ok(Self {
            path: path.to_path_buf(),
            lines: Some(lines),
            writer: Some(writer),
        })
    }

    pub(super) fn head(&mut self, config: Config, next_op: OpId) {
        self.line(TraceLine::Head(TraceHead { config, next_op }));
    }

    pub(super) fn blob(&mut self, id: BlobId, digest: &Digest) {
        self.line(TraceLine::Blob {
            id,
            digest: digest.to_string(),
        });
    }

    pub(super) fn layer(&mut self, id: LayerId, diff_id: &Digest) {
        self.line(TraceLine::Layer {
            id,
            diff_id: diff_id.to_string(),
        });
    }

    pub(super) fn input(&mut self, at: Instant, input: &Input) {
        self.line(TraceLine::Input {
            at,
            input: input.clone(),
        });
    }

    pub(super) fn output(&mut self, output: &Output) {
        self.line(TraceLine::Output {
            output: output.clone(),
        });
    }

    fn line(&mut self, line: TraceLine) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(line) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(path = %self.path.display(), "the trace ends early: the disk does not keep up");
            }
            // The thread has said why.
            Err(TrySendError::Disconnected(_)) => {}
        }
        self.lines = None;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Writes lines until there will be no more; whenever none waits, all are in the file.
fn write(path: &Path, mut file: BufWriter<File>, lines: &Receiver<TraceLine>) {
    let mut write_waiting = |first: TraceLine| -> std::io::Result<()> {
        let mut next = Some(first);
        while let Some(line) = next {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
            next = lines.try_recv().ok();
        }
        file.flush()
    };
    while let Ok(line) = lines.recv() {
        if let Err(error) = write_waiting(line) {
            tracing::warn!(path = %path.display(), %error, "the trace ends early");
            return;
        }
    }
}

/// Lines waiting for the disk at most; each is about 300 bytes, and a fast pull makes a few thousand a second.
const LINES_QUEUED_MAX: usize = 65_536;
