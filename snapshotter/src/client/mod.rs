//! A pull as a client of containerd: what CRI does, for images whose client passes no labels.
//!
//! Manifest and configuration go into containerd's content store, each layer is prepared bottom up with the labels of a
//! pull, and the snapshotter behind containerd, another process, brings it. At last the image gets its record. A lease holds
//! everything until then. Nothing is fetched or unpacked here but the documents.

mod documents;
mod lease;

use std::future::Future;
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::grpc::{Containerd, ContainerdError, ImageTarget, Prepared, layer_labels};
use crate::image::{Image, Layer};
use crate::registry::Resolved;
use crate::store::Labels;

use documents::{blobs, gc_label_of_snapshot};

/// A pull into a containerd, under a lease that [`Self::end`] gives back.
#[derive(Debug)]
pub struct ClientPull {
    containerd: Containerd,
    snapshotter: String,
    lease: String,
}

/// A layer that is in its place, and how long that took.
#[derive(Clone, Copy, Debug)]
pub struct PreparedLayer {
    /// The name of its snapshot.
    pub chain: Digest,
    /// From the question to the answer.
    pub took: Duration,
}

/// A failure in the words of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldError {
    /// Its kind, as `--json` names it.
    pub kind: &'static str,
    /// Index and digest of the layer to blame, if one is.
    pub layer: Option<(u32, Digest)>,
    /// The host to blame, if the snapshotter named one.
    pub host: Option<String>,
    /// The cause, without image, layer and host.
    pub message: String,
}

/// Why a pull through containerd failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// containerd, or the snapshotter it asked for a layer, refused.
    #[error("{source}")]
    Call {
        /// Index and digest of the layer that was asked for.
        layer: Option<(u32, Digest)>,
        /// What was answered.
        source: ContainerdError,
    },
    /// The snapshotter leaves the layer to containerd's clients.
    #[error(
        "snapshotter {snapshotter:?} does not bring the layer by itself, containerd's client would have to fetch and apply it; \
         see in the snapshotter's log why (parallel pulls switched off, or a kind of layer it cannot unpack), or pull the image \
         with: ctr images pull --snapshotter {snapshotter}"
    )]
    Left {
        /// Index of the layer.
        index: u32,
        /// The digest of its blob.
        digest: Digest,
        /// Who was asked.
        snapshotter: String,
    },
    /// The snapshotter says that a layer exists, and containerd does not find it.
    #[error(
        "snapshotter {snapshotter:?} says that snapshot {chain} exists, and containerd does not find it; pull again"
    )]
    Lost {
        /// Index of the layer.
        index: u32,
        /// The digest of its blob.
        digest: Digest,
        /// Who was asked.
        snapshotter: String,
        /// The name of the snapshot.
        chain: Digest,
    },
}

impl ClientError {
    /// The error as a command tells it about an image and its layers.
    pub fn told(&self, image: &str, layers: &[Layer]) -> ToldError {
        let (kind, layer) = match self {
            Self::Call { source, layer } => (source.kind(), *layer),
            Self::Left { index, digest, .. } => ("config", Some((*index, *digest))),
            Self::Lost { index, digest, .. } => ("containerd", Some((*index, *digest))),
        };
        let by_containerd = || ToldError {
            kind,
            layer,
            host: None,
            message: self.to_string(),
        };
        self.told_by_snapshotter(image, layers)
            .unwrap_or_else(by_containerd)
    }

    /// The same, if the snapshotter said it: `<image>: [layer <n> <digest12> from <host>: ]<cause>`.
    ///
    /// The layer is the one that failed, which need not be the one that was asked for.
    fn told_by_snapshotter(&self, image: &str, layers: &[Layer]) -> Option<ToldError> {
        let Self::Call { source, .. } = self else {
            return None;
        };
        let text = source.message();
        let told = text.strip_prefix(image)?.strip_prefix(": ")?;
        let place = told.split_once(" from ").and_then(|(place, rest)| {
            let (index, _) = place.strip_prefix("layer ")?.split_once(' ')?;
            let index: u32 = index.parse().ok()?;
            let layer = layers.get(usize::try_from(index).ok()?)?;
            Some(((index, layer.descriptor.digest), rest.split_once(": ")?))
        });
        let Some((layer, (host, cause))) = place else {
            return Some(ToldError {
                kind: source.kind(),
                layer: None,
                host: None,
                message: told.to_owned(),
            });
        };
        Some(ToldError {
            // Whoever names a host has been there.
            kind: if source.is_unavailable() {
                "network"
            } else {
                source.kind()
            },
            layer: Some(layer),
            host: Some(host.to_owned()),
            message: cause.to_owned(),
        })
    }
}

impl From<ContainerdError> for ClientError {
    fn from(source: ContainerdError) -> Self {
        Self::Call {
            layer: None,
            source,
        }
    }
}

