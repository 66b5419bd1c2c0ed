//! One fetch: bytes of a blob from a socket into the window or the spool, as far as credit goes.

use std::time::{Duration, Instant};

use parapull_engine::{ByteRange, FetchError, FetchMode, Input, OpId, SourceId};
use tokio::sync::{oneshot, watch};

use super::blobs::Bytes;
use super::facts::{Fact, Facts};
use super::failure::{Cause, fetch_error};
use super::local::{BlobBody, ReadError, content_error};
use super::names::BlobOrigin;
use crate::registry::{Opened, Read};

/// What a fetch is to do.
#[derive(Debug)]
pub(super) struct FetchOrder {
    pub(super) op: OpId,
    pub(super) origin: BlobOrigin,
    pub(super) source: SourceId,
    pub(super) range: ByteRange,
    pub(super) mode: FetchMode,
    pub(super) credit: u64,
    pub(super) bytes: Bytes,
    /// Progress is reported every so many bytes: half a chunk.
    pub(super) report_bytes: u64,
}

/// Runs a fetch to its one end, which it reports.
///
/// `granted` counts all credit ever given, what the order came with included.
pub(super) async fn run(
    order: FetchOrder,
    granted: watch::Receiver<u64>,
    cancel: oneshot::Receiver<()>,
    facts: Facts,
) {
    let op = order.op;
    let mut transfer = Transfer {
        kept: 0,
        discarded: 0,
        reported: 0,
        reported_at: Instant::now(),
        void: 0,
        order,
        granted,
        facts: facts.clone(),
    };
    let end = tokio::select! {
        biased;
        _ = cancel => None,
        end = transfer.run() => Some(end),
    };
    let received = transfer.kept;
    transfer.order.bytes.flush();
    let fact = match end {
        None => Fact::from(Input::OpCancelled { op, received }),
        Some(Ok(())) => Fact::from(Input::RangeFetched { op }),
        Some(Err(failure)) => Fact {
            input: Input::RangeFailed {
                op,
                error: failure.error,
                received,
                retry_after_ms: failure.retry_after_ms,
            },
            cause: Some(failure.cause),
            staged: None,
        },
    };
    facts.tell(fact).await;
}

struct Transfer {
    order: FetchOrder,
    granted: watch::Receiver<u64>,
    /// Credit that a refusal gave back.
    void: u64,
    kept: u64,
    /// Bytes read away because they were here already.
    discarded: u64,
    reported: u64,
    reported_at: Instant,
    facts: Facts,
}

struct Failure {
    error: FetchError,
    retry_after_ms: Option<u64>,
    cause: Cause,
}

impl Transfer {
    async fn run(&mut self) -> Result<(), Failure> {
        if self.order.source == SourceId::LOCAL {
            return self.run_local().await;
        }
        let range = self.order.range;
        let read = match self.order.mode {
            FetchMode::Ranged => Read::Ranged(range.start..range.end),
            FetchMode::Whole => Read::Whole,
        };
        let origin = &self.order.origin;
        let whole = self.order.mode == FetchMode::Whole;
        let opened = origin
            .registry
            .open(
                &origin.reference,
                self.order.source.0.into(),
                &origin.descriptor,
                read,
            )
            .await
            .map_err(|error| Failure::of_open(&error, whole))?;
        match (opened, self.order.mode) {
            (Opened::Ranged(body), _) => self.keep_all(BlobBody::Registry(body)).await,
            (Opened::Whole(body), FetchMode::Whole) => {
                let body = BlobBody::Registry(body);
                self.keep_from(body, 0, range.start).await
            }
            (Opened::Whole(body), FetchMode::Ranged) => {
                self.refuse().await?;
                let start = self.order.bytes.frontier();
                self.keep_from(BlobBody::Registry(body), 0, start).await
            }
        }
    }

