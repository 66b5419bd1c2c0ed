//! Somebody who asks for the layers of an image as containerd does.

use std::collections::HashMap;
use std::path::Path;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    ListSnapshotsRequest, PrepareSnapshotRequest,
};
use parapull_snapshotter::tree::{Tree, scan};
use tonic::Code;
use tonic::transport::Channel;

use crate::images::TestImage;

/// Asks for layers as containerd does.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) image: TestImage,
    reference: String,
    chains: Vec<Digest>,
    /// The backend name of the layer linked last.
    parent: String,
}

impl Caller {
    pub(crate) fn new(image: &TestImage, reference: String) -> Self {
        let mut chains: Vec<Digest> = Vec::new();
        for layer in &image.layers {
            let diff_id: Digest = layer.diff_id.parse().unwrap();
            let chain = chains.last().map(|below| below.chain(&diff_id));
            chains.push(chain.unwrap_or(diff_id));
        }
        Self {
            image: image.clone(),
            reference,
            chains,
            parent: String::new(),
        }
    }

    pub(crate) fn request(&self, index: usize) -> PrepareSnapshotRequest {
        let labels = [
            ("containerd.io/snapshot.ref", self.chains[index].to_string()),
            (
                "containerd.io/snapshot/cri.image-ref",
                self.reference.clone(),
            ),
            (
                "containerd.io/snapshot/cri.layer-digest",
                self.image.layers[index].digest.clone(),
            ),
            (
                "containerd.io/snapshot/cri.manifest-digest",
                self.image.manifest_digest.clone(),
            ),
        ];
        PrepareSnapshotRequest {
            key: format!("k8s.io/1/extract {} {index}", self.image.manifest_digest),
            parent: self.parent.clone(),
            labels: labels
                .map(|(label, value)| (label.to_owned(), value))
                .into_iter()
                .collect::<HashMap<_, _>>(),
            ..PrepareSnapshotRequest::default()
        }
    }

    /// Has a layer linked and looks it up, as containerd does.
    pub(crate) async fn link(&mut self, client: &mut SnapshotsClient<Channel>, index: usize) {
        let status = client.prepare(self.request(index)).await.unwrap_err();
        assert_eq!(
            status.code(),
            Code::AlreadyExists,
            "layer {index}: {status}"
        );
        let filter = format!(
            "labels.\"containerd.io/snapshot.ref\"=={},parent==\"{}\"",
            self.chains[index], self.parent
        );
        let request = ListSnapshotsRequest {
            filters: vec![filter],
            ..ListSnapshotsRequest::default()
        };
        let mut found = client.list(request).await.unwrap().into_inner();
        let infos = found.message().await.unwrap().unwrap().info;
        self.parent.clone_from(&infos[0].name);
    }

    /// The layers as a container sees them, bottom first.
    pub(crate) async fn trees(&self, client: &mut SnapshotsClient<Channel>) -> Vec<Tree> {
        let request = PrepareSnapshotRequest {
            key: "k8s.io/9/container".to_owned(),
            parent: self.parent.clone(),
            ..PrepareSnapshotRequest::default()
        };
        let mounts = client.prepare(request).await.unwrap().into_inner().mounts;
        let lowers = mounts[0].options.iter();
        let lowers = lowers
            .filter_map(|option| option.strip_prefix("lowerdir="))
            .flat_map(|lowers| lowers.split(':'));
        let mut trees: Vec<Tree> = lowers
            .map(|lower| scan(Path::new(lower)).unwrap())
            .collect();
        trees.reverse();
        trees
    }
}
