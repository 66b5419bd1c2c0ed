//! Docker's `config.json`: `auths`, `credsStore` and `credHelpers`.
//!
//! A helper for the host is asked first, then the store for all hosts, then the file itself. Registries are matched as
//! Docker does: by host and port, whatever scheme and path the key carries, and Docker Hub by its historical address.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::credential_helper;
use super::credentials::{Login, Secret};
use super::origin::{Origin, Scheme};

/// The login of a registry according to the file at `path`, with helpers along `PATH`.
pub(super) async fn login(path: &Path, registry: &Origin) -> Result<Option<Login>, String> {
    login_with(path, registry, None).await
}

async fn login_with(
    path: &Path,
    registry: &Origin,
    helpers: Option<&Path>,
) -> Result<Option<Login>, String> {
    let shown = path.display();
    let bytes = match tokio::fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read credentials from {shown}: {error}")),
    };
    // The parser's own words may quote the file, so only the place is told.
    let file: File = serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "cannot read credentials from {shown}: it is malformed at line {} column {}",
            error.line(),
            error.column()
        )
    })?;
    let names = names(registry);
    if let Some(helper) = file.helper(&names)
        && let Some(login) = credential_helper::login(helper, &names[0], helpers).await?
    {
        return Ok(Some(login));
    }
    match file.entry(&names) {
        Some(entry) => entry.login().map_err(|reason| {
            format!(
                "cannot read credentials from {shown}: the entry for {} {reason}",
                names[0]
            )
        }),
        None => Ok(None),
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<HashMap<String, Entry>>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(rename = "identitytoken", default)]
    identity_token: Option<String>,
}

impl File {
    fn helper(&self, names: &[String]) -> Option<&str> {
        let own = self
            .helpers
            .as_ref()
            .and_then(|helpers| find(helpers, names));
        own.or(self.store.as_ref())
            .map(String::as_str)
            .filter(|helper| !helper.is_empty())
    }

    fn entry(&self, names: &[String]) -> Option<&Entry> {
        self.auths.as_ref().and_then(|auths| find(auths, names))
    }
}

