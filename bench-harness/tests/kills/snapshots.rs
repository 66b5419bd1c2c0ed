//! The snapshots service asked directly, past containerd.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    Info, Kind, ListSnapshotsRequest, MountsRequest, RemoveSnapshotRequest, StatSnapshotRequest,
    ViewSnapshotRequest,
};
use parapull_snapshotter::grpc::proto::containerd::types::Mount;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) struct Snapshots {
    runtime: Runtime,
    client: SnapshotsClient<Channel>,
}

impl Snapshots {
    pub(crate) fn connect(socket: &Path) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost").timeout(PATIENCE);
        let channel = runtime
            .block_on(endpoint.connect_with_connector(connector))
            .map_err(text)?;
        Ok(Self {
            runtime,
            client: SnapshotsClient::new(channel),
        })
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Info>, String> {
        self.runtime.block_on(async {
            let request = ListSnapshotsRequest::default();
            let mut stream = self.client.list(request).await.map_err(text)?.into_inner();
            let mut listed = Vec::new();
            while let Some(block) = stream.message().await.map_err(text)? {
                listed.extend(block.info);
            }
            Ok(listed)
        })
    }

    /// The directories that a snapshot and its parents have, by its mounts; a committed one is looked at through a view.
    /// Its description must be the one that was listed.
    pub(crate) fn ids_of(&mut self, info: &Info) -> Result<BTreeSet<String>, String> {
        self.runtime.block_on(async {
            let key = info.name.clone();
            let request = StatSnapshotRequest {
                key: key.clone(),
                ..StatSnapshotRequest::default()
            };
            let found = self
                .client
                .stat(request)
                .await
                .map_err(text)?
                .into_inner()
                .info;
            if found.as_ref() != Some(info) {
                return Err(format!("listed as {info:?}, described as {found:?}"));
            }
            if info.kind() != Kind::Committed {
                let request = MountsRequest {
                    key,
                    ..MountsRequest::default()
                };
                return Ok(ids_in(
                    &self
                        .client
                        .mounts(request)
                        .await
                        .map_err(text)?
                        .into_inner()
                        .mounts,
                ));
            }
            let request = ViewSnapshotRequest {
                key: PROBE.into(),
                parent: key,
                ..ViewSnapshotRequest::default()
            };
            let mounts = self
                .client
                .view(request)
                .await
                .map_err(text)?
                .into_inner()
                .mounts;
            let request = RemoveSnapshotRequest {
                key: PROBE.into(),
                ..RemoveSnapshotRequest::default()
            };
            self.client.remove(request).await.map_err(text)?;
            Ok(ids_in(&mounts))
        })
    }
}

/// The numbers behind `/snapshots/` in sources and options.
fn ids_in(mounts: &[Mount]) -> BTreeSet<String> {
    let texts = mounts
        .iter()
        .flat_map(|mount| mount.options.iter().chain([&mount.source]));
    let after = texts.flat_map(|text| text.split("/snapshots/").skip(1));
    after
        .filter_map(|rest| rest.split('/').next())
        .map(str::to_owned)
        .collect()
}

fn text(error: impl std::error::Error) -> String {
    format!("{error:?}")
}

/// A daemon that has ended at its start leaves calls waiting at its socket.
const PATIENCE: Duration = Duration::from_secs(10);
/// A view that is gone before anybody else looks.
const PROBE: &str = "k8s.io/0/probe";
