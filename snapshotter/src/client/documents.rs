//! What the documents of an image carry in containerd's content store: the labels that keep things, and where they are from.

use crate::grpc::Blob;
use crate::image::{DocumentKind, Reference, SourceDocument};
use crate::registry::Resolved;
use crate::store::Labels;

/// The documents as blobs, what points to others after them: index, manifest, configuration, from the last to the first.
pub(super) fn blobs(resolved: &Resolved) -> Vec<Blob> {
    let source = source_label(&resolved.image.reference);
    let blob = |document: &SourceDocument| {
        let mut labels = references(&document.kind);
        labels.insert(source.0.clone(), source.1.clone());
        Blob {
            digest: document.digest,
            bytes: document.bytes.clone(),
            labels,
        }
    };
    resolved.documents.iter().rev().map(blob).collect()
}

/// Keeps the repositories that a blob is known to come from beside the new one, as containerd does.
pub(super) fn with_known_sources(mut blob: Blob, known: &Labels) -> Blob {
    for (label, repository) in &mut blob.labels {
        let Some(others) = known
            .get(label)
            .filter(|_| label.starts_with(SOURCE_PREFIX))
        else {
            continue;
        };
        let mut all: Vec<&str> = others.split(',').chain([repository.as_str()]).collect();
        all.retain(|name| !name.is_empty());
        all.sort_unstable();
        all.dedup();
        let joined = all.join(",");
        *repository = if label.len() + joined.len() <= LABEL_BYTES_MAX {
            joined
        } else {
            others.clone()
        };
    }
    blob
}

/// The label on a configuration that keeps the image's snapshots.
pub(super) fn gc_label_of_snapshot(snapshotter: &str) -> String {
    format!("containerd.io/gc.ref.snapshot.{snapshotter}")
}

/// The labels that keep what a document points to, numbered by kind as containerd numbers them.
///
/// They name the layers as well, which are not in the content store; containerd's garbage collector lets such labels be.
fn references(kind: &DocumentKind) -> Labels {
    let numbered = |kind: &'static str| {
        move |(index, digest): (usize, String)| {
            (
                format!("containerd.io/gc.ref.content.{kind}.{index}"),
                digest,
            )
        }
    };
    match kind {
        DocumentKind::Configuration => Labels::new(),
        DocumentKind::Index { entries } => {
            let digests = entries.iter().map(ToString::to_string);
            digests.enumerate().map(numbered("m")).collect()
        }
        DocumentKind::Manifest(manifest) => {
            let config = (
                "containerd.io/gc.ref.content.config".to_owned(),
                manifest.config.digest.to_string(),
            );
            let layers = manifest.layers.iter().map(|layer| layer.digest.to_string());
            let layers = layers.enumerate().map(numbered("l"));
            layers.chain([config]).collect()
        }
    }
}

fn source_label(reference: &Reference) -> (String, String) {
    (
        format!("{SOURCE_PREFIX}{}", reference.domain()),
        reference.repository().to_owned(),
    )
}

const SOURCE_PREFIX: &str = "containerd.io/distribution.source.";
/// containerd refuses labels whose key and value are longer together (`pkg/labels/validate.go`).
const LABEL_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::digest::Digest;

    fn blob(repository: &str) -> Blob {
        Blob {
            digest: Digest::of(b"{}"),
            bytes: Bytes::from_static(b"{}"),
            labels: Labels::from([(format!("{SOURCE_PREFIX}r.example"), repository.to_owned())]),
        }
    }

    #[test]
    fn repositories_are_added_and_never_lost() {
        let label = format!("{SOURCE_PREFIX}r.example");
        let long = "x".repeat(LABEL_BYTES_MAX);
        let table = [
            (None, "team/app"),
            (Some("team/app"), "team/app"),
            (Some("other/app"), "other/app,team/app"),
            (Some("z/app,other/app"), "other/app,team/app,z/app"),
            (Some(long.as_str()), long.as_str()),
        ];
        for (known, expected) in table {
            let known = known.map(|known| (label.clone(), known.to_owned()));
            let known: Labels = known.into_iter().collect();
            let labelled = with_known_sources(blob("team/app"), &known);
            assert_eq!(labelled.labels[&label], expected);
        }
    }

    #[test]
    fn a_manifest_keeps_its_configuration_and_layers() {
        let text = r#"{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},
            "layers":[{"digest":"sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a","size":1},
                      {"digest":"sha256:dbc1b4c900ffe48d575b5da5c638040125f65db0fe3e24494b76ea986457d986","size":1}]}"#;
        let manifest = crate::image::Manifest::parse(text.as_bytes()).unwrap();
        let keys: Vec<String> = references(&DocumentKind::Manifest(manifest))
            .into_keys()
            .map(|key| key.replace("containerd.io/gc.ref.content.", ""))
            .collect();
        assert_eq!(keys, ["config", "l.0", "l.1"]);
    }
}
