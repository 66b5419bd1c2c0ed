//! Platforms: which of several images suits a machine.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// An operating system and processor, written `os/architecture[/variant]` with Go's names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux` nearly always.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`, …; empty if none.
    #[serde(default)]
    pub variant: String,
}

/// A text that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a platform of the form os/architecture[/variant], such as linux/amd64")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// Linux on the architecture this program was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "").normalized()
    }

    /// Puts a platform together without normalising it.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// The same platform under its canonical names, so that equal machines compare equal.
    ///
    /// The synonyms are containerd's (`platforms/database.go`): `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64le", variant) => ("ppc64le", variant),
            (architecture, variant) => (architecture, variant),
        };
        Self::new(&os, architecture, variant)
    }

    /// What a machine of this platform can run, best first.
    pub(super) fn acceptable(&self) -> Vec<Self> {
        let wanted = self.normalized();
        let with = |architecture: &str, variant: &str| Self::new(&wanted.os, architecture, variant);
        let mut list = vec![wanted.clone()];
        match wanted.architecture.as_str() {
            "amd64" => {
                let level = numbered(&wanted.variant).unwrap_or(1).min(9);
                list.extend(
                    (2..level)
                        .rev()
                        .map(|level| with("amd64", &format!("v{level}"))),
                );
                list.push(with("amd64", ""));
                list.push(with("386", ""));
            }
            "arm" => {
                let level = numbered(&wanted.variant).unwrap_or(7).min(8);
                list.extend(
                    (5..level)
                        .rev()
                        .map(|level| with("arm", &format!("v{level}"))),
                );
            }
            "arm64" => {
                list.push(with("arm64", ""));
                list.extend((5..=8).rev().map(|level| with("arm", &format!("v{level}"))));
            }
            _ => list.push(with(&wanted.architecture, "")),
        }
        list
    }

    /// Whether `offered`, which is normalised, is this candidate.
    pub(super) fn matches(&self, offered: &Self) -> bool {
        self == offered
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.variant)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || PlatformError {
            text: text.chars().take(100).collect(),
        };
        let proper = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<_> = text.split('/').collect();
        if !parts.iter().all(proper) {
            return Err(error());
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, "").normalized()),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant).normalized()),
            _ => Err(error()),
        }
    }
}

/// The number in `v7`.
fn numbered(variant: &str) -> Option<u32> {
    variant
        .strip_prefix('v')
        .and_then(|number| number.parse().ok())
}
