//! What several integration tests need: a served store, temporary directories on memory, and loud skipping.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "every test binary compiles this and uses a part of it; a failed helper is a failed test"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::{BoundSocket, NoRemote, Remote, Routes, SnapshotsService, serve};
use parapull_snapshotter::store::{Options, Store};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Uri};

/// A snapshots service on a socket in `<root>/snapshotter.sock` over a store in `<root>/store`.
pub(crate) struct Served {
    pub(crate) store: Store,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Served {
    /// Serves without any remote layers.
    pub(crate) async fn start(root: &Path) -> Self {
        Self::start_with(root, NoRemote).await
    }

    /// Serves with `remote` behind the calls that carry the labels of a pull.
    pub(crate) async fn start_with(root: &Path, remote: impl Remote) -> Self {
        let store = Store::open(root.join("store"), &Options::default()).unwrap();
        Self::start_over(root, store, remote).await
    }

    /// Serves an open store.
    pub(crate) async fn start_over(root: &Path, store: Store, remote: impl Remote) -> Self {
        let socket = root.join("snapshotter.sock");
        let bound = BoundSocket::bind(&socket).unwrap();
        let routes = Routes::default()
            .with(SnapshotsService::new(store.clone(), Arc::new(remote)).into_server());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            serve(bound, routes, shutdown).await.unwrap();
        });
        Self {
            store,
            socket,
            stop,
            server,
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Stops serving and waits for the end.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.server.await.unwrap();
    }
}

/// A temporary directory, on memory where there is a tmpfs for it.
pub(crate) fn temporary_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        TempDir::with_prefix_in("parapull-", memory)
    } else {
        TempDir::with_prefix("parapull-")
    };
    directory.unwrap()
}

/// Says loudly that a test did not run; fails instead where everything is required.
pub(crate) fn skip(test: &str, why: &str) {
    assert_ne!(
        std::env::var("PARAPULL_REQUIRE_ALL").as_deref(),
        Ok("1"),
        "{test} cannot run: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
}

/// A connection to the server at `socket`.
pub(crate) async fn channel(socket: &Path) -> Channel {
    let socket = socket.to_path_buf();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// A client of the snapshots service at `socket`.
pub(crate) async fn connect(socket: &Path) -> SnapshotsClient<Channel> {
    SnapshotsClient::new(channel(socket).await)
}
