//! What a lane reads its blob through.

use std::io::{self, Read};
use std::sync::Arc;

use super::{BlobWindow, Segment, Take};
use crate::unpack::Cancelled;

/// Reads a blob in order, waiting for what is missing.
///
/// It reports what it has let go of, and always before it waits, so that whoever grants credit knows it is starving.
pub struct WindowReader {
    window: Arc<BlobWindow>,
    current: Option<Segment>,
    /// Offset of the byte behind `current`.
    next: u64,
    report: Box<dyn FnMut(Report) + Send>,
}

/// How far a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes it does not hold any more, cumulative.
    pub released: u64,
    /// Whether it is about to wait for bytes.
    pub waiting: bool,
}

impl WindowReader {
    /// Reads `window` from its first byte; `report` is called for every segment let go of and before every wait.
    pub fn new(window: Arc<BlobWindow>, report: Box<dyn FnMut(Report) + Send>) -> Self {
        Self {
            window,
            current: None,
            next: 0,
            report,
        }
    }

    fn advance(&mut self) -> io::Result<bool> {
        self.current = None;
        let take = match self.window.take(self.next) {
            Take::Missing => {
                self.tell(true);
                self.window.wait(self.next)
            }
            other => {
                self.tell(false);
                other
            }
        };
        match take {
            Take::Segment(segment) => {
                self.next += segment.len() as u64;
                self.current = Some(segment);
                Ok(true)
            }
            Take::End | Take::Missing => Ok(false),
            Take::Cancelled => Err(Cancelled.into()),
        }
    }

    fn tell(&mut self, waiting: bool) {
        let released = self.next;
        (self.report)(Report { released, waiting });
    }
}

impl Read for WindowReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(segment) = self.current.as_mut().filter(|segment| !segment.is_empty()) {
                return Ok(segment.drain(out));
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}