impl ClientPull {
    /// Takes a lease for a pull with this snapshotter, and gives back those of processes of this machine that ended without.
    ///
    /// # Errors
    /// containerd cannot be reached or refuses.
    pub async fn begin(containerd: &Containerd, snapshotter: &str) -> Result<Self, ClientError> {
        lease::give_back_abandoned(containerd).await;
        let lease = lease::new();
        containerd.create_lease(&lease).await?;
        Ok(Self {
            containerd: containerd.with_lease(&lease.id)?,
            snapshotter: snapshotter.to_owned(),
            lease: lease.id,
        })
    }

    /// Brings the image: documents, layers, record. `done` hears of each layer that is in its place.
    ///
    /// What is in containerd already is not brought again, so a second pull only looks.
    ///
    /// # Errors
    /// [`ClientError`]; then the image has no record from here, and [`Self::end`] takes back the rest.
    pub async fn bring(
        &self,
        resolved: &Resolved,
        done: impl Fn(usize) + Send,
    ) -> Result<Vec<PreparedLayer>, ClientError> {
        let image = &resolved.image;
        // The documents come first: the snapshotter reads them from containerd instead of asking the registry once more.
        for blob in blobs(resolved) {
            let known = self.containerd.blob_labels(&blob.digest).await?;
            let blob = documents::with_known_sources(blob, &known.unwrap_or_default());
            self.containerd.put_blob(&blob).await?;
        }
        let chains = image.chain_ids();
        let mut prepared = Vec::with_capacity(chains.len());
        for (index, chain) in chains.iter().enumerate() {
            let began = Instant::now();
            self.prepare(image, &chains, index).await?;
            prepared.push(PreparedLayer {
                chain: *chain,
                took: began.elapsed(),
            });
            done(index);
        }
        if let Some(top) = chains.last() {
            let keep = Labels::from([(gc_label_of_snapshot(&self.snapshotter), top.to_string())]);
            self.containerd
                .label_blob(&image.config_digest, &keep)
                .await?;
        }
        if let Some(root) = resolved.documents.first() {
            let target = ImageTarget {
                media_type: root.media_type.clone(),
                digest: root.digest,
                bytes: root.bytes.len() as u64,
            };
            let name = image.reference.to_string();
            self.containerd.put_image(&name, &target).await?;
        }
        Ok(prepared)
    }

    /// Gives the lease back. After a failure it waits, for at most 10 s, until containerd has collected what the pull left.
    ///
    /// A lease that cannot be given back is given back by the next pull, or expires.
    pub async fn end(self, failed: bool) {
        let deleted = self.containerd.delete_lease(&self.lease, failed);
        let reason = match tokio::time::timeout(END_TIMEOUT, deleted).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {END_TIMEOUT:?}"),
        };
        tracing::warn!(lease = %self.lease, %reason, "a lease is left in containerd");
    }

    /// Asks for one layer until containerd has it, as often as containerd's own clients do.
    async fn prepare(
        &self,
        image: &Image,
        chains: &[Digest],
        index: usize,
    ) -> Result<(), ClientError> {
        let (chain, digest) = (chains[index], image.layers[index].descriptor.digest);
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let failed = |source| ClientError::Call {
            layer: Some((number, digest)),
            source,
        };
        let labels = layer_labels(image, chains, index);
        let below = index.checked_sub(1).map(|below| chains[below].to_string());
        for _ in 0..PREPARES_MAX {
            let key = lease::unpack_key(&chain);
            let parent = below.as_deref().unwrap_or_default();
            let asked = self
                .containerd
                .prepare(&self.snapshotter, &key, parent, &labels);
            match asked.await.map_err(failed)? {
                Prepared::Exists => {}
                Prepared::Mounted => {
                    self.drop_key(&key).await;
                    return Err(ClientError::Left {
                        index: number,
                        digest,
                        snapshotter: self.snapshotter.clone(),
                    });
                }
            }
            let name = chain.to_string();
            let found = self.containerd.has_snapshot(&self.snapshotter, &name);
            if found.await.map_err(failed)? {
                return Ok(());
            }
        }
        Err(ClientError::Lost {
            index: number,
            digest,
            snapshotter: self.snapshotter.clone(),
            chain,
        })
    }

    fn drop_key(&self, key: &str) -> impl Future<Output = ()> {
        let removed = self.containerd.remove_snapshot(&self.snapshotter, key);
        async move {
            if let Err(error) = removed.await {
                tracing::warn!(%error, "an active snapshot is left to the garbage collector");
            }
        }
    }
}

/// containerd's unpacker asks so often for a snapshot that is said to exist and is not found.
const PREPARES_MAX: u32 = 3;
const END_TIMEOUT: Duration = Duration::from_secs(10);
