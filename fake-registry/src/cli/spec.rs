//! Turns what a user names into values: image specs, profiles, faults.

use std::path::Path;

use anyhow::{Context, anyhow};
use fake_registry::OciLayout;
use parapull_scenario::{Faults, ImageSpec, RegistryProfile};
use serde::de::DeserializeOwned;

use super::Failure;

/// What a SPEC names.
pub(super) enum Spec {
    Image(ImageSpec),
    Layout(OciLayout),
}

/// Reads `preset[:SIZE]`, a craft file or a layout folder; what exists as a path is one.
pub(super) fn read_spec(text: &str) -> Result<Spec, Failure> {
    let path = Path::new(text);
    if path.is_dir() {
        let layout = OciLayout::open(path).with_context(|| format!("failed to open {text}"));
        return Ok(Spec::Layout(layout.map_err(Failure::Misuse)?));
    }
    if path.is_file() {
        return Ok(Spec::Image(read_yaml(path)?));
    }
    ImageSpec::preset(text)
        .map(Spec::Image)
        .map_err(|error| Failure::Misuse(anyhow!("{text:?} is no file or folder, and {error}")))
}

/// Reads a profile by name or from a file.
pub(super) fn read_profile(text: &str) -> Result<RegistryProfile, Failure> {
    let path = Path::new(text);
    if path.is_file() {
        return read_yaml(path);
    }
    RegistryProfile::named(text)
        .map_err(|error| Failure::Misuse(anyhow!("{text:?} is no file, and {error}")))
}

pub(super) fn read_faults(path: &Path) -> Result<Faults, Failure> {
    read_yaml(path)
}

fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {shown}"))
        .map_err(Failure::Misuse)?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("failed to parse {shown}"))
        .map_err(Failure::Misuse)
}
