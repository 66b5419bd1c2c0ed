//! Builds registries and runs them on sockets, or on whatever else accepts connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use parapull_scenario::registry::Redirect;
use parapull_scenario::{Faults, RegistryProfile};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::app::{self, Registry, Repository};
use crate::auth::Gate;
use crate::connection::{ConnectionFactory, accept_until};
use crate::fault::FaultBook;
use crate::journal::{Journal, Origin};
use crate::layout::{LayoutError, OciLayout};
use crate::throttle::{RequestLimit, TokenBucket};

/// A registry that cannot be built or run.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// An image's layout cannot be read.
    #[error("serve image {reference}")]
    Layout {
        /// The image.
        reference: String,
        /// Why.
        source: LayoutError,
    },
    /// No socket.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Collects what a registry needs.
#[derive(Debug, Default)]
pub struct FakeRegistryBuilder {
    images: Vec<(String, OciLayout)>,
    profile: RegistryProfile,
    faults: Faults,
    storage_authority: Option<String>,
}

impl FakeRegistryBuilder {
    /// Serves the layout's image as `NAME[:TAG]`; the tag is `latest` when absent.
    #[must_use]
    pub fn image(mut self, reference: &str, layout: OciLayout) -> Self {
        self.images.push((reference.to_owned(), layout));
        self
    }

    /// How it behaves; unlimited when not said.
    #[must_use]
    pub fn profile(mut self, profile: RegistryProfile) -> Self {
        self.profile = profile;
        self
    }

    /// What goes wrong; nothing when not said.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// `host:port` under which clients reach the second origin; needed only where [`FakeRegistry::serve`] does not bind it.
    #[must_use]
    pub fn storage_authority(mut self, authority: &str) -> Self {
        self.storage_authority = Some(authority.to_owned());
        self
    }

    /// Reads the manifests. The journal's and the buckets' time begins here, so build inside the runtime that serves.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn build(self) -> Result<FakeRegistry, RegistryError> {
        let mut faults = FaultBook::new(self.faults);
        let mut repositories: BTreeMap<String, Repository> = BTreeMap::new();
        for (reference, layout) in self.images {
            let (name, tag) = split_reference(&reference);
            let repository = repositories.entry(name.to_owned()).or_default();
            add_image(repository, &mut faults, tag, layout).map_err(|source| {
                RegistryError::Layout {
                    reference: reference.clone(),
                    source,
                }
            })?;
        }
        let profile = self.profile;
        let permits = profile
            .connections_max
            .and_then(|count| usize::try_from(count.get()).ok());
        let connections = ConnectionFactory {
            bytes_per_second: profile.connection_bytes_per_second,
            permits: permits.map(|count| Arc::new(Semaphore::new(count))),
            last_id: AtomicU64::new(0),
        };
        Ok(FakeRegistry {
            registry: Arc::new(Registry {
                repositories,
                gate: Gate::new(profile.auth.clone()),
                faults,
                journal: Journal::new(),
                total: profile
                    .total_bytes_per_second
                    .map(|rate| Arc::new(TokenBucket::new(rate))),
                requests: profile.requests_per_second_max.map(RequestLimit::new),
                connections: Arc::new(connections),
                storage_authority: self
                    .storage_authority
                    .map_or_else(OnceLock::new, OnceLock::from),
                profile,
            }),
        })
    }
}

fn add_image(
    repository: &mut Repository,
    faults: &mut FaultBook,
    tag: &str,
    layout: OciLayout,
) -> Result<(), LayoutError> {
    let root = layout.root_for_tag(tag)?;
    let contents = layout.contents(&root)?;
    repository.tags.insert(tag.to_owned(), root.digest);
    for document in contents.documents {
        repository
            .documents
            .insert(document.digest.clone(), document);
    }
    for (index, digest) in contents.layers {
        faults.add_layer(index, digest);
    }
    for digest in contents.configs {
        faults.add_config(digest);
    }
    repository.layouts.push(layout);
    Ok(())
}

