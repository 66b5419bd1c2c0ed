//! Blobs: ranges with their proof, whole reads, and where redirects led.
//!
//! A range is proven by `206` and a `Content-Range` that names exactly it and the blob's size, whatever `Accept-Ranges` says.
//! What to do with a server that serves none is not decided here.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::body::Body;
use super::error::{Cause, Class, FetchError};
use super::exchange::{Asked, Exchange};
use super::hosts::Source;
use super::origin::{Location, Origin};
use crate::digest::Digest;
use crate::image::Descriptor;

/// How much of a blob is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// These bytes; the range is not empty and lies within the blob.
    Ranged(Range<u64>),
    /// All bytes.
    Whole,
}

/// What the server agreed to.
#[derive(Debug)]
pub enum Opened {
    /// Exactly the range asked for.
    Ranged(Body),
    /// The blob from its first byte: it was asked for, or the server ignored the range.
    Whole(Body),
}

/// Where the blobs of repositories were found, so that further ranges need one request instead of two.
///
/// The addresses are signed and die after a while; whoever sees one fail forgets it.
#[derive(Default)]
pub(super) struct Redirects {
    known: Mutex<HashMap<Key, Location>>,
}

/// The blob of a repository on a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    registry: Origin,
    repository: String,
    digest: Digest,
}

pub(super) async fn open(
    exchange: &Exchange,
    redirects: &Redirects,
    source: &Source,
    repository: &str,
    blob: &Descriptor,
    read: Read,
) -> Result<Opened, FetchError> {
    let failed = |cause| FetchError::new(source.origin.authority(), cause);
    let headers = headers(&read, blob).map_err(failed)?;
    let location = source
        .location(repository, "blobs", &blob.digest.to_string())
        .ok_or_else(|| failed(Cause::Request("the blob's name cannot stand in an address")))?;
    let key = Key {
        registry: source.origin.clone(),
        repository: repository.to_owned(),
        digest: blob.digest,
    };
    if let Some(opened) = open_redirected(exchange, redirects, &key, blob, &read, &headers).await? {
        return Ok(opened);
    }
    let asked = exchange
        .get(&location, source.target(repository), &headers)
        .await?;
    let target = asked.left_origin.then(|| asked.location.clone());
    let opened = judge(asked, blob, &read).await?;
    if let Some(target) = target {
        redirects.remember(key, target);
    }
    Ok(opened)
}

/// Asks where the blob was found before; nothing if that is not known or if the address seems to have expired.
async fn open_redirected(
    exchange: &Exchange,
    redirects: &Redirects,
    key: &Key,
    blob: &Descriptor,
    read: &Read,
    headers: &HeaderMap,
) -> Result<Option<Opened>, FetchError> {
    let Some(target) = redirects.known(key) else {
        return Ok(None);
    };
    let asked = match exchange.get_foreign(&target, headers).await {
        Ok(asked) => asked,
        Err(error) => {
            redirects.forget(key, &target);
            return Err(error);
        }
    };
    if EXPIRED.contains(&asked.answer.head.status) {
        redirects.forget(key, &target);
        asked.answer.body.discard().await;
        return Ok(None);
    }
    let opened = judge(asked, blob, read).await;
    if let Err(error) = &opened
        && !matches!(error.class(), Class::RateLimited | Class::Degrade)
    {
        redirects.forget(key, &target);
    }
    opened.map(Some)
}

/// Decides what an answer is.
async fn judge(asked: Asked, blob: &Descriptor, read: &Read) -> Result<Opened, FetchError> {
    let host = asked.location.origin.authority();
    let failed = |cause| FetchError::new(host.clone(), cause);
    match (asked.answer.head.status, read) {
        (StatusCode::OK, Read::Whole | Read::Ranged(_)) => {
            whole(asked, blob).map(Opened::Whole).map_err(failed)
        }
        (StatusCode::PARTIAL_CONTENT, Read::Ranged(range)) => {
            let body = ranged(asked, blob, range).map_err(failed)?;
            Ok(Opened::Ranged(body))
        }
        (StatusCode::PARTIAL_CONTENT, Read::Whole)
            if is_range(&asked.answer.head.headers, &(0..blob.size), blob.size) =>
        {
            whole(asked, blob).map(Opened::Whole).map_err(failed)
        }
        (_, read) => Err(asked.into_error(matches!(read, Read::Ranged(_))).await),
    }
}

