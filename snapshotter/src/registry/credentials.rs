//! Who the client is: explicit credentials or those of a Docker configuration.
//!
//! This module finds credentials; to whom they are shown is `authorization`'s business.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::docker_config;
use super::origin::Origin;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// One user, at the registry an image is named after; its mirrors are asked by nobody in particular.
    User {
        /// The user name.
        name: String,
        /// The password.
        password: Secret,
    },
    /// A Docker `config.json`, with its credential helpers. A file that does not exist holds no credentials.
    ///
    /// It is read again whenever credentials are needed, so a renewed login is noticed.
    DockerConfig(PathBuf),
}

/// What is known about us at one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Password {
        name: String,
        password: Secret,
    },
    /// A refresh token that the token service turns into access tokens.
    IdentityToken(Secret),
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Credentials {
    /// The Docker configuration of this process: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    ///
    /// Without either variable nobody is logged in.
    pub fn from_environment() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        let home = || {
            std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| PathBuf::from(home).join(".docker"))
        };
        folder.or_else(home).map_or(Self::Anonymous, |folder| {
            Self::DockerConfig(folder.join("config.json"))
        })
    }

    /// The login for one host; `own` is whether it is the registry itself and no mirror. The error says which file or helper failed, without its content.
    pub(super) async fn login(
        &self,
        registry: &Origin,
        own: bool,
    ) -> Result<Option<Login>, String> {
        match self {
            Self::Anonymous => Ok(None),
            Self::User { .. } if !own => Ok(None),
            Self::User { name, password } => Ok(Some(Login::Password {
                name: name.clone(),
                password: password.clone(),
            })),
            Self::DockerConfig(path) => docker_config::login(path, registry).await,
        }
    }
}

/// `Basic` credentials as they stand in a header.
pub(super) fn basic(name: &str, password: &Secret) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{name}:{}", password.reveal()))
    )
}
