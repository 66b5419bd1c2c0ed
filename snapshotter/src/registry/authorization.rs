//! Tokens: one per registry, repository and demand, fetched once for all who need it.
//!
//! A grant is bound to the origin it was made for; whoever sends requests must not show it to another one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::connections::Connections;
use super::credentials::{Credentials, Login, basic};
use super::error::{Cause, FetchError};
use super::exchange::{self, Voice};
use super::origin::{Location, Origin, Scheme, percent_encoded};

/// Meets the demands of registries.
pub(super) struct Authorizer {
    connections: Connections,
    credentials: Credentials,
    user_agent: HeaderValue,
    slots: Mutex<HashMap<(Origin, String), Arc<Slot>>>,
}

/// Where a demand comes from.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) registry: &'a Origin,
    pub(super) repository: &'a str,
    /// Whether the host is the registry itself and no mirror.
    pub(super) own: bool,
}

/// What to send as `Authorization`, and which fetch it came from.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) header: HeaderValue,
    pub(super) generation: u64,
    /// The demand it meets.
    pub(super) challenge: Challenge,
    /// Whether it was had without credentials.
    pub(super) anonymous: bool,
    expires: Option<Instant>,
}

/// What a demand was met with.
struct Met {
    header: HeaderValue,
    anonymous: bool,
    expires: Option<Instant>,
}

/// All grants of one repository. Its lock is held while a token is fetched: that is what makes the flight a single one.
#[derive(Default)]
struct Slot {
    state: tokio::sync::Mutex<State>,
    flights_ended: AtomicU64,
}

#[derive(Default)]
struct State {
    latest: Option<Challenge>,
    grants: HashMap<Challenge, Grant>,
    generation: u64,
    failure: Option<(u64, FetchError)>,
}

