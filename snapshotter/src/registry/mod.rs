//! The registry client: from a reference to a verified image, and from a blob to a stream of bytes.
//!
//! This is the only module that knows HTTP. It reports facts: what came, from whom, what failed and which class of answer
//! that calls for. It schedules nothing: how many requests run, which come first, whether and when a failed one is repeated
//! is for others to say. Its only repetitions are the answer to a demand for credentials, the second question to a registry
//! whose redirect has expired, and the replacement of a kept connection that turns out to be closed.
//!
//! Proxies named by `HTTP_PROXY` and the like are not used.

mod authorization;
mod blobs;
mod body;
mod challenge;
mod connections;
mod credential_helper;
mod credentials;
mod dial;
mod docker_config;
mod error;
mod exchange;
mod hosts;
mod origin;
mod resolve;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

pub use blobs::{Opened, Read};
pub use body::Body;
pub use credentials::{Credentials, Secret};
pub use dial::{Dial, Dialling, Stream, TcpDial};
pub use error::{Cause, Class, FetchError, RegistryError};
pub use resolve::{NoRetry, Resolved, RetryAdvice};

use crate::image::{Descriptor, Image, Platform, Reference};
use authorization::Authorizer;
use connections::{Connections, Limits};
use exchange::Exchange;
use hosts::{Hosts, Source};

/// When a registry is spoken to without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// Never.
    Never,
    /// With registries on this machine: `localhost`, 127.0.0.0/8 and ::1.
    #[default]
    Loopback,
    /// With every registry.
    Always,
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// When TLS is left out. Redirects and token services of a registry with TLS never leave it out.
    pub plain_http: PlainHttp,
    /// A PEM file of certificates to trust beside the system's (or those of `SSL_CERT_FILE`).
    pub ca: Option<PathBuf>,
    /// A folder of containerd's form (`certs.d`, with `<host>/hosts.toml`) that names mirrors and their certificates.
    pub hosts_dir: Option<PathBuf>,
    /// Who the client is.
    pub credentials: Credentials,
    /// The longest time until a connection stands, name resolution and TLS included: 10 s.
    pub connect_timeout: Duration,
    /// The longest wait for the head of an answer, and between pieces of a manifest, configuration or token: 30 s.
    pub first_byte_timeout: Duration,
    /// How long a connection is kept without a request: 50 s, below the 60 s after which common load balancers close it.
    pub idle_timeout: Duration,
    /// The most idle connections kept per origin: 64. Connections in use are not limited here. Each costs one file
    /// descriptor and up to 512 KiB.
    pub idle_connections_per_origin_max: usize,
    /// The `User-Agent`.
    pub user_agent: String,
    /// How byte streams are had.
    pub dial: Arc<dyn Dial>,
}

/// A client for any number of registries; clones share connections, tokens and known redirects.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    exchange: Exchange,
    redirects: blobs::Redirects,
    places: Arc<Places>,
}

/// Who serves what and who is trusted; the same for all identities.
struct Places {
    hosts: Hosts,
    ca: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: PlainHttp::default(),
            ca: None,
            hosts_dir: None,
            credentials: Credentials::default(),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(50),
            idle_connections_per_origin_max: 64,
            user_agent: concat!("parapull/", env!("CARGO_PKG_VERSION")).to_owned(),
            dial: Arc::new(TcpDial),
        }
    }
}

