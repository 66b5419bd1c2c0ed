//! From a reference to a verified image: index, manifest, configuration.
//!
//! Whether and when a failed request is repeated is asked of a [`RetryAdvice`]; here is only the sleeping.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Registry;
use super::blobs::{Opened, Read};
use super::error::{Cause, FetchError, RegistryError};
use super::hosts::Source;
use crate::digest::Digest;
use crate::image::{
    Descriptor, Document, DocumentKind, Image, ImageError, MANIFEST_BYTES_MAX, MediaKind, Platform,
    Reference, SourceDocument,
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

/// An image with everything it was resolved from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The platform's image.
    pub image: Image,
    /// What the reference names, then what each document led to: indexes, the manifest, the configuration.
    pub documents: Vec<SourceDocument>,
}

/// A fetched document with the digest of its bytes.
struct Fetched {
    bytes: Bytes,
    digest: Digest,
    content_type: Option<String>,
    host: String,
}

/// Which document is wanted.
struct Wanted {
    /// The tag or digest.
    name: String,
    digest: Option<Digest>,
    size: Option<u64>,
}

pub(super) async fn resolve(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
    retry: &dyn RetryAdvice,
) -> Result<Resolved, RegistryError> {
    let sources = registry.known_sources(reference)?;
    let client = Client {
        registry,
        reference,
        sources: &sources,
        retry,
    };
    let mut wanted = Wanted {
        name: reference.target(),
        digest: reference.digest(),
        size: None,
    };
    let mut host = String::new();
    let mut documents = Vec::new();
    for _ in 0..=INDEX_DEPTH_MAX {
        let fetched = client.manifest(&wanted).await?;
        host.clone_from(&fetched.host);
        let bad_image = |source| RegistryError::Image {
            host: host.clone(),
            source,
        };
        let content_type = fetched.content_type.as_deref();
        let document = Document::parse(&fetched.bytes, content_type).map_err(bad_image)?;
        let (digest, bytes) = (fetched.digest, fetched.bytes);
        documents.push(SourceDocument::answered(
            &document,
            digest,
            bytes.clone(),
            content_type,
        ));
        match document {
            Document::Manifest(manifest) => {
                let config = Bytes::from(client.configuration(&manifest.config).await?);
                let image = Image::assemble(reference.clone(), digest, bytes, &config, platform);
                documents.push(SourceDocument {
                    kind: DocumentKind::Configuration,
                    media_type: manifest.config.media_type,
                    digest: manifest.config.digest,
                    bytes: config,
                });
                let image = image.map_err(bad_image)?;
                return Ok(Resolved { image, documents });
            }
            Document::Index(index) => {
                let chosen = index.choose(platform).map_err(bad_image)?;
                wanted = Wanted {
                    name: chosen.digest.to_string(),
                    digest: Some(chosen.digest),
                    size: Some(chosen.size),
                };
            }
        }
    }
    let source = ImageError::TooDeep {
        depth_max: INDEX_DEPTH_MAX,
    };
    Err(RegistryError::Image { host, source })
}

/// What the steps of resolving one reference share.
struct Client<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    sources: &'a [Source],
    retry: &'a dyn RetryAdvice,
}

impl Client<'_> {
    async fn manifest(&self, wanted: &Wanted) -> Result<Fetched, FetchError> {
        // What a digest names, anybody may serve; what a tag names, only those whose word counts.
        let may_serve = |index: &usize| wanted.digest.is_some() || self.sources[*index].resolves;
        let indices: Vec<_> = (0..self.sources.len()).filter(may_serve).collect();
        self.persist(&indices, |index| {
            self.manifest_from(&self.sources[index], wanted)
        })
        .await
    }

    async fn configuration(&self, config: &Descriptor) -> Result<Vec<u8>, FetchError> {
        let indices: Vec<_> = (0..self.sources.len()).collect();
        self.persist(&indices, |index| self.configuration_from(index, config))
            .await
    }

    /// Asks one source after the other, and all of them again for as long as the advice is to.
    async fn persist<T, F>(
        &self,
        indices: &[usize],
        mut ask: impl FnMut(usize) -> F,
    ) -> Result<T, FetchError>
    where
        F: Future<Output = Result<T, FetchError>>,
    {
        let mut attempt = 1;
        loop {
            let mut outcome = Err(self.nobody());
            for index in indices {
                outcome = ask(*index).await;
                match &outcome {
                    Ok(_) => break,
                    Err(error) => tracing::debug!(%error, attempt, "a source failed"),
                }
            }
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(wait) = self.retry.after(attempt, &error) else {
                return Err(error);
            };
            tokio::time::sleep(wait).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn manifest_from(&self, source: &Source, wanted: &Wanted) -> Result<Fetched, FetchError> {
        let host = source.origin.authority();
        let failed = |cause| FetchError::new(host.clone(), cause);
        let repository = self.reference.repository();
        let location = source
            .location(repository, "manifests", &wanted.name)
            .ok_or_else(|| failed(Cause::Request("the reference cannot stand in an address")))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MediaKind::ACCEPT));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut asked = self
            .registry
            .inner
            .exchange
            .get(&location, source.target(repository), &headers)
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
        let said = || header(headers, &CONTENT_DIGEST).and_then(|text| text.parse().ok());
        let expected = Descriptor {
            media_type: String::new(),
            digest: wanted
                .digest
                .or_else(said)
                .unwrap_or_else(|| Digest::of(&bytes)),
            size: wanted.size.unwrap_or(bytes.len() as u64),
            annotations: Default::default(),
        };
        expected
            .verify("manifest", &bytes)
            .map_err(|error| failed(Cause::Content(error)))?;
        Ok(Fetched {
            digest: expected.digest,
            content_type: header(headers, &CONTENT_TYPE).map(str::to_owned),
            bytes,
            host,
        })
    }

    async fn configuration_from(
        &self,
        source: usize,
        config: &Descriptor,
    ) -> Result<Vec<u8>, FetchError> {
        let opened = self
            .registry
            .open(self.reference, source, config, Read::Whole)
            .await?;
        let (Opened::Whole(mut body) | Opened::Ranged(mut body)) = opened;
        let host = self.sources[source].origin.authority();
        let failed = |cause| FetchError::new(host.clone(), cause);
        let stall = self.registry.inner.exchange.connections.first_byte();
        let mut bytes = Vec::new();
        // The body ends after `config.size` bytes, which the manifest's parser has bounded.
        while let Some(piece) = tokio::time::timeout(stall, body.next())
            .await
            .map_err(|_| failed(Cause::DocumentStalled(stall)))??
        {
            bytes.extend_from_slice(&piece);
        }
        config
            .verify("configuration", &bytes)
            .map_err(|error| failed(Cause::Content(error)))?;
        Ok(bytes)
    }

    fn nobody(&self) -> FetchError {
        FetchError::new(
            self.reference.traffic_host(),
            Cause::Request("no source may resolve tags"),
        )
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An index of indexes is allowed by the specification; more than that nobody makes.
const INDEX_DEPTH_MAX: usize = 3;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