/// Splits `NAME[:TAG]`; a colon before a slash belongs to a port.
fn split_reference(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// A registry, not yet on any socket.
#[derive(Clone, Debug)]
pub struct FakeRegistry {
    registry: Arc<Registry>,
}

impl FakeRegistry {
    /// An empty, unlimited, healthy registry to add to.
    #[must_use]
    pub fn builder() -> FakeRegistryBuilder {
        FakeRegistryBuilder::default()
    }

    /// Everything asked and answered.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.registry.journal.clone()
    }

    /// The registry as an axum application, for tests without sockets. Rates per connection, the limit of connections and
    /// resets need [`FakeRegistry::serve`] or [`FakeRegistry::serve_on`].
    pub fn router(&self) -> Router {
        app::router(Arc::clone(&self.registry), Origin::Registry)
    }

    /// The second origin as an axum application.
    pub fn storage_router(&self) -> Router {
        app::router(Arc::clone(&self.registry), Origin::Storage)
    }

    /// Runs on a socket until stopped, with the second origin, if the profile has one, on another port of the same address.
    ///
    /// # Errors
    /// When the second origin finds no port.
    pub async fn serve(self, listener: TcpListener) -> Result<Running, RegistryError> {
        let address = local_address(&listener)?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        let mut storage_address = None;
        if self.registry.profile.redirect != Redirect::Never {
            let listener = bind(SocketAddr::new(address.ip(), 0)).await?;
            let bound = local_address(&listener)?;
            // A builder that named another authority has a reason to.
            let _ = self.registry.storage_authority.set(bound.to_string());
            storage_address = Some(bound);
            tasks.push(tokio::spawn(self.accept_tcp(
                listener,
                self.storage_router(),
                stopped.clone(),
            )));
        }
        tasks.push(tokio::spawn(self.accept_tcp(
            listener,
            self.router(),
            stopped,
        )));
        Ok(Running {
            address,
            storage_address,
            journal: self.journal(),
            stop,
            tasks,
        })
    }

    /// Runs on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(self) -> Result<Running, RegistryError> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        self.serve(listener).await
    }

    /// Runs one origin on anything that accepts connections, such as a simulated network, until the future is dropped.
    ///
    /// Where the profile redirects, tell [`FakeRegistryBuilder::storage_authority`] and run
    /// [`FakeRegistry::serve_storage_on`] there. Connections cannot be reset here, only closed.
    pub async fn serve_on<L: Listener>(self, listener: L) {
        let (_stop, stopped) = watch::channel(false);
        accept_until(listener, self.router(), self.connections(), |_| {}, stopped).await;
    }

    /// Runs the second origin as [`FakeRegistry::serve_on`] runs the first.
    pub async fn serve_storage_on<L: Listener>(self, listener: L) {
        let (_stop, stopped) = watch::channel(false);
        accept_until(
            listener,
            self.storage_router(),
            self.connections(),
            |_| {},
            stopped,
        )
        .await;
    }

    fn connections(&self) -> Arc<ConnectionFactory> {
        Arc::clone(&self.registry.connections)
    }

    fn accept_tcp(
        &self,
        listener: TcpListener,
        router: Router,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Answers are written in few large pieces; waiting for more of them only adds latency.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let reset = |stream: &mut TcpStream| {
            let _ = stream.set_zero_linger();
        };
        accept_until(listener, router, self.connections(), reset, stopped)
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RegistryError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RegistryError::Listen {
            address: address.to_string(),
            source,
        })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, RegistryError> {
    listener
        .local_addr()
        .map_err(|source| RegistryError::Listen {
            address: "the given socket".to_owned(),
            source,
        })
}

/// A registry that runs; dropping it stops it as well, without waiting.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the second origin listens.
    pub storage_address: Option<SocketAddr>,
    /// Everything asked and answered.
    pub journal: Journal,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// `host:port`, the way image references have it.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Closes every connection and gives the ports back.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_split_at_the_tag() {
        for (reference, expected) in [
            ("a", ("a", "latest")),
            ("a/b:1", ("a/b", "1")),
            ("host:5000/a", ("host:5000/a", "latest")),
        ] {
            assert_eq!(split_reference(reference), expected, "{reference}");
        }
    }
}
