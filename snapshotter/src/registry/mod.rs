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
pub use resolve::{NoRetry, RetryAdvice};

use crate::image::{Descriptor, Image, Platform, Reference};
use authorization::Authorizer;
use connections::{Connections, Limits};
use exchange::Exchange;
use origin::{Origin, Scheme};

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
    plain_http: PlainHttp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: PlainHttp::default(),
            ca: None,
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
        let connector = tls::connector(options.ca.as_deref())?;
        let user_agent = HeaderValue::try_from(options.user_agent)
            .map_err(|_| RegistryError::Setting("the user agent cannot stand in a header"))?;
        let connections = Connections::new(options.dial, connector, limits);
        Ok(Self::with_parts(
            connections,
            user_agent,
            options.plain_http,
            options.credentials,
        ))
    }

    /// The same client as somebody else: connections are shared, tokens and signed addresses are not.
    #[must_use]
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        let exchange = &self.inner.exchange;
        Self::with_parts(
            exchange.connections.clone(),
            exchange.user_agent.clone(),
            self.inner.plain_http,
            credentials,
        )
    }

    /// Finds the image of a platform and verifies its manifest and configuration.
    ///
    /// Requests that fail are repeated as `retry` advises.
    ///
    /// # Errors
    /// The last failure of a request, or what is wrong with the image.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        retry: &dyn RetryAdvice,
    ) -> Result<Image, RegistryError> {
        resolve::resolve(self, reference, platform, retry).await
    }

    /// Asks for a blob of the reference's repository, or for a range of one, and waits for the head of the answer.
    ///
    /// `source` numbers the hosts that may serve it; 0 is the first. The digest is for the reader to verify.
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
        let origin = self.origin(reference, source)?;
        blobs::open(
            &self.inner.exchange,
            &self.inner.redirects,
            origin,
            reference.repository(),
            blob,
            read,
        )
        .await
    }

    /// How many hosts may serve the reference's blobs; at least one.
    pub fn sources(&self, _reference: &Reference) -> usize {
        FIRST_SOURCE + 1
    }

    /// The `host[:port]` that is asked first for a reference, as messages show it.
    pub fn host(&self, reference: &Reference) -> String {
        match self.origin(reference, FIRST_SOURCE) {
            Ok(origin) => origin.authority(),
            Err(_) => reference.traffic_host().to_owned(),
        }
    }

    fn with_parts(
        connections: Connections,
        user_agent: HeaderValue,
        plain_http: PlainHttp,
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
                plain_http,
            }),
        }
    }

    fn origin(&self, reference: &Reference, source: usize) -> Result<Origin, FetchError> {
        let host = reference.traffic_host();
        let failed = |message| FetchError::new(host, Cause::Request(message));
        if source >= self.sources(reference) {
            return Err(failed("there is no such source for this image"));
        }
        let parse = |scheme| {
            Origin::parse(scheme, host)
                .ok_or_else(|| failed("the registry's name is not a host name"))
        };
        let secure = parse(Scheme::Https)?;
        let plain = match self.inner.plain_http {
            PlainHttp::Never => false,
            PlainHttp::Loopback => secure.is_loopback(),
            PlainHttp::Always => true,
        };
        if plain {
            parse(Scheme::Http)
        } else {
            Ok(secure)
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("plain_http", &self.inner.plain_http)
            .finish_non_exhaustive()
    }
}

/// The source that is asked for manifests and configurations.
const FIRST_SOURCE: usize = 0;
