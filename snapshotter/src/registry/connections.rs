//! HTTP/1.1 connections: one request on each at a time, several to one origin, idle ones kept for the next request.
//!
//! A connection returns to the idle ones only when its body was read to the end; otherwise it is closed. How many requests
//! run at once is not decided here. The one repetition in here is hygiene: a kept connection that the server closed in the
//! meantime is replaced by a fresh one, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Request;
use http::{HeaderMap, response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::dial::{Dial, Stream};
use super::error::{Cause, FetchError};
use super::origin::{Origin, Scheme};

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    pub(super) idle_per_origin_max: usize,
}

/// All connections of a client; clones share them.
#[derive(Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

/// An answer whose body was not read yet.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) body: RawBody,
}

/// A body that gives its connection back at its end, and closes it when dropped before.
pub(super) struct RawBody {
    incoming: Incoming,
    connection: Option<Connection>,
    connections: Connections,
}

struct Shared {
    dial: Arc<dyn Dial>,
    tls: TlsConnector,
    /// Hosts with certificates of their own.
    trusted: Mutex<HashMap<Origin, TlsConnector>>,
    limits: Limits,
    idle: Mutex<HashMap<Origin, Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    origin: Origin,
    task: AbortHandle,
}

impl Connections {
    pub(super) fn new(dial: Arc<dyn Dial>, tls: TlsConnector, limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                dial,
                tls,
                trusted: Mutex::new(HashMap::new()),
                limits,
                idle: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// Connects to one origin with a connector of its own from then on.
    pub(super) fn trust(&self, origin: Origin, tls: TlsConnector) {
        self.shared
            .trusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(origin, tls);
    }

    /// Whether an origin has a connector of its own.
    pub(super) fn is_trusted(&self, origin: &Origin) -> bool {
        self.shared
            .trusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(origin)
    }

    fn connector(&self, origin: &Origin) -> TlsConnector {
        let trusted = self
            .shared
            .trusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        trusted.get(origin).unwrap_or(&self.shared.tls).clone()
    }

    /// The longest wait for the first byte of an answer, and for each further piece of a small document.
    pub(super) fn first_byte(&self) -> Duration {
        self.shared.limits.first_byte
    }

    /// Sends a request without a fragile body and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        origin: &Origin,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, FetchError> {
        let failed = |cause| FetchError::new(origin.authority(), cause);
        if let Some(connection) = self.take_idle(origin) {
            match self.exchange(connection, request.clone()).await {
                Err(Cause::Connection(error)) if !error.is_parse() => {
                    tracing::trace!(%error, origin = %origin, "a kept connection was stale");
                }
                other => return other.map_err(failed),
            }
        }
        let connection = self.connect(origin).await.map_err(failed)?;
        self.exchange(connection, request).await.map_err(failed)
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Cause> {
        let limit = self.shared.limits.first_byte;
        let response = timeout(limit, connection.sender.send_request(request))
            .await
            .map_err(|_| Cause::FirstByteTimedOut(limit))?
            .map_err(connection_failed)?;
        let (head, incoming) = response.into_parts();
        check_headers(&head.headers)?;
        let body = RawBody {
            incoming,
            connection: Some(connection),
            connections: self.clone(),
        };
        Ok(Answer { head, body })
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, Cause> {
        let limit = self.shared.limits.connect;
        timeout(limit, self.dial(origin))
            .await
            .map_err(|_| Cause::ConnectTimedOut(limit))?
    }

    async fn dial(&self, origin: &Origin) -> Result<Connection, Cause> {
        let plain = self
            .shared
            .dial
            .connect(&origin.host, origin.port)
            .await
            .map_err(|error| Cause::Connect(Arc::new(error)))?;
        let stream: Box<dyn Stream> = match origin.scheme {
            Scheme::Http => plain,
            Scheme::Https => {
                let name = ServerName::try_from(origin.host.clone())
                    .map_err(|_| Cause::Request("the host name cannot stand in a certificate"))?;
                let tls = self
                    .connector(origin)
                    .connect(name, plain)
                    .await
                    .map_err(|error| Cause::Tls(Arc::new(error)))?;
                Box::new(tls)
            }
        };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(READ_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(connection_failed)?;
        // Its failure also reaches whoever waits for the answer or the body.
        let task = tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            origin: origin.clone(),
            task: task.abort_handle(),
        })
    }

    fn take_idle(&self, origin: &Origin) -> Option<Connection> {
        let oldest = Instant::now().checked_sub(self.shared.limits.idle);
        let mut idle = self
            .shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(origin)?;
        // The youngest first: it is the least likely to have been closed.
        while let Some(Idle { connection, since }) = kept.pop() {
            if oldest.is_none_or(|oldest| since >= oldest) && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let Limits {
            idle: idle_time,
            idle_per_origin_max,
            ..
        } = self.shared.limits;
        let now = Instant::now();
        let mut idle = self
            .shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|one| {
                now.duration_since(one.since) < idle_time && !one.connection.sender.is_closed()
            });
            !kept.is_empty()
        });
        let kept = idle.entry(connection.origin.clone()).or_default();
        if kept.len() < idle_per_origin_max {
            kept.push(Idle {
                connection,
                since: now,
            });
        }
    }
}

