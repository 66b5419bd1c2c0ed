//! A registry whose answers wait for the test: each gate holds the body of one object back until it is opened.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bytes::Bytes;
use fake_registry::{FakeRegistry, Journal};
use parapull_scenario::Faults;
use parapull_scenario::registry::Fault;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::images::TestImage;

/// A running registry; dropping it stops it.
pub(crate) struct Registry {
    pub(crate) journal: Journal,
    authority: String,
    server: JoinHandle<()>,
}

impl Registry {
    pub(crate) async fn start(
        images: &[(&str, &TestImage)],
        faults: Vec<Fault>,
        gates: &[Gate],
    ) -> Self {
        let builder = images
            .iter()
            .fold(FakeRegistry::builder(), |builder, (name, image)| {
                builder.image(name, image.layout.clone())
            });
        let registry = builder.faults(Faults { faults }).build().unwrap();
        let journal = registry.journal();
        let gates: Arc<[Gate]> = gates.into();
        let held = from_fn(move |request, next| hold(Arc::clone(&gates), request, next));
        let router = registry.router().layer(held);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            journal,
            authority,
            server,
        }
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.authority)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Holds back what follows the first bytes of each answer for one blob or manifest.
#[derive(Clone)]
pub(crate) struct Gate {
    digest: String,
    after_bytes: usize,
    state: Arc<watch::Sender<State>>,
}

#[derive(Default)]
struct State {
    is_open: bool,
    is_reached: bool,
}

impl Gate {
    pub(crate) fn before(digest: &str, after_bytes: usize) -> Self {
        Self {
            digest: digest.to_owned(),
            after_bytes,
            state: Arc::default(),
        }
    }

    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// Waits until an answer is held.
    pub(crate) async fn reached(&self) {
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.is_reached).await.unwrap();
    }

    async fn pass(&self) {
        self.state.send_modify(|state| state.is_reached = true);
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.is_open).await.unwrap();
    }
}

async fn hold(gates: Arc<[Gate]>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let gate = gates.iter().find(|gate| path.ends_with(&gate.digest));
    let gate = gate.cloned();
    let response = next.run(request).await;
    let Some(gate) = gate else { return response };
    let (parts, body) = response.into_parts();
    let (pieces, held) = mpsc::channel::<Result<Bytes, axum::Error>>(1);
    tokio::spawn(async move {
        let mut body = body.into_data_stream();
        let mut free = gate.after_bytes;
        while let Some(piece) = body.next().await {
            let Ok(mut piece) = piece else { return };
            let first = piece.split_to(free.min(piece.len()));
            free -= first.len();
            if !first.is_empty() && pieces.send(Ok(first)).await.is_err() {
                return;
            }
            if !piece.is_empty() {
                tokio::select! {
                    () = gate.pass() => {}
                    () = pieces.closed() => return,
                }
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(ReceiverStream::new(held)))
}
