//! Who may pull: challenges, tokens, and the signatures of redirects. Secrets here are made up and worthless.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use parapull_scenario::registry::Auth;

use crate::craft::digest_of_bytes;

/// Decides over requests; times are since the registry was built.
#[derive(Debug)]
pub(crate) struct Gate {
    auth: Auth,
    tokens: Mutex<BTreeMap<String, Grant>>,
}

#[derive(Clone, Debug)]
struct Grant {
    scope: String,
    expires_at: Duration,
}

/// A token and for how long it is good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) expires_seconds: u32,
}

impl Gate {
    pub(crate) fn new(auth: Auth) -> Self {
        Self {
            auth,
            tokens: Mutex::default(),
        }
    }

    /// Lets a request with that `Authorization` header pass, or says what `WWW-Authenticate` to answer.
    ///
    /// `repository` is absent for the ping, which any valid token opens.
    pub(crate) fn check(
        &self,
        authorization: Option<&str>,
        repository: Option<&str>,
        host: &str,
        now: Duration,
    ) -> Result<(), String> {
        match &self.auth {
            Auth::None => Ok(()),
            Auth::Basic { username, password } => match authorization {
                Some(header) if is_basic(header, username, password) => Ok(()),
                _ => Err(self.challenge(repository, host)),
            },
            Auth::Token { .. } => {
                let token = authorization.and_then(|header| strip_scheme(header, "Bearer"));
                let grant = token.and_then(|token| {
                    let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                    tokens.get(token).cloned()
                });
                match grant {
                    Some(grant) if now < grant.expires_at && covers(&grant.scope, repository) => {
                        Ok(())
                    }
                    Some(_) => Err(format!(
                        "{},error=\"invalid_token\"",
                        self.challenge(repository, host)
                    )),
                    None => Err(self.challenge(repository, host)),
                }
            }
        }
    }

    /// The challenge for a request, as the `WWW-Authenticate` header has it.
    pub(crate) fn challenge(&self, repository: Option<&str>, host: &str) -> String {
        match &self.auth {
            Auth::None | Auth::Basic { .. } => "Basic realm=\"fake-registry\"".to_owned(),
            Auth::Token { .. } => {
                let scope = repository.map_or(String::new(), |name| {
                    format!(",scope=\"repository:{name}:pull\"")
                });
                format!("Bearer realm=\"http://{host}/token\",service=\"fake-registry\"{scope}")
            }
        }
    }

    /// Grants a token, unless credentials are wanted and these are others.
    pub(crate) fn grant(
        &self,
        authorization: Option<&str>,
        scope: &str,
        now: Duration,
    ) -> Option<Token> {
        let Auth::Token {
            username,
            password,
            expires_seconds,
        } = &self.auth
        else {
            return None;
        };
        if let Some(username) = username {
            let password = password.as_deref().unwrap_or_default();
            if !authorization.is_some_and(|header| is_basic(header, username, password)) {
                return None;
            }
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = digest_of_bytes(format!("{scope} {}", tokens.len()).as_bytes());
        let token = hash.replace("sha256:", "token-");
        tokens.insert(
            token.clone(),
            Grant {
                scope: scope.to_owned(),
                expires_at: now + Duration::from_secs(u64::from(*expires_seconds)),
            },
        );
        Some(Token {
            token,
            expires_seconds: *expires_seconds,
        })
    }
}

/// The path and query under which the second origin gives `digest` until `expires_ms`.
pub(crate) fn signed_path(digest: &str, expires_ms: u64) -> String {
    let signature = signature(digest, expires_ms);
    format!("/storage/{digest}?expires={expires_ms}&signature={signature}")
}

/// Whether a query carries the right signature and its time is not over.
pub(crate) fn signature_holds(digest: &str, query: &str, now: Duration) -> bool {
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let Some(expires_ms) = value("expires").and_then(|text| text.parse::<u64>().ok()) else {
        return false;
    };
    value("signature") == Some(signature(digest, expires_ms).as_str())
        && now < Duration::from_millis(expires_ms)
}

fn signature(digest: &str, expires_ms: u64) -> String {
    let hash = digest_of_bytes(format!("fake-registry {digest} {expires_ms}").as_bytes());
    hash.chars().skip("sha256:".len()).take(32).collect()
}

fn covers(scope: &str, repository: Option<&str>) -> bool {
    repository.is_none_or(|name| {
        scope
            .split(' ')
            .any(|part| part == format!("repository:{name}:pull"))
    })
}

fn is_basic(header: &str, username: &str, password: &str) -> bool {
    let expected =
        base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    strip_scheme(header, "Basic") == Some(expected.as_str())
}

fn strip_scheme<'a>(header: &'a str, scheme: &str) -> Option<&'a str> {
    let (given, rest) = header.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "registry.example:5000";

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn tokens_open_their_repository_until_they_expire() {
        let gate = Gate::new(Auth::Token {
            username: None,
            password: None,
            expires_seconds: 60,
        });
        let challenge = gate.check(None, Some("a/b"), HOST, seconds(0)).unwrap_err();
        assert!(
            challenge.contains("realm=\"http://registry.example:5000/token\""),
            "{challenge}"
        );
        assert!(
            challenge.contains("scope=\"repository:a/b:pull\""),
            "{challenge}"
        );
        let token = gate.grant(None, "repository:a/b:pull", seconds(0)).unwrap();
        let header = format!("Bearer {}", token.token);
        assert!(
            gate.check(Some(&header), Some("a/b"), HOST, seconds(59))
                .is_ok()
        );
        assert!(gate.check(Some(&header), None, HOST, seconds(59)).is_ok());
        assert!(
            gate.check(Some(&header), Some("a/c"), HOST, seconds(0))
                .is_err()
        );
        assert!(
            gate.check(Some(&header), Some("a/b"), HOST, seconds(60))
                .is_err()
        );
    }

    #[test]
    fn credentials_are_compared() {
        let basic = |text: &str| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(text)
            )
        };
        let gate = Gate::new(Auth::Basic {
            username: "u".to_owned(),
            password: "p".to_owned(),
        });
        assert!(
            gate.check(Some(&basic("u:p")), None, HOST, seconds(0))
                .is_ok()
        );
        assert!(
            gate.check(Some(&basic("u:q")), None, HOST, seconds(0))
                .is_err()
        );
        let gate = Gate::new(Auth::Token {
            username: Some("u".to_owned()),
            password: Some("p".to_owned()),
            expires_seconds: 1,
        });
        assert!(gate.grant(None, "", seconds(0)).is_none());
        assert!(gate.grant(Some(&basic("u:p")), "", seconds(0)).is_some());
    }

    #[test]
    fn signatures_hold_for_their_digest_and_time() {
        let path = signed_path("sha256:a", 5_000);
        let query = path.split_once('?').unwrap().1;
        assert!(signature_holds("sha256:a", query, seconds(4)));
        assert!(!signature_holds("sha256:a", query, seconds(5)));
        assert!(!signature_holds("sha256:b", query, seconds(4)));
        assert!(!signature_holds("sha256:a", "", seconds(4)));
    }
}
