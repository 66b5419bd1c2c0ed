//! The bytes of a blob, pulled by the reader and counted against what was promised.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::connections::RawBody;
use super::error::{Cause, FetchError};

/// The body of an answer, of a length known beforehand.
///
/// It is pull based: a reader that does not ask for more stops the socket, and at most two read buffers (512 KiB) are held
/// meanwhile; no piece is larger than that. Dropping it before its end closes the connection; reading it until `None` keeps
/// the connection for the next request. How long a read may take is the reader's business.
pub struct Body {
    raw: RawBody,
    host: String,
    expected: u64,
    received: u64,
    failed: Option<FetchError>,
}

impl Body {
    pub(super) fn new(raw: RawBody, host: String, expected: u64) -> Self {
        Self {
            raw,
            host,
            expected,
            received: 0,
            failed: None,
        }
    }

    /// The next piece, `None` once exactly the promised bytes have come.
    ///
    /// This may be cancelled and called again without losing bytes.
    ///
    /// # Errors
    /// The connection broke or the body ended early (class `Retry`), or it is longer than promised (class `Corrupt`). An
    /// error stays: every later call returns it again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.step().await {
            Ok(piece) => Ok(piece),
            Err(cause) => {
                let error = FetchError::new(self.host.clone(), cause);
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Bytes handed out so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes there are in total.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// The `host[:port]` that serves the bytes; after a redirect, not the registry.
    pub fn host(&self) -> &str {
        &self.host
    }

    async fn step(&mut self) -> Result<Option<Bytes>, Cause> {
        loop {
            let short = |connection| Cause::BodyTooShort {
                received: self.received,
                expected: self.expected,
                connection,
            };
            let next = if self.received == self.expected {
                // A server that holds back the end of a body whose bytes are all here holds back nothing we need.
                match timeout(END_WAIT_MAX, self.raw.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(None),
                }
            } else {
                self.raw.next().await
            };
            let piece = match next {
                Ok(Some(piece)) => piece,
                // All bytes are here; how the connection ends (without a last chunk or a TLS farewell) is no matter.
                Ok(None) | Err(_) if self.received == self.expected => return Ok(None),
                Ok(None) => return Err(short(None)),
                Err(error) => return Err(short(Some(error))),
            };
            if piece.is_empty() {
                continue;
            }
            let left = self.expected - self.received;
            if piece.len() as u64 > left {
                return Err(Cause::BodyTooLong {
                    expected: self.expected,
                });
            }
            self.received += piece.len() as u64;
            return Ok(Some(piece));
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("host", &self.host)
            .field("expected", &self.expected)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// How long the end of a complete body is waited for: the connection can be used again only after it.
const END_WAIT_MAX: Duration = Duration::from_secs(1);
