//! Makes containerd forget what the store has lost, so that the next pull brings it again.
//!
//! containerd's own records outlive the files of a snapshot that a power failure took. While they do, it neither pulls the layer
//! (it answers `AlreadyExists` by itself) nor can use it, and an image whose record is there is not even asked for again. So, in
//! every namespace that knows a lost name, the image it was pulled for is removed with all its names, and then the name.
//! Containers' snapshots over lost layers go as well: the store has dropped them with what they were built on, and whoever
//! removes the container finds its snapshot absent, which is no error. The containers themselves are left to their owners.
//!
//! A name that containerd can stat has been brought again and is left alone, with its image. (Were it brought between that
//! question and the removal, its pull would fail once and succeed when it is repeated.) containerd's `Remove` asks no
//! snapshotter, only its `Stat` does, and nothing of the store is held meanwhile. What is to be forgotten is noted in the store
//! until it is done, so a daemon that ends before goes on after its next start.

use std::path::PathBuf;
use std::time::Duration;

use crate::driver::Advice;
use crate::grpc::{Containerd, ContainerdError};
use crate::store::{Lost, Store, StoreError};

/// What it takes to make containerd forget.
#[derive(Debug)]
pub struct Forgetting {
    /// Where containerd listens.
    pub socket: PathBuf,
    /// The name of this snapshotter in containerd's configuration.
    pub snapshotter: String,
    /// Which knows what is lost.
    pub store: Store,
    /// How long to wait between attempts.
    pub advice: Advice,
}

/// Why an attempt was not the last; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
enum ForgettingError {
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    #[error("read or write what is lost: {0}")]
    Store(#[from] StoreError),
    #[error("make containerd forget what is lost: no answer in {} s", ATTEMPT_LIMIT.as_secs())]
    Slow,
    #[error(
        "make containerd forget {count} of the snapshots that are lost, the first of them {name}: {source}"
    )]
    Refused {
        count: usize,
        name: String,
        source: ContainerdError,
    },
}

impl Forgetting {
    /// Tries until containerd has forgotten everything that is lost, with longer and longer pauses.
    pub async fn run(self) {
        for attempt in 1_u32.. {
            let outcome = tokio::time::timeout(ATTEMPT_LIMIT, self.attempt()).await;
            match outcome.unwrap_or(Err(ForgettingError::Slow)) {
                Ok(()) => return,
                // The first, the second, the fourth: a log that is read tomorrow must not be full of this.
                Err(error) if attempt.is_power_of_two() => {
                    tracing::warn!(attempt, %error, "images that were lost cannot be pulled again yet");
                }
                Err(error) => tracing::debug!(attempt, %error, "trying again"),
            }
            tokio::time::sleep(self.advice.pause(attempt)).await;
        }
    }

    async fn attempt(&self) -> Result<(), ForgettingError> {
        let lost = in_background(&self.store, Store::lost).await?;
        if lost.is_empty() {
            return Ok(());
        }
        let namespaces = Containerd::new(&self.socket, ANY_NAMESPACE)?
            .namespaces()
            .await?;
        let mut done = Vec::new();
        let mut refused = Vec::new();
        for (number, lost) in lost {
            match self.forget_everywhere(&namespaces, &lost).await {
                Ok(()) => done.push(number),
                Err(error) => refused.push((lost.name, error)),
            }
        }
        in_background(&self.store, move |store| store.forget_lost(&done)).await?;
        let count = refused.len();
        match refused.into_iter().next() {
            None => Ok(()),
            Some((name, source)) => Err(ForgettingError::Refused {
                count,
                name,
                source,
            }),
        }
    }

    /// A namespace that found another's layer committed knows it by the same name, so all are asked.
    async fn forget_everywhere(
        &self,
        namespaces: &[String],
        lost: &Lost,
    ) -> Result<(), ContainerdError> {
        let Some((home, key)) = lost.in_containerd() else {
            return Ok(());
        };
        for namespace in namespaces {
            let containerd = Containerd::new(&self.socket, namespace)?;
            if containerd.has_snapshot(&self.snapshotter, key).await? {
                continue;
            }
            // At home the image goes first: were this to end in between, nothing else would tell that it is to go.
            let is_home = namespace == home;
            if is_home {
                remove_image(&containerd, namespace, lost).await?;
            }
            if !containerd.remove_snapshot(&self.snapshotter, key).await? {
                continue;
            }
            tracing::warn!(namespace, key, "containerd forgot a snapshot that is gone");
            if !is_home {
                remove_image(&containerd, namespace, lost).await?;
            }
        }
        Ok(())
    }
}

async fn remove_image(
    containerd: &Containerd,
    namespace: &str,
    lost: &Lost,
) -> Result<(), ContainerdError> {
    let Some(image) = &lost.image else {
        return Ok(());
    };
    let names = containerd.remove_image(image).await?;
    if !names.is_empty() {
        tracing::warn!(
            namespace,
            image,
            ?names,
            "removed an image whose layers are gone: pull it again"
        );
    }
    Ok(())
}

async fn in_background<T: Send + 'static>(
    store: &Store,
    call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || call(&store)).await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Which namespaces there are is the same in all of them, but each call needs one.
const ANY_NAMESPACE: &str = "default";
/// An attempt is two short calls per snapshot and namespace; one that hangs must not end the trying.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(120);
