//! One request to a registry: the demand for credentials is met once, redirects are followed, facts come back.
//!
//! `Authorization` is sent to the registry's own origin only, and no more once a redirect has left it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;

use super::authorization::{Authorizer, Grant, Target};
use super::challenge::Challenge;
use super::connections::{Answer, Connections};
use super::error::{Cause, FetchError};
use super::origin::{Location, Origin, Scheme};

/// Sends requests as one identity.
pub(super) struct Exchange {
    pub(super) connections: Connections,
    pub(super) authorizer: Authorizer,
    pub(super) user_agent: HeaderValue,
}

/// An answer, and where it came from in the end.
pub(super) struct Asked {
    pub(super) answer: Answer,
    pub(super) location: Location,
    /// Whether a redirect has left the registry's origin, so that no credentials were shown.
    pub(super) left_origin: bool,
    /// Whether nobody in particular asked: a registry that refuses then may be missing a login.
    pub(super) anonymous: bool,
}

impl Exchange {
    /// Asks the registry for a path below a repository. Any final status is an answer, redirects excepted.
    ///
    /// A grant from an earlier request may have ended without the registry calling it a 401 (some answer 403), so either
    /// renews it once.
    pub(super) async fn get(
        &self,
        location: &Location,
        target: Target<'_>,
        headers: &HeaderMap,
    ) -> Result<Asked, FetchError> {
        let grant = self.authorizer.current(target).await?;
        let asked = self
            .follow(location.clone(), grant.as_ref(), false, headers)
            .await?;
        let challenge = match asked.answer.head.status {
            _ if asked.left_origin => None,
            StatusCode::UNAUTHORIZED => Challenge::of(&asked.answer.head.headers),
            StatusCode::FORBIDDEN => grant.as_ref().map(|grant| grant.challenge.clone()),
            _ => None,
        };
        let Some(challenge) = challenge else {
            return Ok(asked);
        };
        asked.answer.body.discard().await;
        let refused = grant.map(|grant| grant.generation);
        let grant = self.authorizer.answer(target, challenge, refused).await?;
        self.follow(location.clone(), Some(&grant), false, headers)
            .await
    }

    /// Asks an address that a registry redirected to before; nobody's credentials are shown to it.
    pub(super) async fn get_foreign(
        &self,
        location: &Location,
        headers: &HeaderMap,
    ) -> Result<Asked, FetchError> {
        self.follow(location.clone(), None, true, headers).await
    }

    async fn follow(
        &self,
        start: Location,
        grant: Option<&Grant>,
        foreign: bool,
        headers: &HeaderMap,
    ) -> Result<Asked, FetchError> {
        let mut location = start;
        let mut left_origin = foreign;
        for hop in 0..=HOPS_MAX {
            let failed = |cause| FetchError::new(location.origin.authority(), cause);
            let mut request = request(Method::GET, &location, Bytes::new()).map_err(failed)?;
            request.headers_mut().extend(headers.clone());
            request
                .headers_mut()
                .insert(USER_AGENT, self.user_agent.clone());
            if let Some(grant) = grant
                && !left_origin
            {
                request
                    .headers_mut()
                    .insert(AUTHORIZATION, grant.header.clone());
            }
            let answer = self.connections.send(&location.origin, request).await?;
            if !is_redirect(answer.head.status) {
                return Ok(Asked {
                    answer,
                    location,
                    left_origin,
                    anonymous: grant.is_none_or(|grant| grant.anonymous),
                });
            }
            if hop == HOPS_MAX {
                return Err(failed(Cause::Redirect(format!(
                    "more than {HOPS_MAX} times"
                ))));
            }
            let next = next_location(&location, &answer).map_err(failed)?;
            answer.body.discard().await;
            left_origin |= next.origin != location.origin;
            location = next;
        }
        Err(FetchError::new(
            location.origin.authority(),
            Cause::Redirect("without end".to_owned()),
        ))
    }
}

