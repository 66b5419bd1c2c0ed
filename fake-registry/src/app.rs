//! Answers requests: which object, may it be had, in which bytes, and what goes wrong on the way.

mod answer;
mod path;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{Auth, FaultKind, Redirect};

use crate::auth::{self, Gate};
use crate::connection::{ConnectionFactory, ConnectionHandle};
use crate::fault::{FaultBook, Subject};
use crate::journal::{Journal, JournalEntry, JournalPen, Origin, RequestKind};
use crate::layout::{Document, OciLayout};
use crate::throttle::{RequestLimit, TokenBucket};
use answer::{Answer, Object};
use path::{kind_of, percent_decoded, repository_of};

/// One registry: what it has, how it behaves, what it saw.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) profile: RegistryProfile,
    pub(crate) gate: Gate,
    pub(crate) faults: FaultBook,
    pub(crate) journal: Journal,
    pub(crate) total: Option<Arc<TokenBucket>>,
    pub(crate) requests: Option<RequestLimit>,
    pub(crate) connections: Arc<ConnectionFactory>,
    /// `host:port` of the second origin, once known.
    pub(crate) storage_authority: OnceLock<String>,
}

/// The images of one name.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Digests of roots by tag.
    pub(crate) tags: BTreeMap<String, String>,
    /// Manifests and indexes by digest.
    pub(crate) documents: BTreeMap<String, Document>,
    pub(crate) layouts: Vec<OciLayout>,
}

/// The application of one origin.
pub(crate) fn router(registry: Arc<Registry>, origin: Origin) -> Router {
    Router::new()
        .fallback(handle)
        .with_state((registry, origin))
}

async fn handle(
    State((registry, origin)): State<(Arc<Registry>, Origin)>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let connection = parts
        .extensions
        .get::<Arc<ConnectionHandle>>()
        .cloned()
        .unwrap_or_default();
    let asked = Asked {
        origin,
        kind: kind_of(origin, parts.uri.path()),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        path_and_query: parts
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        repository: repository_of(parts.uri.path()),
        method: parts.method,
        headers: parts.headers,
        connection,
    };
    let pen = registry
        .journal
        .open(asked.journal_entry(registry.journal.elapsed()));
    registry.answer(&asked, pen).await
}

/// A request, read.
pub(crate) struct Asked {
    origin: Origin,
    kind: RequestKind,
    query: String,
    path_and_query: String,
    repository: Option<String>,
    method: Method,
    headers: HeaderMap,
    connection: Arc<ConnectionHandle>,
}