impl Registry {
    /// Makes a client. No connection is opened.
    ///
    /// # Errors
    /// The file of certificates cannot be read, or the user agent cannot stand in a header.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        let limits = Limits {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            idle: options.idle_timeout,
            idle_per_origin_max: options.idle_connections_per_origin_max,
        };
        let connector = tls::connector(options.ca.as_slice())?;
        let user_agent = HeaderValue::try_from(options.user_agent)
            .map_err(|_| RegistryError::Setting("the user agent cannot stand in a header"))?;
        let connections = Connections::new(options.dial, connector, limits);
        let places = Arc::new(Places {
            hosts: Hosts::new(options.hosts_dir, options.plain_http),
            ca: options.ca,
        });
        Ok(Self::with_parts(
            connections,
            user_agent,
            places,
            options.credentials,
        ))
    }

    /// The same client as somebody else: connections are shared, tokens and signed addresses are not.
    #[must_use]
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        let exchange = &self.inner.exchange;
        let places = Arc::clone(&self.inner.places);
        Self::with_parts(
            exchange.connections.clone(),
            exchange.user_agent.clone(),
            places,
            credentials,
        )
    }

    /// Finds the image of a platform and verifies its manifest and configuration.
    ///
    /// Every source is asked in its order; when all have failed, they are asked again as `retry` advises, given what the
    /// registry itself said.
    ///
    /// # Errors
    /// The last failure of a request, or what is wrong with the image.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        retry: &dyn RetryAdvice,
    ) -> Result<Image, RegistryError> {
        let resolved = self.resolve_with_documents(reference, platform, retry);
        Ok(resolved.await?.image)
    }

    /// [`Self::resolve`], with the documents on the way for a caller who stores them.
    ///
    /// # Errors
    /// As there.
    pub async fn resolve_with_documents(
        &self,
        reference: &Reference,
        platform: &Platform,
        retry: &dyn RetryAdvice,
    ) -> Result<Resolved, RegistryError> {
        resolve::resolve(self, reference, platform, retry).await
    }

    /// Asks for a blob of the reference's repository, or for a range of one, and waits for the head of the answer.
    ///
    /// `source` is an index into [`Registry::sources`]. The digest is for the reader to verify.
    ///
    /// # Errors
    /// Nothing usable came; see [`Class`] for what that calls for. A server that ignores the range is no error: the answer
    /// is [`Opened::Whole`].
    pub async fn open(
        &self,
        reference: &Reference,
        source: usize,
        blob: &Descriptor,
        read: Read,
    ) -> Result<Opened, FetchError> {
        let Inner {
            exchange,
            redirects,
            ..
        } = &*self.inner;
        let sources = self.known_sources(reference)?;
        let Some(source) = sources.get(source) else {
            let cause = Cause::Request("there is no such source for this image");
            return Err(FetchError::new(reference.traffic_host(), cause));
        };
        blobs::open(
            exchange,
            redirects,
            source,
            reference.repository(),
            blob,
            read,
        )
        .await
    }

    /// The `host[:port]`s that may serve a reference's blobs, mirrors first and the registry itself last; at least one.
    ///
    /// A registry's `hosts.toml` is read when it is first needed, and not again.
    ///
    /// # Errors
    /// The `hosts.toml` or a certificate it names cannot be used.
    pub fn sources(&self, reference: &Reference) -> Result<Vec<String>, FetchError> {
        let sources = self.known_sources(reference)?;
        Ok(sources
            .iter()
            .map(|source| source.origin.authority())
            .collect())
    }

    fn with_parts(
        connections: Connections,
        user_agent: HeaderValue,
        places: Arc<Places>,
        credentials: Credentials,
    ) -> Self {
        let authorizer = Authorizer::new(connections.clone(), credentials, user_agent.clone());
        Self {
            inner: Arc::new(Inner {
                exchange: Exchange {
                    connections,
                    authorizer,
                    user_agent,
                },
                redirects: blobs::Redirects::default(),
                places,
            }),
        }
    }

    /// The sources, with connections prepared for those that have certificates of their own.
    fn known_sources(&self, reference: &Reference) -> Result<Arc<[Source]>, FetchError> {
        let Places { hosts, ca } = &*self.inner.places;
        let connections = &self.inner.exchange.connections;
        let sources = hosts.sources(reference)?;
        for source in sources
            .iter()
            .filter(|source| !source.certificates.is_empty())
        {
            if !connections.is_trusted(&source.origin) {
                let files: Vec<_> = ca.iter().chain(&source.certificates).cloned().collect();
                let connector = tls::connector(&files).map_err(|error| {
                    let cause = Cause::Hosts(error.to_string());
                    FetchError::new(source.origin.authority(), cause)
                })?;
                connections.trust(source.origin.clone(), connector);
            }
        }
        Ok(sources)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