impl Entry {
    fn login(&self) -> Result<Option<Login>, &'static str> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identity_token) {
            return Ok(Some(Login::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = filled(&self.auth) {
            let (name, password) =
                decoded(&auth).ok_or("has an \"auth\" that is not base64 of name:password")?;
            return Ok(Some(Login::Password { name, password }));
        }
        Ok(filled(&self.username).map(|name| Login::Password {
            name,
            password: Secret::new(filled(&self.password).unwrap_or_default()),
        }))
    }
}

/// Docker pads old entries with NUL bytes.
fn decoded(auth: &str) -> Option<(String, Secret)> {
    let lenient = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text = String::from_utf8(lenient.decode(auth.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((
        name.to_owned(),
        Secret::new(password.trim_end_matches('\0')),
    ))
}

/// The names a registry may have in the file; the first is the one helpers are asked for.
fn names(registry: &Origin) -> Vec<String> {
    if HUB_HOSTS.contains(&registry.host.as_str()) {
        let hosts = HUB_HOSTS.iter().map(|host| (*host).to_owned());
        return std::iter::once(HUB_KEY.to_owned()).chain(hosts).collect();
    }
    let mut names = vec![registry.authority()];
    if registry.port == 443 || registry.scheme == Scheme::Http && registry.port == 80 {
        names.push(registry.authority_with_port());
    }
    names
}

/// An exact key first, in the order of the names, then one that means the same host.
fn find<'a, T>(map: &'a HashMap<String, T>, names: &[String]) -> Option<&'a T> {
    let exact = names.iter().find_map(|name| map.get(name));
    exact.or_else(|| {
        let mut keys: Vec<_> = map
            .keys()
            .filter(|key| {
                names
                    .iter()
                    .any(|name| host_of(key).eq_ignore_ascii_case(name))
            })
            .collect();
        keys.sort();
        keys.first().and_then(|key| map.get(*key))
    })
}

/// The key without scheme and path.
fn host_of(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next().unwrap_or_default()
}

const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_the_entry_docker_would_use() {
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "aHViOnB3"}}}"#;
        let table = [
            ("registry-1.docker.io", hub, Some(("hub", "pw"))),
            ("r.example", hub, None),
            (
                "r.example",
                r#"{"auths": {"r.example": {"auth": "YTpiOmM="}}}"#,
                Some(("a", "b:c")),
            ),
            (
                "r.example",
                r#"{"auths": {"r.example": {"auth": "YTpiAAA="}}}"#,
                Some(("a", "b")),
            ),
            (
                "r.example",
                r#"{"auths": {"https://R.example/v1/": {"auth": "YTpi"}}}"#,
                Some(("a", "b")),
            ),
            (
                "r.example",
                r#"{"auths": {"r.example:443": {"auth": "YTpi"}}}"#,
                Some(("a", "b")),
            ),
            (
                "r.example:5000",
                r#"{"auths": {"r.example": {"auth": "YTpi"}}}"#,
                None,
            ),
            (
                "r.example:5000",
                r#"{"auths": {"http://r.example:5000": {"username": "a", "password": "b"}}}"#,
                Some(("a", "b")),
            ),
            (
                "r.example",
                r#"{"auths": {"r.example": {}}, "credHelpers": null}"#,
                None,
            ),
            (
                "r.example",
                r#"{"auths": {"evil.example/r.example": {"auth": "YTpi"}}}"#,
                None,
            ),
            ("r.example", r#"{"auths": null}"#, None),
            ("r.example", "{}", None),
        ];
        for (registry, text, expected) in table {
            let found = login_from(registry, text).await.unwrap();
            let expected = expected.map(|(name, password)| Login::Password {
                name: name.to_owned(),
                password: Secret::new(password),
            });
            assert_eq!(found, expected, "{registry} in {text}");
        }
        let token = login_from(
            "r.example",
            r#"{"auths": {"r.example": {"auth": "YTpi", "identitytoken": "t"}}}"#,
        )
        .await
        .unwrap();
        assert_eq!(token, Some(Login::IdentityToken(Secret::new("t"))));
    }

    #[tokio::test]
    async fn helpers_come_before_the_file() {
        let table = [
            (
                r#"{"credHelpers": {"r.example": "good"}}"#,
                Ok(Some("user@r.example")),
            ),
            (r#"{"credsStore": "good"}"#, Ok(Some("user@r.example"))),
            (
                r#"{"credsStore": "locked", "credHelpers": {"https://r.example/v2/": "good"}}"#,
                Ok(Some("user@r.example")),
            ),
            (
                r#"{"credsStore": "good", "auths": {"r.example": {"auth": "YTpi"}}}"#,
                Ok(Some("user@r.example")),
            ),
            (
                r#"{"credsStore": "none", "auths": {"r.example": {"auth": "YTpi"}}}"#,
                Ok(Some("a")),
            ),
            (r#"{"credsStore": "none"}"#, Ok(None)),
            (
                r#"{"credsStore": "", "credHelpers": {"other.example": "locked"}}"#,
                Ok(None),
            ),
            (
                r#"{"credsStore": "locked", "auths": {"r.example": {"auth": "YTpi"}}}"#,
                Err(()),
            ),
        ];
        for (text, expected) in table {
            let found = login_from("r.example", text).await;
            let name = found.map(|login| match login {
                Some(Login::Password { name, .. }) => Some(name),
                Some(Login::IdentityToken(_)) | None => None,
            });
            assert_eq!(
                name.map_err(drop),
                expected.map(|name| name.map(str::to_owned)),
                "{text}"
            );
        }
        let hub = login_from("registry-1.docker.io", r#"{"credsStore": "good"}"#)
            .await
            .unwrap();
        let Some(Login::Password { name, .. }) = hub else {
            panic!("no password");
        };
        assert_eq!(name, "user@https://index.docker.io/v1/");
    }

    #[tokio::test]
    async fn broken_files_are_told_without_their_content() {
        for text in [
            r#"{"auths": "hunter2"}"#,
            r#"{"auths": {"r.example": {"auth": "hunter2!"}}}"#,
            r#"{"auths": {"r.example": "hunter2""#,
        ] {
            let error = login_from("r.example", text).await.unwrap_err();
            assert!(error.contains("config.json"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_holds_no_credentials() {
        let registry = Origin::parse(Scheme::Https, "r.example").unwrap();
        assert_eq!(
            login(Path::new("/nonexistent/config.json"), &registry).await,
            Ok(None)
        );
    }

    async fn login_from(registry: &str, text: &str) -> Result<Option<Login>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let helpers = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/registry_support/helpers"
        );
        let registry = Origin::parse(Scheme::Https, registry).unwrap();
        login_with(&path, &registry, Some(Path::new(helpers))).await
    }
}