impl Asked {
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn host(&self) -> &str {
        self.header(header::HOST).unwrap_or("localhost")
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    fn journal_entry(&self, asked_at: Duration) -> JournalEntry {
        let scheme = self
            .header(header::AUTHORIZATION)
            .and_then(|value| value.split(' ').next());
        JournalEntry {
            origin: self.origin,
            connection: self.connection.id,
            method: self.method.to_string(),
            path: self.path_and_query.clone(),
            kind: self.kind.clone(),
            range_header: self.header(header::RANGE).map(str::to_owned),
            range: None,
            authorization_scheme: scheme.map(str::to_owned),
            status: 0,
            body_bytes: 0,
            complete: false,
            fault: None,
            asked_at,
            ended_at: None,
        }
    }
}

impl Registry {
    async fn answer(&self, asked: &Asked, pen: JournalPen) -> Response {
        let answer = self.decide(asked);
        let wait_ms = self.profile.first_byte_ms_at(latency_draw_permille(asked));
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(u64::from(wait_ms))).await;
        }
        self.send(asked, answer, pen)
    }

    fn decide(&self, asked: &Asked) -> Answer {
        let limit = self
            .requests
            .as_ref()
            .filter(|_| asked.origin == Origin::Registry);
        if limit.is_some_and(|limit| !limit.admit()) {
            return Answer::error(
                StatusCode::TOO_MANY_REQUESTS,
                "TOOMANYREQUESTS",
                "too many requests",
            )
            .with_retry_after(self.profile.retry_after_seconds);
        }
        if asked.method != Method::GET && asked.method != Method::HEAD {
            return Answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this registry can only be pulled from",
            );
        }
        if asked.origin == Origin::Registry && asked.kind != RequestKind::Token {
            let authorization = asked.header(header::AUTHORIZATION);
            let now = self.journal.elapsed();
            let repository = asked.repository.as_deref();
            if let Err(challenge) = self
                .gate
                .check(authorization, repository, asked.host(), now)
            {
                return Answer::error(
                    StatusCode::UNAUTHORIZED,
                    "UNAUTHORIZED",
                    "authentication required",
                )
                .with_header(header::WWW_AUTHENTICATE, &challenge);
            }
        }
        match &asked.kind {
            RequestKind::Ping => self.ping(asked),
            RequestKind::Token => self.token(asked),
            RequestKind::Manifest { name, reference } => self.manifest(asked, name, reference),
            RequestKind::Blob { digest } if asked.origin == Origin::Storage => {
                self.stored_blob(asked, digest)
            }
            RequestKind::Blob { digest } => self.blob(asked, digest),
            RequestKind::Other => self.other(asked),
        }
    }

    fn ping(&self, asked: &Asked) -> Answer {
        let fault = self.faults.meet(&Subject::Ping, &(0..2));
        self.with_fault(asked, Answer::json(b"{}".to_vec()), fault)
    }

    fn token(&self, asked: &Asked) -> Answer {
        if !matches!(self.profile.auth, Auth::Token { .. }) {
            return Answer::error(
                StatusCode::NOT_FOUND,
                "UNSUPPORTED",
                "this registry has no tokens",
            );
        }
        let fault = self.faults.meet(&Subject::Token, &(0..1));
        let scopes: Vec<String> = asked
            .query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="))
            .map(percent_decoded)
            .collect();
        let authorization = asked.header(header::AUTHORIZATION);
        let granted = self
            .gate
            .grant(authorization, &scopes.join(" "), self.journal.elapsed());
        let answer = match granted {
            Some(granted) => Answer::json(
                serde_json::json!({
                    "token": granted.token,
                    "access_token": granted.token,
                    "expires_in": granted.expires_seconds,
                })
                .to_string()
                .into_bytes(),
            ),
            None => Answer::error(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "wrong user or password",
            ),
        };
        self.with_fault(asked, answer, fault)
    }

    fn manifest(&self, asked: &Asked, name: &str, reference: &str) -> Answer {
        let Some(repository) = self.repositories.get(name) else {
            return Answer::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository");
        };
        let digest = repository
            .tags
            .get(reference)
            .map_or(reference, String::as_str);
        let Some(document) = repository.documents.get(digest) else {
            return Answer::error(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                "no such manifest",
            );
        };
        let length = document.bytes.len() as u64;
        let fault = self.faults.meet(&Subject::Manifest(digest), &(0..length));
        let answer = Answer::object(Object::document(document))
            .with_header(header::CONTENT_TYPE, &document.media_type)
            .with_digest(digest);
        self.with_fault(asked, answer, fault)
    }

    fn blob(&self, asked: &Asked, digest: &str) -> Answer {
        let repository = asked
            .repository
            .as_ref()
            .and_then(|name| self.repositories.get(name));
        let Some(repository) = repository else {
            return Answer::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository");
        };
        if let Redirect::SecondOrigin { expires_seconds } = self.profile.redirect {
            let expires = self.journal.elapsed() + Duration::from_secs(u64::from(expires_seconds));
            let expires_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
            let path = auth::signed_path(digest, expires_ms);
            let authority = self
                .storage_authority
                .get()
                .map_or(asked.host(), String::as_str);
            return Answer::empty(StatusCode::TEMPORARY_REDIRECT)
                .with_header(header::LOCATION, &format!("http://{authority}{path}"));
        }
        self.blob_in(asked, digest, std::iter::once(repository))
    }

    /// An object store: signed addresses only, and no second way to say who you are.
    fn stored_blob(&self, asked: &Asked, digest: &str) -> Answer {
        if asked.header(header::AUTHORIZATION).is_some() {
            return Answer::error(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "a signed address and an Authorization header exclude each other",
            );
        }
        if !auth::signature_holds(digest, &asked.query, self.journal.elapsed()) {
            return Answer::error(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "the address has expired",
            );
        }
        self.blob_in(asked, digest, self.repositories.values())
    }

    fn blob_in<'a>(
        &self,
        asked: &Asked,
        digest: &str,
        repositories: impl Iterator<Item = &'a Repository>,
    ) -> Answer {
        let mut layouts = repositories.flat_map(|repository| &repository.layouts);
        let opened = layouts.find_map(|layout| Object::open(layout, digest));
        let Some(object) = opened else {
            return Answer::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob");
        };
        let answer =
            Answer::object(object).with_header(header::CONTENT_TYPE, "application/octet-stream");
        // An object store knows nothing of the distribution API, so clients must not rely on its headers there.
        let answer = match asked.origin {
            Origin::Registry => answer.with_digest(digest),
            Origin::Storage => answer,
        };
        let answer = answer.with_range(self.profile.ranges, asked.header(header::RANGE));
        if asked.is_head() {
            return answer;
        }
        let fault = self
            .faults
            .meet(&Subject::Blob(digest), &answer.asked_range());
        self.with_fault(asked, answer, fault)
    }

    fn other(&self, asked: &Asked) -> Answer {
        let path = asked.path_and_query.split('?').next().unwrap_or_default();
        if asked.origin == Origin::Registry && path == "/v2/_catalog" {
            let names: Vec<&String> = self.repositories.keys().collect();
            return Answer::json(
                serde_json::json!({ "repositories": names })
                    .to_string()
                    .into_bytes(),
            );
        }
        let name = path
            .strip_prefix("/v2/")
            .and_then(|rest| rest.strip_suffix("/tags/list"));
        match name.and_then(|name| {
            self.repositories
                .get(name)
                .map(|repository| (name, repository))
        }) {
            Some((name, repository)) => {
                let tags: Vec<&String> = repository.tags.keys().collect();
                Answer::json(
                    serde_json::json!({ "name": name, "tags": tags })
                        .to_string()
                        .into_bytes(),
                )
            }
            None => Answer::error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such path"),
        }
    }

    fn with_fault(&self, asked: &Asked, answer: Answer, fault: Option<FaultKind>) -> Answer {
        let Some(kind) = fault else {
            return answer;
        };
        let spoiled = answer.spoiled_by(kind);
        match kind {
            FaultKind::Status { code: 401, .. } => {
                let challenge = self
                    .gate
                    .challenge(asked.repository.as_deref(), asked.host());
                spoiled.with_header(header::WWW_AUTHENTICATE, &challenge)
            }
            _ => spoiled,
        }
    }

    fn send(&self, asked: &Asked, answer: Answer, pen: JournalPen) -> Response {
        tracing::info!(
            connection = asked.connection.id,
            method = %asked.method,
            // The query may hold a signature.
            path = asked.path_and_query.split('?').next().unwrap_or_default(),
            range = asked.header(header::RANGE).unwrap_or_default(),
            status = answer.status().as_u16(),
            fault = ?answer.fault(),
        );
        let buckets = [&asked.connection.bucket, &self.total];
        let buckets = buckets.into_iter().flatten().cloned().collect();
        let answer = match asked.origin {
            Origin::Registry => answer.with_header(
                HeaderName::from_static("docker-distribution-api-version"),
                "registry/2.0",
            ),
            Origin::Storage => answer,
        };
        answer
            .into_response(asked.is_head(), buckets, &asked.connection, pen)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "an answer could not be built");
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            })
    }
}

/// The same request always draws the same latency: FNV-1a over what is asked for.
fn latency_draw_permille(asked: &Asked) -> u32 {
    let range = asked.header(header::RANGE).unwrap_or_default();
    let path = asked.path_and_query.split('?').next().unwrap_or_default();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in path.bytes().chain(range.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u32::try_from((hash >> 20) % 1_000).unwrap_or(0)
}