fn whole(asked: Asked, blob: &Descriptor) -> Result<Body, Cause> {
    check_encoding(&asked.answer.head.headers)?;
    if let Some(actual) = asked.answer.body.length()
        && actual != blob.size
    {
        return Err(Cause::WrongLength {
            expected: blob.size,
            actual,
        });
    }
    Ok(Body::new(
        asked.answer.body,
        asked.location.origin.authority(),
        blob.size,
    ))
}

fn ranged(asked: Asked, blob: &Descriptor, range: &Range<u64>) -> Result<Body, Cause> {
    let headers = &asked.answer.head.headers;
    check_encoding(headers)?;
    if !is_range(headers, range, blob.size) {
        return Err(Cause::WrongRange(shown_range(headers)));
    }
    let expected = range.end - range.start;
    match asked.answer.body.length() {
        Some(actual) if actual != expected => Err(Cause::WrongRange(format!(
            "{actual} bytes instead of {expected}"
        ))),
        Some(_) | None => Ok(Body::new(
            asked.answer.body,
            asked.location.origin.authority(),
            expected,
        )),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Cause> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        if !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "identity") {
            return Err(Cause::ContentEncoding(text.chars().take(40).collect()));
        }
    }
    Ok(())
}

/// Whether `Content-Range` names exactly this range of a blob of this size.
fn is_range(headers: &HeaderMap, range: &Range<u64>, size: u64) -> bool {
    let mut values = headers.get_all(CONTENT_RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    value.to_str().ok().and_then(content_range) == Some((range.clone(), size))
}

/// Parses `bytes first-last/total`; a total of `*` proves nothing and is refused.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = digits(last)?.checked_add(1)?;
    Some((digits(first)?..end, digits(total)?))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn shown_range(headers: &HeaderMap) -> String {
    match headers.get(CONTENT_RANGE) {
        Some(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            let shown: String = text
                .chars()
                .filter(|character| !character.is_control())
                .take(80)
                .collect();
            format!("content range {shown:?}")
        }
        None => "status 206 without a content range".to_owned(),
    }
}

fn headers(read: &Read, blob: &Descriptor) -> Result<HeaderMap, Cause> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Read::Ranged(range) = read {
        if range.is_empty() || range.end > blob.size {
            return Err(Cause::Request("the range is empty or outside of the blob"));
        }
        let text = format!("bytes={}-{}", range.start, range.end - 1);
        headers.insert(
            RANGE,
            HeaderValue::try_from(text)
                .map_err(|_| Cause::Request("the range cannot stand in a header"))?,
        );
    }
    Ok(headers)
}

impl Redirects {
    fn known(&self, key: &Key) -> Option<Location> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    fn remember(&self, key: Key, target: Location) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REDIRECTS_MAX {
            known.clear();
        }
        known.insert(key, target);
    }

    /// Forgets the address that failed, but not a newer one.
    fn forget(&self, key: &Key, failed: &Location) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(key) == Some(failed) {
            known.remove(key);
        }
    }
}

/// How stores answer a signed address that has expired; S3 says 400 for an expired token.
const EXPIRED: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::GONE,
];
/// A thousand layers are an image; this is a few of those, at some KiB per signed address.
const REDIRECTS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exact_content_range_is_proof() {
        let table: [(&[&'static str], bool); 16] = [
            (&["bytes 10-19/100"], true),
            (&["Bytes 10-19/100"], true),
            (&[" bytes  10-19/100 "], true),
            (&["bytes 10-19/*"], false),
            (&["bytes 10-18/100"], false),
            (&["bytes 11-19/100"], false),
            (&["bytes 10-19/99"], false),
            (&["bytes 10-19"], false),
            (&["bytes */100"], false),
            (&["items 10-19/100"], false),
            (&["bytes +10-19/100"], false),
            (&["bytes 10-18446744073709551615/100"], false),
            (&["bytes 99999999999999999999-19/100"], false),
            (&["bytes 10-19/100", "bytes 10-19/100"], false),
            (&[""], false),
            (&[], false),
        ];
        for (values, expected) in table {
            let headers: HeaderMap = values
                .iter()
                .map(|value| (CONTENT_RANGE, HeaderValue::from_static(value)))
                .fold(HeaderMap::new(), |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                });
            assert_eq!(is_range(&headers, &(10..20), 100), expected, "{values:?}");
        }
    }
}
