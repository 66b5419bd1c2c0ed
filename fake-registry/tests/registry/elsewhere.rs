//! The registry without sockets: on a simulated transport, and as a bare application.

use std::io;

use axum::body::Body;
use axum::serve::Listener;
use fake_registry::FakeRegistry;
use http_body_util::BodyExt;
use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{FaultKind, FaultTimes};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::support::{Client, NAME, bottom_layer, image, layer_fault, layer_path};

/// Pipes in memory instead of connections.
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(pipe) => (pipe, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn any_transport_will_do_and_its_connections_are_counted_and_cut() {
    let profile = RegistryProfile {
        connection_bytes_per_second: std::num::NonZeroU64::new(1_000_000),
        ..RegistryProfile::default()
    };
    let registry = FakeRegistry::builder()
        .image(NAME, image().layout.clone())
        .profile(profile)
        .faults(layer_fault(
            FaultKind::ResetAfter { bytes: 10_000 },
            FaultTimes::Nth(2),
        ))
        .build()
        .unwrap();
    let journal = registry.journal();
    let (pipes, accepted) = mpsc::channel(1);
    let server = tokio::spawn(registry.serve_on(Pipes(accepted)));
    let mut lengths = Vec::new();
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 << 10);
        pipes.send(far).await.unwrap();
        let started = tokio::time::Instant::now();
        let reply = Client::over(near, "registry.example")
            .await
            .get(&layer_path())
            .await;
        lengths.push((reply.body.len(), reply.error.is_some()));
        let bound = u128::try_from(reply.body.len()).unwrap() / 1_000;
        assert!(started.elapsed().as_millis().abs_diff(bound) <= 20);
    }
    assert_eq!(lengths, [(bottom_layer().1.len(), false), (10_000, true)]);
    assert_eq!(journal.connections_seen(), 2);
    server.abort();
}

#[tokio::test]
async fn a_bare_router_answers() {
    let registry = FakeRegistry::builder()
        .image(NAME, image().layout.clone())
        .build()
        .unwrap();
    let request = http::Request::get(layer_path())
        .header("range", "bytes=-7")
        .body(Body::empty())
        .unwrap();
    let response = registry.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 206);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let (digest, blob) = bottom_layer();
    assert_eq!(body, blob[blob.len() - 7..]);
    assert_eq!(registry.journal().blob_requests(digest)[0].connection, 0);
}
