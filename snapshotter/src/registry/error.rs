//! What went wrong with a request, and which class of answer that calls for.
//!
//! The class is decided here and nowhere else. What is done about it (whether, when and where to ask again) is not decided
//! in this crate at all.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::image::ImageError;

/// What a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The same request may succeed later: connections, timeouts, 5xx, bodies that end early.
    Retry,
    /// The server asks to slow down (429).
    RateLimited,
    /// The server does not have it (404, 410); another source may.
    NotFound,
    /// Access is denied, after one renewal of the token was tried.
    Auth,
    /// The server does not serve this range; reading the blob whole may work.
    Degrade,
    /// The server answers with other bytes than the descriptor promises; another source may not.
    Corrupt,
    /// Asking again is pointless.
    Fatal,
}

/// A request that failed: who, why, and when to ask again at the earliest.
///
/// Shown as `<host>: <cause>`. No secret and no query of an address is ever part of it.
#[derive(Clone, Debug)]
pub struct FetchError {
    facts: Box<Facts>,
}

/// Boxed, because the good outcome is handed around far more often.
#[derive(Clone, Debug)]
struct Facts {
    class: Class,
    retry_after: Option<Duration>,
    host: String,
    cause: Cause,
}

/// Why a request failed. Texts from servers are cut and hold no control characters.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No connection within the limit, TLS included.
    #[error("no connection within {0:?}")]
    ConnectTimedOut(Duration),
    /// The connection was refused, unreachable, or the name is unknown.
    #[error("cannot connect")]
    Connect(#[source] Arc<io::Error>),
    /// The TLS handshake failed.
    #[error("cannot agree on TLS")]
    Tls(#[source] Arc<io::Error>),
    /// No answer within the limit.
    #[error("no answer within {0:?}")]
    FirstByteTimedOut(Duration),
    /// A small document stopped arriving.
    #[error("no more bytes for {0:?}")]
    DocumentStalled(Duration),
    /// The connection broke or did not speak HTTP/1.1.
    #[error("the connection failed")]
    Connection(#[source] Arc<hyper::Error>),
    /// The answer has another status than the request can use.
    #[error("the server answers {status}{}", Detail(.message))]
    Status {
        /// The status code.
        status: u16,
        /// What the registry's error document says; may be empty.
        message: String,
        /// Whether a range was asked for.
        ranged: bool,
    },
    /// The headers are larger than accepted.
    #[error("the answer's headers have more than {bytes_max} bytes")]
    HeadersTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// A range was answered with another range, or with something that is no proof of one.
    #[error("the range was answered with {0}")]
    WrongRange(String),
    /// The length header contradicts the descriptor.
    #[error("the server offers {actual} bytes where {expected} are expected")]
    WrongLength {
        /// Bytes according to the descriptor.
        expected: u64,
        /// Bytes according to the header.
        actual: u64,
    },
    /// The body ended early.
    #[error("the body ended after {received} of {expected} bytes")]
    BodyTooShort {
        /// Bytes that came.
        received: u64,
        /// Bytes that were due.
        expected: u64,
        /// How the connection ended, if it did not end in good order.
        #[source]
        connection: Option<Arc<hyper::Error>>,
    },
    /// The body went on after its end.
    #[error("the body has more than the {expected} bytes expected")]
    BodyTooLong {
        /// Bytes that were due.
        expected: u64,
    },
    /// A document is larger than accepted.
    #[error("the {what} has more than {bytes_max} bytes")]
    DocumentTooLarge {
        /// Which document.
        what: &'static str,
        /// The limit.
        bytes_max: u64,
    },
    /// The body is transformed although the identity was asked for.
    #[error("the body has content encoding {0:?} although none was asked for")]
    ContentEncoding(String),
    /// A redirect that is not followed.
    #[error("the server redirects {0}")]
    Redirect(String),
    /// The address that the registry redirected to denies access.
    #[error("the address the registry redirected to answers {status}")]
    RedirectDenied {
        /// The status code.
        status: u16,
    },
    /// The registry's demand for credentials cannot be met.
    #[error("{0}")]
    Challenge(String),
    /// The token service's answer is unusable.
    #[error("the token service's answer is unusable: {0}")]
    Token(&'static str),
    /// Credentials cannot be had.
    #[error("{0}")]
    Credentials(String),
    /// The document is not what its digest names, or no image.
    #[error(transparent)]
    Content(ImageError),
    /// The file that says who may serve an image cannot be used.
    #[error("{0}")]
    Hosts(String),
    /// The request itself makes no sense.
    #[error("{0}")]
    Request(&'static str),
}

impl FetchError {
    pub(super) fn new(host: impl Into<String>, cause: Cause) -> Self {
        Self {
            facts: Box::new(Facts {
                class: classify(&cause),
                retry_after: None,
                host: host.into(),
                cause,
            }),
        }
    }

    pub(super) fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.facts.retry_after = retry_after;
        self
    }

    /// What the failure calls for.
    pub fn class(&self) -> Class {
        self.facts.class
    }

    /// How long the server asks to wait (`Retry-After`), unbounded as it was sent.
    pub fn retry_after(&self) -> Option<Duration> {
        self.facts.retry_after
    }

    /// The `host[:port]` that failed; for a redirected request, the last one asked.
    pub fn host(&self) -> &str {
        &self.facts.host
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.facts.cause
    }

    /// The `kind` under which machine-readable output reports this failure.
    pub fn kind(&self) -> &'static str {
        match self.facts.class {
            Class::Auth => "auth",
            Class::NotFound => "not_found",
            Class::RateLimited => "rate_limited",
            Class::Corrupt => "corrupt",
            Class::Retry | Class::Degrade | Class::Fatal => match self.facts.cause {
                Cause::ConnectTimedOut(_)
                | Cause::Connect(_)
                | Cause::Tls(_)
                | Cause::FirstByteTimedOut(_)
                | Cause::DocumentStalled(_)
                | Cause::Connection(_)
                | Cause::BodyTooShort { .. } => "network",
                Cause::Request(_) | Cause::Hosts(_) => "config",
                _ => "registry",
            },
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.facts.host, self.facts.cause)
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.facts.cause.source()
    }
}

/// Why a registry client cannot be made or an image cannot be resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// A request failed for good.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What the registry served is no image we can pull.
    #[error("{host}: {source}")]
    Image {
        /// The registry.
        host: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A file with certificates cannot be used.
    #[error("cannot read certificates from {path}: {message}")]
    Certificates {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(&'static str),
}

impl RegistryError {
    /// The `host[:port]` that failed, if one was asked.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Fetch(error) => Some(error.host()),
            Self::Image { host, .. } => Some(host),
            Self::Certificates { .. } | Self::Tls(_) | Self::Setting(_) => None,
        }
    }

    /// The `kind` under which machine-readable output reports this failure.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Image { .. } => "bad_image",
            Self::Certificates { .. } | Self::Tls(_) | Self::Setting(_) => "config",
        }
    }
}

