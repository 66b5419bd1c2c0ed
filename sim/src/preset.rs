//! Names and files: what stands for an image, a host, a registry on the command line.

use std::fmt::Write;
use std::path::Path;

use parapull_engine::Strategy;
use parapull_scenario::image::{PRESETS, PresetError};
use parapull_scenario::registry::PROFILES;
use parapull_scenario::{Decoder, HOSTS, Host, HostError, ImageSource, ImageSpec, RegistryProfile};
use serde::de::DeserializeOwned;

/// Why a text stands for nothing.
#[derive(Debug, thiserror::Error)]
pub enum PresetFileError {
    /// A file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path} is no {what}: {source}")]
    Parse {
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        source: serde_json::Error,
    },
    /// No such image.
    #[error(transparent)]
    Image(#[from] PresetError),
    /// No such host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No such registry.
    #[error(transparent)]
    Registry(#[from] parapull_scenario::registry::ProfileError),
}

/// An image: `preset[:SIZE]`, or a craft file as JSON.
///
/// # Errors
/// Names the known presets, or what is wrong with the file.
pub fn image(text: &str) -> Result<ImageSource, PresetFileError> {
    if is_file(text) {
        return Ok(ImageSource::Spec(from_file(text, "image")?));
    }
    Ok(ImageSource::Spec(ImageSpec::preset(text)?))
}

/// A host: a name, or a JSON file.
///
/// # Errors
/// Names the known hosts, or what is wrong with the file.
pub fn host(text: &str) -> Result<Host, PresetFileError> {
    if is_file(text) {
        return from_file(text, "host");
    }
    Ok(Host::named(text)?)
}

/// A registry: a name, or a JSON file.
///
/// # Errors
/// Names the known profiles, or what is wrong with the file.
pub fn registry(text: &str) -> Result<RegistryProfile, PresetFileError> {
    if is_file(text) {
        return from_file(text, "registry");
    }
    Ok(RegistryProfile::named(text)?)
}

/// A decoder by name.
///
/// # Errors
/// Names the known ones.
pub fn decoder(text: &str) -> Result<Decoder, String> {
    Ok(match text {
        "go" => Decoder::Go,
        "unpigz" => Decoder::Unpigz,
        "igzip" => Decoder::Igzip,
        "zlib-rs" => Decoder::ZlibRs,
        _ => return Err("known are go, unpigz, igzip and zlib-rs".to_owned()),
    })
}

/// Everything that has a name, for people.
#[must_use]
pub fn listing() -> String {
    let mut text = String::from("images (NAME[:SIZE]):\n");
    for preset in PRESETS {
        let _ = writeln!(text, "  {:<16} {}", preset.name, preset.summary);
    }
    text.push_str("hosts:\n");
    for host in HOSTS.iter().filter_map(|name| Host::named(name).ok()) {
        let _ = writeln!(
            text,
            "  {:<16} {} cores, disk {}/s after {}, link {}/s, {} µs per file",
            host.name,
            host.cores,
            crate::bytes(host.disk_bytes_per_second),
            crate::bytes(host.disk_dirty_credit_bytes),
            crate::bytes(host.link_bytes_per_second),
            host.file_create_ns / 1_000
        );
    }
    text.push_str("registries:\n");
    for profile in PROFILES
        .iter()
        .filter_map(|name| RegistryProfile::named(name).ok())
    {
        let rate = |rate: Option<std::num::NonZeroU64>| {
            rate.map_or("unlimited".to_owned(), |rate| {
                format!("{}/s", crate::bytes(rate.get()))
            })
        };
        let _ = writeln!(
            text,
            "  {:<16} connection {}, in total {}, first byte {} ms",
            profile.name,
            rate(profile.connection_bytes_per_second),
            rate(profile.total_bytes_per_second),
            profile.first_byte_ms
        );
    }
    text.push_str("strategies:\n");
    for strategy in Strategy::ALL {
        let _ = writeln!(text, "  {strategy}");
    }
    text
}

fn is_file(text: &str) -> bool {
    text.contains('/') || Path::new(text).extension().is_some_and(|end| end == "json")
}

fn from_file<T: DeserializeOwned>(path: &str, what: &'static str) -> Result<T, PresetFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| PresetFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| PresetFileError::Parse {
        path: path.to_owned(),
        what,
        source,
    })
}