impl Authorizer {
    pub(super) fn new(
        connections: Connections,
        credentials: Credentials,
        user_agent: HeaderValue,
    ) -> Self {
        Self {
            connections,
            credentials,
            user_agent,
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// The grant to send without being asked, renewed if it has expired; nothing before the first demand.
    pub(super) async fn current(&self, target: Target<'_>) -> Result<Option<Grant>, FetchError> {
        let slot = self.slot(target);
        let flights_seen = slot.flights_ended.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        let Some(challenge) = state.latest.clone() else {
            return Ok(None);
        };
        self.grant(&slot, &mut state, flights_seen, target, challenge, None)
            .await
            .map(Some)
    }

    /// Answers a demand. `refused` is the generation of the grant that was sent and refused, if one was.
    ///
    /// If somebody else has met the same demand since, theirs is the answer.
    pub(super) async fn answer(
        &self,
        target: Target<'_>,
        challenge: Challenge,
        refused: Option<u64>,
    ) -> Result<Grant, FetchError> {
        let slot = self.slot(target);
        let flights_seen = slot.flights_ended.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        self.grant(&slot, &mut state, flights_seen, target, challenge, refused)
            .await
    }

    fn slot(&self, target: Target<'_>) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(
            slots
                .entry((target.registry.clone(), target.repository.to_owned()))
                .or_default(),
        )
    }

    async fn grant(
        &self,
        slot: &Slot,
        state: &mut State,
        flights_seen: u64,
        target: Target<'_>,
        challenge: Challenge,
        refused: Option<u64>,
    ) -> Result<Grant, FetchError> {
        if let Some(grant) = state.grants.get(&challenge)
            && Some(grant.generation) != refused
            && grant.expires.is_none_or(|expires| Instant::now() < expires)
        {
            let grant = grant.clone();
            state.latest = Some(challenge);
            return Ok(grant);
        }
        // Whoever waited while a fetch failed shares its failure instead of repeating it.
        if let Some((flight, error)) = &state.failure
            && *flight > flights_seen
        {
            return Err(error.clone());
        }
        let outcome = self.fetch(target, &challenge).await;
        let flight = slot.flights_ended.fetch_add(1, Ordering::AcqRel) + 1;
        match outcome {
            Ok(met) => {
                state.failure = None;
                state.generation += 1;
                let grant = Grant {
                    header: met.header,
                    generation: state.generation,
                    challenge: challenge.clone(),
                    anonymous: met.anonymous,
                    expires: met.expires,
                };
                if state.grants.len() >= GRANTS_PER_REPOSITORY_MAX {
                    state.grants.clear();
                }
                state.grants.insert(challenge.clone(), grant.clone());
                state.latest = Some(challenge);
                Ok(grant)
            }
            Err(error) => {
                state.failure = Some((flight, error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch(&self, target: Target<'_>, challenge: &Challenge) -> Result<Met, FetchError> {
        let Target {
            registry,
            repository,
            own,
        } = target;
        let failed = |cause| FetchError::new(registry.authority(), cause);
        let login = self
            .credentials
            .login(registry, own)
            .await
            .map_err(|message| failed(Cause::Credentials(message)))?;
        match challenge {
            Challenge::Basic => match login {
                Some(Login::Password { name, password }) => Ok(Met {
                    header: secret_header(&basic(&name, &password)).map_err(failed)?,
                    anonymous: false,
                    expires: None,
                }),
                Some(Login::IdentityToken(_)) => {
                    Err(failed(Cause::Challenge("the registry asks for a password but there is only an identity token for it".to_owned())))
                }
                None => Err(failed(Cause::Challenge(
                    "the registry asks for a user name and a password; log in, or give them explicitly".to_owned(),
                ))),
            },
            Challenge::Bearer { realm, service, scope } => {
                let realm = token_service(registry, realm).map_err(failed)?;
                let default_scope = format!("repository:{repository}:pull");
                let scope = scope.as_deref().unwrap_or(&default_scope);
                self.fetch_token(&realm, service.as_deref(), scope, login).await
            }
        }
    }

    async fn fetch_token(
        &self,
        realm: &Location,
        service: Option<&str>,
        scope: &str,
        login: Option<Login>,
    ) -> Result<Met, FetchError> {
        let failed = |cause| FetchError::new(realm.origin.authority(), cause);
        let asked_at = Instant::now();
        let anonymous = login.is_none();
        let request = self
            .token_request(realm, service, scope, login)
            .map_err(failed)?;
        let mut answer = self.connections.send(&realm.origin, request).await?;
        if answer.head.status != http::StatusCode::OK {
            let voice = if anonymous {
                Voice::QuotedToNobody
            } else {
                Voice::Quoted
            };
            return Err(exchange::status_error(&realm.origin, answer, false, voice).await);
        }
        let document = answer
            .body
            .collect("token", TOKEN_BYTES_MAX)
            .await
            .map_err(failed)?;
        let token: Token = serde_json::from_slice(&document)
            .map_err(|_| failed(Cause::Token("it is not the JSON expected")))?;
        let lifetime = Duration::from_secs(
            token
                .expires_in
                .unwrap_or(LIFETIME_SECONDS_DEFAULT)
                .min(LIFETIME_SECONDS_MAX),
        );
        let expires = asked_at + lifetime - skew(lifetime);
        let filled = |token: Option<String>| token.filter(|token| !token.is_empty());
        let text = filled(token.token)
            .or_else(|| filled(token.access_token))
            .ok_or_else(|| failed(Cause::Token("it holds no token")))?;
        Ok(Met {
            header: secret_header(&format!("Bearer {text}")).map_err(failed)?,
            anonymous,
            expires: Some(expires),
        })
    }

    /// A GET with the password if there is one, or a POST that trades an identity token in (distribution, "token" and "oauth2").
    fn token_request(
        &self,
        realm: &Location,
        service: Option<&str>,
        scope: &str,
        login: Option<Login>,
    ) -> Result<Request<Full<Bytes>>, Cause> {
        let mut pairs: Vec<(&str, &str)> = service
            .map(|service| ("service", service))
            .into_iter()
            .collect();
        let (method, location, body, authorization) = match login {
            Some(Login::IdentityToken(token)) => {
                pairs.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT_ID),
                    ("scope", scope),
                    ("refresh_token", token.reveal()),
                ]);
                let form: Vec<_> = pairs
                    .iter()
                    .map(|(name, value)| format!("{name}={}", percent_encoded(value)))
                    .collect();
                (Method::POST, Some(realm.clone()), form.join("&"), None)
            }
            Some(Login::Password { name, password }) => {
                pairs.extend(scope.split_whitespace().map(|scope| ("scope", scope)));
                (
                    Method::GET,
                    realm.with_query(&pairs),
                    String::new(),
                    Some(secret_header(&basic(&name, &password))?),
                )
            }
            None => {
                pairs.extend(scope.split_whitespace().map(|scope| ("scope", scope)));
                (Method::GET, realm.with_query(&pairs), String::new(), None)
            }
        };
        let location = location.ok_or(Cause::Token("its address cannot carry the scope"))?;
        let is_form = method == Method::POST;
        let mut request = exchange::request(method, &location, Bytes::from(body))?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if is_form {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        Ok(request)
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// The token service's address; one in clear text is refused to a registry that is not.
fn token_service(registry: &Origin, realm: &str) -> Result<Location, Cause> {
    let location = Location::parse(realm).ok_or_else(|| {
        Cause::Challenge("the registry names a token service without a usable address".to_owned())
    })?;
    if registry.scheme == Scheme::Https && location.origin.scheme == Scheme::Http {
        return Err(Cause::Challenge(format!(
            "the registry names a token service without TLS, {}, which is refused",
            location.origin
        )));
    }
    Ok(location)
}

fn secret_header(text: &str) -> Result<HeaderValue, Cause> {
    if text.len() > AUTHORIZATION_BYTES_MAX {
        return Err(Cause::Token("the credentials are too long for a header"));
    }
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Cause::Token("the credentials cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Renewed a little before its end, so that a request does not arrive with a token that has just expired.
fn skew(lifetime: Duration) -> Duration {
    (lifetime / 4).min(SKEW_MAX)
}

const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// As much as is accepted of headers in the other direction.
const AUTHORIZATION_BYTES_MAX: usize = 64 << 10;
/// What a service means that does not say (distribution, "token").
const LIFETIME_SECONDS_DEFAULT: u64 = 60;
/// A day: nobody pulls longer with one token, and sums stay far from overflowing.
const LIFETIME_SECONDS_MAX: u64 = 86_400;
const SKEW_MAX: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "parapull";
/// Bounds what a registry that varies its demands can make us remember.
const GRANTS_PER_REPOSITORY_MAX: usize = 16;
/// Repositories whose grants are remembered; beyond it, those not in use are forgotten.
const SLOTS_MAX: usize = 1_024;