/// A request in origin form with its `Host`.
pub(super) fn request(
    method: Method,
    location: &Location,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Cause> {
    Request::builder()
        .method(method)
        .uri(location.path.as_str())
        .header(HOST, location.origin.authority())
        .body(Full::new(body))
        .map_err(|_| Cause::Request("the address cannot stand in a request"))
}

impl Asked {
    /// Turns an answer nobody can use into an error.
    ///
    /// Only the registry itself is quoted: stores quote the signed request back. A refusal elsewhere concerns the signed
    /// address and not the credentials.
    pub(super) async fn into_error(self, ranged: bool) -> FetchError {
        let status = self.answer.head.status;
        if self.left_origin && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let status = status.as_u16();
            return FetchError::new(
                self.location.origin.authority(),
                Cause::RedirectDenied { status },
            );
        }
        let voice = match (self.left_origin, self.anonymous) {
            (true, _) => Voice::Silent,
            (false, true) => Voice::QuotedToNobody,
            (false, false) => Voice::Quoted,
        };
        status_error(&self.location.origin, self.answer, ranged, voice).await
    }
}

/// How much of an error document is repeated in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Nothing.
    Silent,
    /// Its first error.
    Quoted,
    /// Its first error; and if it is a refusal, that it was told to nobody in particular.
    QuotedToNobody,
}

/// Turns an answer nobody can use into an error, with what its document says.
pub(super) async fn status_error(
    origin: &Origin,
    mut answer: Answer,
    ranged: bool,
    voice: Voice,
) -> FetchError {
    let status = answer.head.status;
    let retry_after = retry_after(&answer.head.headers, SystemTime::now());
    let mut message = String::new();
    if voice == Voice::Silent {
        answer.body.discard().await;
    } else if let Ok(document) = answer.body.collect("error", ERROR_BYTES_MAX).await {
        message = error_message(&document);
    }
    if voice == Voice::QuotedToNobody
        && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    {
        let separator = if message.is_empty() { "" } else { " " };
        message = format!("{message}{separator}(there are no credentials for this registry)");
    }
    let cause = Cause::Status {
        status: status.as_u16(),
        message,
        ranged,
    };
    FetchError::new(origin.authority(), cause).with_retry_after(retry_after)
}

/// `Retry-After` as a time to wait: seconds, or an HTTP date relative to `now`. Unreadable ones are ignored.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

fn next_location(from: &Location, answer: &Answer) -> Result<Location, Cause> {
    let value = answer
        .head
        .headers
        .get(LOCATION)
        .ok_or_else(|| Cause::Redirect("without saying where".to_owned()))?;
    let next = value
        .to_str()
        .ok()
        .and_then(|text| from.join(text))
        .ok_or_else(|| Cause::Redirect("to an unusable address".to_owned()))?;
    if from.origin.scheme == Scheme::Https && next.origin.scheme == Scheme::Http {
        return Err(Cause::Redirect(format!(
            "from https to {}, which is refused",
            next.origin
        )));
    }
    Ok(next)
}

/// `code: message` of the first error of a registry's error document, made fit for one line.
fn error_message(document: &[u8]) -> String {
    let Ok(Errors { errors }) = serde_json::from_slice(document) else {
        return String::new();
    };
    let Some(first) = errors.into_iter().next() else {
        return String::new();
    };
    let text = [first.code, first.message]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ");
    text.chars()
        .filter(|character| !character.is_control())
        .take(MESSAGE_CHARACTERS_MAX)
        .collect()
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

const HOPS_MAX: usize = 5;
const ERROR_BYTES_MAX: u64 = 64 << 10;
const MESSAGE_CHARACTERS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_retry_after() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        let table = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ];
        for (text, seconds) in table {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(
                retry_after(&headers, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn quotes_the_registry_in_one_line() {
        let document =
            br#"{"errors":[{"code":"DENIED","message":"no\npull","detail":{}},{"code":"X"}]}"#;
        assert_eq!(error_message(document), "DENIED: nopull");
        for odd in [
            &b"<html>"[..],
            b"{}",
            br#"{"errors":[]}"#,
            br#"{"errors":[{}]}"#,
        ] {
            assert_eq!(error_message(odd), "");
        }
    }
}
