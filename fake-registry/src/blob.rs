//! Sends a body piece by piece: from a file or from memory, paced, and cut, spoiled or held up as a fault says.
//!
//! Never more than one piece per answer is in memory. What to send and why is decided in `app`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::Frame;

use crate::connection::ConnectionHandle;
use crate::journal::JournalPen;
use crate::throttle::TokenBucket;

/// The most of one body that is in memory.
const PIECE_BYTES_MAX: u64 = 256 << 10;

/// A throttled body comes in pieces of a hundredth of a second, so that its pace is even.
const PIECES_PER_SECOND: u64 = 100;

/// How long a body that is about to be cut lets the connection write what it has.
const FLUSH_WAIT: Duration = Duration::from_millis(5);

/// Where a body's bytes are.
#[derive(Debug)]
pub(crate) enum Source {
    File(File),
    Memory(Bytes),
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Whole,
    /// After so many bytes the connection closes, by RST if asked.
    Cut {
        after_bytes: u64,
        reset: bool,
    },
    /// After so many bytes nothing comes for so long, or ever.
    Stall {
        after_bytes: u64,
        pause: Option<Duration>,
    },
}

/// A body to be sent.
#[derive(Debug)]
pub(crate) struct BodyPlan {
    pub(crate) source: Source,
    /// The bytes of the source to send.
    pub(crate) range: Range<u64>,
    /// Every rate that applies.
    pub(crate) buckets: Vec<Arc<TokenBucket>>,
    /// Offset in the source of the byte that arrives inverted.
    pub(crate) spoiled_offset: Option<u64>,
    pub(crate) ending: Ending,
    pub(crate) connection: Arc<ConnectionHandle>,
    pub(crate) pen: JournalPen,
}

/// The end of a body that was cut on purpose.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("cut by a fault")]
    Cut,
    #[error("read the blob")]
    Read(#[from] io::Error),
}

type Step = Option<(Result<Bytes, BodyError>, BodyReader)>;

/// A body in the sense of HTTP; its length is always told by a header of the answer.
pub(crate) struct PacedBody {
    step: Option<Pin<Box<dyn Future<Output = Step> + Send>>>,
}

impl PacedBody {
    pub(crate) fn new(plan: BodyPlan) -> Self {
        for bucket in &plan.buckets {
            bucket.begin();
        }
        let reader = BodyReader {
            position: plan.range.start,
            stalled: false,
            plan,
        };
        Self {
            step: Some(Box::pin(reader.next())),
        }
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(step) = self.step.as_mut() else {
            return Poll::Ready(None);
        };
        match ready!(step.as_mut().poll(context)) {
            Some((piece, reader)) => {
                self.step = piece
                    .is_ok()
                    .then(|| Box::pin(reader.next()) as Pin<Box<dyn Future<Output = Step> + Send>>);
                Poll::Ready(Some(piece.map(Frame::data)))
            }
            None => {
                self.step = None;
                Poll::Ready(None)
            }
        }
    }
}

struct BodyReader {
    plan: BodyPlan,
    position: u64,
    stalled: bool,
}

impl BodyReader {
    /// The next piece at its time, or none at the end.
    async fn next(mut self) -> Step {
        let mut end = self.plan.range.end;
        match self.plan.ending {
            Ending::Whole => {}
            Ending::Cut { after_bytes, reset } => {
                let cut = self.plan.range.start.saturating_add(after_bytes);
                if self.position == cut {
                    self.cut(reset).await;
                    return Some((Err(BodyError::Cut), self));
                }
                end = end.min(cut);
            }
            Ending::Stall { after_bytes, pause } => {
                let stop = self.plan.range.start.saturating_add(after_bytes);
                if !self.stalled && stop < end {
                    if self.position == stop {
                        self.stalled = true;
                        match pause {
                            Some(pause) => tokio::time::sleep(pause).await,
                            None => std::future::pending().await,
                        }
                    } else {
                        end = stop;
                    }
                }
            }
        }
        if self.position == self.plan.range.end {
            // Only an empty body comes here without having been told complete.
            self.plan.pen.complete();
            return None;
        }
        let piece = self.read_piece(end).await;
        Some((piece.map_err(BodyError::from), self))
    }

    async fn read_piece(&mut self, end: u64) -> io::Result<Bytes> {
        let bytes = self.piece_bytes().min(end - self.position);
        let due = self
            .plan
            .buckets
            .iter()
            .map(|bucket| bucket.reserve(bytes))
            .max();
        let piece = self.read(self.position..self.position + bytes)?;
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
        self.position += bytes;
        self.plan.pen.add_body_bytes(bytes);
        if self.position == self.plan.range.end {
            // Told before the piece is sent, so that nobody has all bytes of an incomplete entry. The body is not asked
            // again once its length has gone out.
            self.plan.pen.complete();
        }
        Ok(piece)
    }

    fn piece_bytes(&self) -> u64 {
        let rates = self
            .plan
            .buckets
            .iter()
            .map(|bucket| bucket.bytes_per_second());
        let slowest = rates.min().unwrap_or(u64::MAX);
        (slowest / PIECES_PER_SECOND).clamp(1, PIECE_BYTES_MAX)
    }

    /// Reads in place: pieces are small and mostly in the page cache, and a detour over a blocking thread would cost more
    /// and be out of virtual time's control.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let as_index = |offset: u64| usize::try_from(offset).map_err(io::Error::other);
        let mut piece = match &self.plan.source {
            Source::Memory(bytes) => bytes.slice(as_index(range.start)?..as_index(range.end)?),
            Source::File(file) => {
                let mut buffer = vec![0; as_index(range.end - range.start)?];
                file.read_exact_at(&mut buffer, range.start)?;
                Bytes::from(buffer)
            }
        };
        if let Some(offset) = self
            .plan
            .spoiled_offset
            .filter(|offset| range.contains(offset))
        {
            let mut spoiled = piece.to_vec();
            if let Some(byte) = spoiled.get_mut(as_index(offset - range.start)?) {
                *byte = !*byte;
            }
            piece = Bytes::from(spoiled);
        }
        Ok(piece)
    }

    /// Lets the connection write what it holds, since an error drops it.
    async fn cut(&self, reset: bool) {
        let connection = &self.plan.connection;
        loop {
            tokio::time::sleep(FLUSH_WAIT).await;
            if !connection.blocked.load(Ordering::Relaxed) {
                break;
            }
        }
        connection.reset.store(reset, Ordering::Relaxed);
    }
}
