//! The socket itself: its protection, taking over a stale one or systemd's, and what is not served on it.

#[path = "conformance/served.rs"]
mod served;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::PrepareSnapshotRequest;
use parapull_snapshotter::grpc::proto::runtime::v1::ListImagesRequest;
use parapull_snapshotter::grpc::proto::runtime::v1::image_service_client::ImageServiceClient;
use parapull_snapshotter::grpc::{
    BoundSocket, NoRemote, Routes, ServeError, SnapshotsService, serve,
};
use parapull_snapshotter::store::{Options, Store};
use served::{Served, channel, connect, temporary_directory};
use tonic::Code;

#[tokio::test]
async fn a_socket_is_protected_taken_over_when_stale_and_never_stolen() {
    let root = temporary_directory();
    let path = root.path().join("run/parapull/snapshotter.sock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket as a killed daemon leaves it");
    let bound = BoundSocket::bind(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(matches!(
        BoundSocket::bind(&path),
        Err(ServeError::InUse(_))
    ));
    drop(bound);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let root = temporary_directory();
    let path = root.path().join("precious");
    fs::write(&path, b"content").unwrap();
    assert!(matches!(
        BoundSocket::bind(&path),
        Err(ServeError::Socket { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

/// Run by the next test in a process to which a socket was passed; elsewhere it sees that none was.
#[tokio::test]
async fn serves_a_socket_passed_as_systemd_passes_it() {
    let passed = BoundSocket::from_systemd().unwrap();
    let Some(socket) = passed else {
        assert!(std::env::var_os("LISTEN_FDS").is_none());
        return;
    };
    // Not a temporary directory of its own: it ends by being killed.
    let store = Store::open(std::env::var_os(STORE).unwrap(), &Options::default()).unwrap();
    let routes =
        Routes::default().with(SnapshotsService::new(store, Arc::new(NoRemote)).into_server());
    serve(socket, routes, std::future::pending()).await.unwrap();
}

#[tokio::test]
async fn a_socket_of_systemd_is_taken_over() {
    let root = temporary_directory();
    let path = root.path().join("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" --exact serves_a_socket_passed_as_systemd_passes_it";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(STORE, root.path().join("store"))
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = connect(&path).await;
    let request = PrepareSnapshotRequest {
        key: "a".to_owned(),
        ..PrepareSnapshotRequest::default()
    };
    let prepared = client.prepare(request).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(prepared.unwrap().into_inner().mounts[0].r#type, "bind");
    assert!(path.exists(), "systemd's socket is not removed");
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let mut client = ImageServiceClient::new(channel(served.socket()).await);
    let status = client
        .list_images(ListImagesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    drop(client);
    served.stop().await;
}

/// The variable that tells the process with the passed socket where its store is.
const STORE: &str = "PARAPULL_TEST_STORE";
