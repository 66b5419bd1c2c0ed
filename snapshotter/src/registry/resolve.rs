//! From a reference to a verified image: index, manifest, configuration.
//!
//! Whether and when a failed request is repeated is asked of a [`RetryAdvice`]; here is only the sleeping.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::blobs::{Opened, Read};
use super::error::{Cause, FetchError, RegistryError};
use super::origin::{Location, Origin};
use super::{FIRST_SOURCE, Registry};
use crate::digest::Digest;
use crate::image::{
    CONFIG_BYTES_MAX, Descriptor, Document, Image, ImageError, MANIFEST_BYTES_MAX, Manifest,
    MediaKind, Platform, Reference,
};

/// Decides about repetitions of the small requests that come before the layers.
pub trait RetryAdvice: Send + Sync {
    /// How long to wait before trying again after `attempt` failed tries (1 is the first), or nothing to give up.
    fn after(&self, attempt: u32, error: &FetchError) -> Option<Duration>;
}

/// Gives up at once.
#[derive(Clone, Copy, Debug)]
pub struct NoRetry;

impl RetryAdvice for NoRetry {
    fn after(&self, _attempt: u32, _error: &FetchError) -> Option<Duration> {
        None
    }
}

/// A fetched document with the digest of its bytes.
struct Fetched {
    bytes: Bytes,
    digest: Digest,
    content_type: Option<String>,
}

pub(super) async fn resolve(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
    retry: &dyn RetryAdvice,
) -> Result<Image, RegistryError> {
    let origin = registry.origin(reference, FIRST_SOURCE)?;
    let bad_image = |source| RegistryError::Image {
        host: origin.authority(),
        source,
    };
    let target = reference.target();
    let mut fetched = persist(retry, || {
        fetch_manifest(
            registry,
            &origin,
            reference,
            &target,
            reference.digest(),
            None,
        )
    })
    .await?;
    for _ in 0..=INDEX_DEPTH_MAX {
        match Document::parse(&fetched.bytes, fetched.content_type.as_deref()).map_err(bad_image)? {
            Document::Manifest(manifest) => {
                let config =
                    fetch_configuration(registry, &origin, reference, &manifest, retry).await?;
                return Image::assemble(
                    reference.clone(),
                    fetched.digest,
                    fetched.bytes,
                    &config,
                    platform,
                )
                .map_err(bad_image);
            }
            Document::Index(index) => {
                let chosen = index.choose(platform).map_err(bad_image)?;
                let target = chosen.digest.to_string();
                fetched = persist(retry, || {
                    fetch_manifest(
                        registry,
                        &origin,
                        reference,
                        &target,
                        Some(chosen.digest),
                        Some(chosen.size),
                    )
                })
                .await?;
            }
        }
    }
    Err(bad_image(ImageError::TooDeep {
        depth_max: INDEX_DEPTH_MAX,
    }))
}

/// Repeats a step for as long as the advice is to.
async fn persist<T, F>(
    retry: &dyn RetryAdvice,
    mut step: impl FnMut() -> F,
) -> Result<T, FetchError>
where
    F: Future<Output = Result<T, FetchError>>,
{
    let mut attempt = 1;
    loop {
        match step().await {
            Ok(value) => return Ok(value),
            Err(error) => match retry.after(attempt, &error) {
                Some(wait) => {
                    tracing::debug!(%error, attempt, wait_ms = wait.as_millis(), "asking the registry again");
                    tokio::time::sleep(wait).await;
                    attempt = attempt.saturating_add(1);
                }
                None => return Err(error),
            },
        }
    }
}

async fn fetch_manifest(
    registry: &Registry,
    origin: &Origin,
    reference: &Reference,
    target: &str,
    digest: Option<Digest>,
    size: Option<u64>,
) -> Result<Fetched, FetchError> {
    let failed = |cause| FetchError::new(origin.authority(), cause);
    let path = format!("/v2/{}/manifests/{target}", reference.repository());
    let location = Location::new(origin.clone(), &path)
        .ok_or_else(|| failed(Cause::Request("the reference cannot stand in an address")))?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(MediaKind::ACCEPT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut asked = registry
        .inner
        .exchange
        .get(&location, reference.repository(), &headers)
        .await?;
    if asked.answer.head.status != StatusCode::OK {
        return Err(asked.into_error(false).await);
    }
    let bytes = asked
        .answer
        .body
        .collect("manifest", MANIFEST_BYTES_MAX)
        .await
        .map_err(failed)?;
    let headers = &asked.answer.head.headers;
    // By tag, the registry's own word is all there is to check against.
    let digest =
        digest.or_else(|| header(headers, &CONTENT_DIGEST).and_then(|text| text.parse().ok()));
    let expected = Descriptor {
        media_type: String::new(),
        digest: digest.unwrap_or_else(|| Digest::of(&bytes)),
        size: size.unwrap_or(bytes.len() as u64),
        annotations: Default::default(),
    };
    expected
        .verify("manifest", &bytes)
        .map_err(|error| failed(Cause::Content(error)))?;
    Ok(Fetched {
        digest: expected.digest,
        content_type: header(headers, &CONTENT_TYPE).map(str::to_owned),
        bytes,
    })
}

async fn fetch_configuration(
    registry: &Registry,
    origin: &Origin,
    reference: &Reference,
    manifest: &Manifest,
    retry: &dyn RetryAdvice,
) -> Result<Vec<u8>, FetchError> {
    persist(retry, || async {
        let opened = registry
            .open(reference, FIRST_SOURCE, &manifest.config, Read::Whole)
            .await?;
        let (Opened::Whole(mut body) | Opened::Ranged(mut body)) = opened;
        let failed = |cause| FetchError::new(origin.authority(), cause);
        let stall = registry.inner.exchange.connections.first_byte();
        let mut config = Vec::new();
        while let Some(piece) = tokio::time::timeout(stall, body.next())
            .await
            .map_err(|_| failed(Cause::DocumentStalled(stall)))??
        {
            config.extend_from_slice(&piece);
            if config.len() as u64 > CONFIG_BYTES_MAX {
                return Err(failed(Cause::DocumentTooLarge {
                    what: "configuration",
                    bytes_max: CONFIG_BYTES_MAX,
                }));
            }
        }
        manifest
            .config
            .verify("configuration", &config)
            .map_err(|error| failed(Cause::Content(error)))?;
        Ok(config)
    })
    .await
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An index of indexes is allowed by the specification; more than that nobody makes.
const INDEX_DEPTH_MAX: usize = 3;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
