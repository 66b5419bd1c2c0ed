//! The documents an image was resolved from, byte for byte, for whoever stores them.

use bytes::Bytes;
use serde::Deserialize;

use super::manifest::{Document, Manifest};
use crate::digest::Digest;

/// An index, manifest or configuration as the registry served it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDocument {
    /// What it is, and what it points to.
    pub kind: DocumentKind,
    /// Its media type: what the document says, else what it was served or described as.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// All of it.
    pub bytes: Bytes,
}

/// What a [`SourceDocument`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A list of manifests, with the digest of every entry.
    Index {
        /// The entries, in their order.
        entries: Vec<Digest>,
    },
    /// The platform's manifest.
    Manifest(Manifest),
    /// The configuration.
    Configuration,
}

impl SourceDocument {
    /// What a registry answered when asked for a manifest.
    pub(crate) fn answered(
        document: &Document,
        digest: Digest,
        bytes: Bytes,
        content_type: Option<&str>,
    ) -> Self {
        let (kind, usual) = match document {
            Document::Index(index) => {
                let entries = index.entries.iter().map(|entry| entry.descriptor.digest);
                let entries = entries.collect();
                (DocumentKind::Index { entries }, OCI_INDEX)
            }
            Document::Manifest(manifest) => {
                (DocumentKind::Manifest(manifest.clone()), OCI_MANIFEST)
            }
        };
        let served = content_type.and_then(|text| text.split(';').next());
        let served = served
            .map(str::trim)
            .filter(|text| text.starts_with("application/vnd."));
        let own = serde_json::from_slice::<Named>(&bytes).ok();
        let media_type = own
            .and_then(|named| named.media_type)
            .or_else(|| served.map(str::to_owned))
            .unwrap_or_else(|| usual.to_owned());
        Self {
            kind,
            media_type,
            digest,
            bytes,
        }
    }
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_s_own_media_type_comes_before_the_header_s() {
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let bare = r#"{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[]}"#;
        let named = bare.replacen('{', &format!("{{\"mediaType\":\"{docker}\","), 1);
        let table = [
            (named.as_str(), Some(OCI_MANIFEST), docker),
            (bare, Some(&*format!("{docker}; charset=utf-8")), docker),
            (bare, Some("application/json"), OCI_MANIFEST),
            (bare, None, OCI_MANIFEST),
        ];
        for (text, content_type, expected) in table {
            let document = Document::parse(text.as_bytes(), content_type).unwrap();
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let digest = Digest::of(&bytes);
            let document = SourceDocument::answered(&document, digest, bytes, content_type);
            assert_eq!(document.media_type, expected, "{text} {content_type:?}");
        }
    }
}