fn classify(cause: &Cause) -> Class {
    match cause {
        Cause::Status { status, ranged, .. } => classify_status(*status, *ranged),
        Cause::ConnectTimedOut(_)
        | Cause::Connect(_)
        | Cause::FirstByteTimedOut(_)
        | Cause::DocumentStalled(_)
        | Cause::BodyTooShort { .. }
        | Cause::RedirectDenied { .. } => Class::Retry,
        // Certificates and versions do not heal by waiting; a connection that broke in the handshake may.
        Cause::Tls(error) if error.kind() == io::ErrorKind::InvalidData => Class::Fatal,
        Cause::Tls(_) => Class::Retry,
        Cause::Connection(error) if error.is_parse() => Class::Fatal,
        Cause::Connection(_) => Class::Retry,
        Cause::WrongRange(_) => Class::Degrade,
        Cause::WrongLength { .. } | Cause::BodyTooLong { .. } | Cause::Content(_) => Class::Corrupt,
        Cause::Challenge(_) | Cause::Credentials(_) => Class::Auth,
        Cause::HeadersTooLarge { .. }
        | Cause::DocumentTooLarge { .. }
        | Cause::ContentEncoding(_)
        | Cause::Redirect(_)
        | Cause::Token(_)
        | Cause::Hosts(_)
        | Cause::Request(_) => Class::Fatal,
    }
}

/// 400 and 501 to a range are how some gateways say that they serve none.
fn classify_status(status: u16, ranged: bool) -> Class {
    match status {
        400 | 416 | 501 if ranged => Class::Degrade,
        401 | 403 => Class::Auth,
        404 | 410 => Class::NotFound,
        429 => Class::RateLimited,
        501 | 505 => Class::Fatal,
        408 | 425 | 500..=599 => Class::Retry,
        _ => Class::Fatal,
    }
}

/// `: message`, or nothing.
struct Detail<'a>(&'a str);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}
