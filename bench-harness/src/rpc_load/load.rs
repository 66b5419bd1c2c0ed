//! Remote pulls as containerd asks for them: layer after layer, each above the one that the snapshotter committed last.

use parapull_snapshotter::grpc::layer_labels;
use parapull_snapshotter::image::{Image, Platform};
use parapull_snapshotter::registry::{NoRetry, Options, Registry};

use super::RpcLoadError;
use super::client::Client;

/// An image in a registry.
#[derive(Debug)]
pub(super) struct RemoteImage {
    image: Image,
}

impl RemoteImage {
    pub(super) async fn resolve(reference: &str) -> Result<Self, RpcLoadError> {
        let failed = |reason: String| RpcLoadError::Resolve {
            image: reference.to_owned(),
            reason,
        };
        let parsed = reference
            .parse()
            .map_err(|error| failed(format!("{error}")))?;
        let registry =
            Registry::new(Options::default()).map_err(|error| failed(error.to_string()))?;
        let platform = Platform::host();
        let image = registry.resolve(&parsed, &platform, &NoRetry).await;
        Ok(Self {
            image: image.map_err(|error| failed(error.to_string()))?,
        })
    }

    pub(super) fn compressed_bytes(&self) -> u64 {
        self.image.compressed_bytes()
    }

    async fn pull(&self, client: &Client) -> Result<(), RpcLoadError> {
        let chains = self.image.chain_ids();
        let mut parent = String::new();
        for (index, chain) in chains.iter().enumerate() {
            let labels = layer_labels(&self.image, &chains, index);
            let key = format!("k8s.io/{index}/extract-{index} {chain}");
            let exists = client
                .prepare(&key, &parent, labels.into_iter().collect())
                .await?;
            if !exists {
                return Err(RpcLoadError::Unexpected(format!(
                    "pull {}: layer {index} was left to containerd",
                    self.image.reference
                )));
            }
            parent = named(client, &chain.to_string(), &parent).await?;
        }
        Ok(())
    }

    /// The names of its snapshots, the topmost first.
    async fn names(&self, client: &Client) -> Result<Vec<String>, RpcLoadError> {
        let mut names = Vec::new();
        let mut parent = String::new();
        for chain in self.image.chain_ids() {
            parent = named(client, &chain.to_string(), &parent).await?;
            names.push(parent.clone());
        }
        names.reverse();
        Ok(names)
    }
}

/// Pulls all images at once.
pub(super) async fn pull_all(
    client: &Client,
    images: &std::sync::Arc<Vec<RemoteImage>>,
) -> Result<(), RpcLoadError> {
    let pulls: Vec<_> = (0..images.len())
        .map(|index| {
            let (client, images) = (client.clone(), std::sync::Arc::clone(images));
            tokio::spawn(async move { images[index].pull(&client).await })
        })
        .collect();
    for pull in pulls {
        pull.await
            .map_err(|error| RpcLoadError::Unexpected(format!("finish a pull: {error}")))??;
    }
    Ok(())
}

/// Removes what [`pull_all`] brought, children first.
pub(super) async fn remove_all(
    client: &Client,
    images: &[RemoteImage],
) -> Result<(), RpcLoadError> {
    for image in images {
        for name in image.names(client).await? {
            client.remove(&name).await?;
        }
    }
    Ok(())
}

/// The backend's name of a committed layer, found as containerd finds it.
async fn named(client: &Client, chain: &str, parent: &str) -> Result<String, RpcLoadError> {
    let filter = format!("labels.\"containerd.io/snapshot.ref\"=={chain},parent==\"{parent}\"");
    let mut found = client.list(&filter).await?;
    found
        .pop()
        .ok_or_else(|| RpcLoadError::Unexpected(format!("find snapshot {chain} above {parent:?}")))
}