    /// Reads what lies on this node; of a whole read only what is missing.
    async fn run_local(&mut self) -> Result<(), Failure> {
        let (origin, range) = (&self.order.origin, self.order.range);
        let Some(local) = &origin.local else {
            return Err(Failure {
                error: FetchError::NotFound,
                retry_after_ms: None,
                cause: Cause::of_disk("nothing of it is on this node".to_owned()),
            });
        };
        let end = match self.order.mode {
            FetchMode::Ranged => range.end,
            FetchMode::Whole => origin.descriptor.size,
        };
        let digest = &origin.descriptor.digest;
        let body = local.open(digest, range.start..end).await?;
        match self.order.mode {
            FetchMode::Ranged => self.keep_all(body).await,
            FetchMode::Whole => self.keep_from(body, range.start, range.start).await,
        }
    }

    /// Tells that the server sends the blob whole, gives the credit back, and waits for new credit.
    async fn refuse(&mut self) -> Result<(), Failure> {
        self.void = self.order.credit;
        let input = Input::RangesRefused { op: self.order.op };
        self.facts.tell(input.into()).await;
        self.await_credit().await
    }

    /// Keeps every byte of a ranged answer; all of them were credited beforehand.
    async fn keep_all(&mut self, mut body: BlobBody) -> Result<(), Failure> {
        while let Some(piece) = body.next().await? {
            self.keep(self.order.range.start + self.kept, &piece)?;
            self.report().await;
        }
        Ok(())
    }

    /// Reads a body that begins at `position`, keeping what lies behind `start` as far as credit goes.
    async fn keep_from(
        &mut self,
        mut body: BlobBody,
        mut position: u64,
        start: u64,
    ) -> Result<(), Failure> {
        while let Some(piece) = body.next().await? {
            let skipped = start.saturating_sub(position).min(piece.len() as u64);
            self.discarded += skipped;
            position += skipped;
            let mut piece = &piece[usize::try_from(skipped).unwrap_or(piece.len())..];
            if piece.is_empty() {
                self.report().await;
            }
            while !piece.is_empty() {
                let credit = self.credit();
                if credit == 0 {
                    self.order.bytes.flush();
                    self.tell_progress().await;
                    self.await_credit().await?;
                    continue;
                }
                let count = piece
                    .len()
                    .min(usize::try_from(credit).unwrap_or(usize::MAX));
                self.keep(position, &piece[..count])?;
                position += count as u64;
                piece = &piece[count..];
                self.report().await;
            }
        }
        Ok(())
    }

    fn credit(&self) -> u64 {
        (*self.granted.borrow() - self.void).saturating_sub(self.kept)
    }

    async fn await_credit(&mut self) -> Result<(), Failure> {
        while self.credit() == 0 {
            if self.granted.changed().await.is_err() {
                // The driver has gone; so will this fetch.
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    fn keep(&mut self, offset: u64, piece: &[u8]) -> Result<(), Failure> {
        self.order
            .bytes
            .write(offset, piece)
            .map_err(|error| Failure {
                error: FetchError::Protocol,
                retry_after_ms: None,
                cause: Cause::of_disk(error.to_string()),
            })?;
        self.kept += piece.len() as u64;
        Ok(())
    }

    async fn report(&mut self) {
        if self.kept - self.reported >= self.order.report_bytes
            || self.reported_at.elapsed() >= REPORT_INTERVAL
        {
            self.order.bytes.flush();
            self.tell_progress().await;
        }
    }

    async fn tell_progress(&mut self) {
        self.reported = self.kept;
        self.reported_at = Instant::now();
        let input = Input::RangeProgressed {
            op: self.order.op,
            bytes: self.kept,
            discarded: self.discarded,
        };
        self.facts.tell(input.into()).await;
    }
}

impl Failure {
    /// A request that was not answered usably. An answer that calls for a read without ranges means nothing to a whole
    /// read: there is no other way to ask.
    fn of_open(error: &crate::registry::FetchError, whole: bool) -> Self {
        let retry_after_ms = error
            .retry_after()
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let error_class = match fetch_error(error) {
            FetchError::RangeUnusable if whole => FetchError::Protocol,
            other => other,
        };
        Self {
            error: error_class,
            retry_after_ms,
            cause: Cause::of_fetch(error),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Registry(error) => Self::of_open(&error, false),
            ReadError::Local(error) => {
                let (error, cause) = content_error(&error);
                Self {
                    error,
                    retry_after_ms: None,
                    cause,
                }
            }
        }
    }
}

/// Progress is reported at least this often while bytes arrive; the simulator uses the same rule.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(20);
