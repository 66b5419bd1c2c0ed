//! Accepts connections, numbers them, limits their count, and can reset one. It knows nothing of requests.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::throttle::TokenBucket;

/// What answers know of the connection they go out on.
#[derive(Debug, Default)]
pub(crate) struct ConnectionHandle {
    /// Counted from 1; 0 when there is no connection.
    pub(crate) id: u64,
    /// The connection's own rate.
    pub(crate) bucket: Option<Arc<TokenBucket>>,
    /// Set to reset the connection when it closes.
    pub(crate) reset: AtomicBool,
    /// Whether the last write could not go out.
    pub(crate) blocked: AtomicBool,
}

/// What connections of one registry share.
#[derive(Debug)]
pub(crate) struct ConnectionFactory {
    pub(crate) bytes_per_second: Option<std::num::NonZeroU64>,
    /// Permits of connections, over both origins.
    pub(crate) permits: Option<Arc<Semaphore>>,
    pub(crate) last_id: AtomicU64,
}

impl ConnectionFactory {
    fn open(&self) -> Arc<ConnectionHandle> {
        Arc::new(ConnectionHandle {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            bucket: self
                .bytes_per_second
                .map(|rate| Arc::new(TokenBucket::new(rate))),
            ..ConnectionHandle::default()
        })
    }
}

/// Accepts and serves until `stop` says so; then every connection is dropped.
///
/// `reset` makes closing a connection a reset, where the transport has such a thing.
pub(crate) async fn accept_until<L>(
    mut listener: L,
    router: Router,
    factory: Arc<ConnectionFactory>,
    reset: fn(&mut L::Io),
    mut stop: watch::Receiver<bool>,
) where
    L: Listener,
{
    let mut connections = JoinSet::new();
    loop {
        let permit = match &factory.permits {
            Some(permits) => tokio::select! {
                permit = Arc::clone(permits).acquire_owned() => permit.ok(),
                _ = stop.wait_for(|stop| *stop) => break,
            },
            None => None,
        };
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let handle = factory.open();
        let watched = WatchedIo {
            io,
            handle: Arc::clone(&handle),
            reset,
        };
        let connection = serve_connection(watched, router.clone(), handle);
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
        // Finished ones need not wait for the end to be forgotten.
        while connections.try_join_next().is_some() {}
    }
    connections.shutdown().await;
}

fn serve_connection<T>(
    io: WatchedIo<T>,
    router: Router,
    handle: Arc<ConnectionHandle>,
) -> impl Future<Output = ()> + Send
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&handle));
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    async move {
        // Faults and clients that leave end connections in error all the time.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// A transport that notes whether writes get through and resets on drop if told so.
struct WatchedIo<T> {
    io: T,
    handle: Arc<ConnectionHandle>,
    reset: fn(&mut T),
}

impl<T> WatchedIo<T> {
    fn note<R>(&self, polled: Poll<R>) -> Poll<R> {
        self.handle
            .blocked
            .store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl<T> Drop for WatchedIo<T> {
    fn drop(&mut self) {
        if self.handle.reset.load(Ordering::Relaxed) {
            (self.reset)(&mut self.io);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, buffer);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