impl RawBody {
    /// The length according to the headers, if they say one.
    pub(super) fn length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next piece, or nothing at the end. Nothing is read from the socket unless this is awaited.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Arc<hyper::Error>> {
        while let Some(frame) = self.incoming.frame().await {
            let frame = frame.map_err(|error| {
                self.connection = None;
                Arc::new(error)
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        if let Some(mut connection) = self.connection.take()
            && let Ok(Ok(())) = timeout(READY_TIME_MAX, connection.sender.ready()).await
        {
            self.connections.keep(connection);
        }
        Ok(None)
    }

    /// Reads a small document whole.
    pub(super) async fn collect(
        &mut self,
        what: &'static str,
        bytes_max: u64,
    ) -> Result<Bytes, Cause> {
        let too_large = Cause::DocumentTooLarge { what, bytes_max };
        if self.length().is_some_and(|length| length > bytes_max) {
            return Err(too_large);
        }
        let stall = self.connections.first_byte();
        let mut document = Vec::new();
        while let Some(piece) = timeout(stall, self.next())
            .await
            .map_err(|_| Cause::DocumentStalled(stall))?
            .map_err(Cause::Connection)?
        {
            if (document.len() + piece.len()) as u64 > bytes_max {
                return Err(too_large);
            }
            document.extend_from_slice(&piece);
        }
        Ok(Bytes::from(document))
    }

    /// Reads a body nobody wants so that its connection can be used again, unless it is long or slow.
    pub(super) async fn discard(mut self) {
        let reading = self.collect("unwanted body", DISCARDED_BYTES_MAX);
        let _ = timeout(DISCARD_TIME_MAX, reading).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn connection_failed(error: hyper::Error) -> Cause {
    Cause::Connection(Arc::new(error))
}

fn check_headers(headers: &HeaderMap) -> Result<(), Cause> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(Cause::HeadersTooLarge {
            bytes_max: HEADER_BYTES_MAX,
        });
    }
    Ok(())
}

/// Measured: 16 KiB costs a third more CPU per gigabyte, 64 KiB to 512 KiB are alike. The buffer
/// grows by doubling until it has passed this limit, so a connection may hold twice as much.
const READ_BUFFER_BYTES: usize = 256 << 10;
const HEADER_BYTES_MAX: usize = 64 << 10;
const DISCARDED_BYTES_MAX: u64 = 64 << 10;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
/// A connection whose body has ended is ready at once or never.
const READY_TIME_MAX: Duration = Duration::from_secs(1);
