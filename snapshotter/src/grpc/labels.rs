//! What the labels of a `Prepare` say about the layer behind it, and how a client says it.
//!
//! containerd passes only `containerd.io/snapshot.ref` and labels under `containerd.io/snapshot/`; never sizes, media types or credentials.
//! Unknown labels and empty values are ignored, as clients add some of both.

use crate::digest::{Digest, DigestError};
use crate::image::Image;
use crate::store::{Labels, REFERENCE_LABEL};

/// What a `Prepare` with the labels of a pull asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRequest {
    /// The chain id under which containerd will look for the committed snapshot.
    pub snapshot_ref: Digest,
    /// The reference as the client gave it.
    pub image_ref: String,
    /// The digest of the layer's blob.
    pub layer_digest: Digest,
    /// The digests of this layer and those above it; containerd cuts the list off after 56.
    pub image_layers: Vec<Digest>,
    /// The digest of the platform's manifest.
    pub manifest_digest: Digest,
    /// The chain id of the layer below; containerd 2.3 and later.
    pub parent_chain_id: Option<Digest>,
    /// The digest of the uncompressed layer; containerd 2.3 and later.
    pub diff_id: Option<Digest>,
}

/// A label that should hold a digest and does not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {label}: {reason}")]
pub struct LabelError {
    label: &'static str,
    reason: DigestError,
}

impl RemoteRequest {
    /// Reads the labels; none unless all of `snapshot.ref`, image reference, manifest digest and layer digest are there.
    ///
    /// # Errors
    /// If one of them should be a digest and is not.
    pub fn parse(labels: &Labels) -> Result<Option<Self>, LabelError> {
        let text = |label: &str| {
            labels
                .get(label)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let (Some(snapshot_ref), Some(image_ref), Some(layer), Some(manifest)) = (
            text(REFERENCE_LABEL),
            text(IMAGE_REF),
            text(LAYER_DIGEST),
            text(MANIFEST_DIGEST),
        ) else {
            return Ok(None);
        };
        let optional = |label| text(label).map(|value| digest(label, value)).transpose();
        Ok(Some(Self {
            snapshot_ref: digest(REFERENCE_LABEL, snapshot_ref)?,
            image_ref: image_ref.to_owned(),
            layer_digest: digest(LAYER_DIGEST, layer)?,
            image_layers: text(IMAGE_LAYERS)
                .into_iter()
                .flat_map(|list| list.split(','))
                .map(|value| digest(IMAGE_LAYERS, value))
                .collect::<Result<_, _>>()?,
            manifest_digest: digest(MANIFEST_DIGEST, manifest)?,
            parent_chain_id: optional(PARENT_CHAIN_ID)?,
            diff_id: optional(DIFF_ID)?,
        }))
    }

    /// Whether containerd unpacks layers without their parents and links them afterwards ("rebase"), as far as the labels tell.
    ///
    /// A layer without parent is the bottom one, whose chain id is its diff id; anything else means that the operator advertised the
    /// capability. The labels tell only from containerd 2.3 on; before, the image's configuration does.
    pub fn is_rebased(&self, parent: &str) -> bool {
        let above_another = self.parent_chain_id.is_some()
            || self
                .diff_id
                .is_some_and(|diff_id| diff_id != self.snapshot_ref);
        parent.is_empty() && above_another
    }
}

/// The labels with which a client asks for a layer of an image, as containerd's own clients do; those of 2.3 among them.
///
/// `chains` are the chain ids of the image, bottom first. The list of layers is cut to what one label may hold.
pub fn layer_labels(image: &Image, chains: &[Digest], index: usize) -> Labels {
    let mut labels = Labels::new();
    let mut add = |label: &str, value: String| labels.insert(label.to_owned(), value);
    add(IMAGE_REF, image.reference.to_string());
    add(MANIFEST_DIGEST, image.manifest_digest.to_string());
    let mut above = String::new();
    for layer in image.layers.get(index..).unwrap_or_default() {
        let digest = layer.descriptor.digest.to_string();
        if IMAGE_LAYERS.len() + above.len() + 1 + digest.len() > LABEL_BYTES_MAX {
            break;
        }
        if !above.is_empty() {
            above.push(',');
        }
        above.push_str(&digest);
    }
    add(IMAGE_LAYERS, above);
    if let (Some(layer), Some(chain)) = (image.layers.get(index), chains.get(index)) {
        add(REFERENCE_LABEL, chain.to_string());
        add(LAYER_DIGEST, layer.descriptor.digest.to_string());
        add(DIFF_ID, layer.diff_id.to_string());
    }
    if let Some(parent) = index.checked_sub(1).and_then(|below| chains.get(below)) {
        add(PARENT_CHAIN_ID, parent.to_string());
    }
    labels
}

/// The namespace in a key: containerd passes `<namespace>/<number>/<key>`. `None` for keys of other shapes.
pub fn namespace_of(key: &str) -> Option<&str> {
    let (namespace, rest) = key.split_once('/')?;
    let (number, _) = rest.split_once('/')?;
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && !namespace.is_empty()).then_some(namespace)
}

fn digest(label: &'static str, text: &str) -> Result<Digest, LabelError> {
    text.trim()
        .parse()
        .map_err(|error: DigestError| LabelError {
            label,
            reason: error,
        })
}

/// containerd refuses labels whose key and value are longer together (`pkg/labels/validate.go`).
const LABEL_BYTES_MAX: usize = 4096;
const IMAGE_REF: &str = "containerd.io/snapshot/cri.image-ref";
const LAYER_DIGEST: &str = "containerd.io/snapshot/cri.layer-digest";
const IMAGE_LAYERS: &str = "containerd.io/snapshot/cri.image-layers";
const MANIFEST_DIGEST: &str = "containerd.io/snapshot/cri.manifest-digest";
const PARENT_CHAIN_ID: &str = "containerd.io/snapshot/parent-chain-id";
const DIFF_ID: &str = "containerd.io/snapshot/diff-id";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn of(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn full() -> Labels {
        let (chain, layer, manifest) = (
            of("chain").to_string(),
            of("layer").to_string(),
            of("manifest").to_string(),
        );
        let layers = format!("{layer},{}", of("above"));
        labels(&[
            (REFERENCE_LABEL, &chain),
            (IMAGE_REF, "registry.example/a/b:1"),
            (LAYER_DIGEST, &layer),
            (IMAGE_LAYERS, &layers),
            (MANIFEST_DIGEST, &manifest),
            ("containerd.io/snapshot/remote/urls", ""),
            ("containerd.io/snapshot/remote/stargz.prefetch", "10485760"),
        ])
    }

    #[test]
    fn reads_the_labels_of_a_cri_pull() {
        let request = RemoteRequest::parse(&full()).unwrap().unwrap();
        assert_eq!(request.snapshot_ref, of("chain"));
        assert_eq!(request.image_ref, "registry.example/a/b:1");
        assert_eq!(request.image_layers, [of("layer"), of("above")]);
        assert_eq!((request.parent_chain_id, request.diff_id), (None, None));
    }

    #[test]
    fn is_no_request_without_each_of_the_four_labels() {
        for label in [REFERENCE_LABEL, IMAGE_REF, LAYER_DIGEST, MANIFEST_DIGEST] {
            let mut some = full();
            some.remove(label);
            assert_eq!(RemoteRequest::parse(&some), Ok(None), "without {label}");
            some.insert(label.to_owned(), String::new());
            assert_eq!(RemoteRequest::parse(&some), Ok(None), "with empty {label}");
        }
    }

    #[test]
    fn a_label_that_is_no_digest_is_an_error_that_names_it() {
        for label in [
            REFERENCE_LABEL,
            LAYER_DIGEST,
            IMAGE_LAYERS,
            MANIFEST_DIGEST,
            PARENT_CHAIN_ID,
            DIFF_ID,
        ] {
            let mut wrong = full();
            wrong.insert(label.to_owned(), "sha256:12".to_owned());
            let error = RemoteRequest::parse(&wrong).unwrap_err();
            assert!(error.to_string().contains(label), "{error}");
        }
    }

    #[test]
    fn sees_a_rebase_only_where_a_parentless_layer_is_not_the_bottom() {
        let chain = of("chain").to_string();
        let other = of("other").to_string();
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let table: [(&str, Pairs<'_>, bool); 6] = [
            ("", &[], false),
            ("", &[(DIFF_ID, &chain)], false),
            ("", &[(DIFF_ID, &other)], true),
            ("", &[(PARENT_CHAIN_ID, &other)], true),
            (
                "below",
                &[(PARENT_CHAIN_ID, &other), (DIFF_ID, &other)],
                false,
            ),
            ("below", &[], false),
        ];
        for (parent, more, rebased) in table {
            let mut all = full();
            all.extend(labels(more));
            let request = RemoteRequest::parse(&all).unwrap().unwrap();
            assert_eq!(request.is_rebased(parent), rebased, "{parent:?} {more:?}");
        }
    }

    #[test]
    fn takes_the_namespace_from_containerd_s_keys_only() {
        let table = [
            (
                "k8s.io/1/extract-178334043-Yb3K sha256:662a",
                Some("k8s.io"),
            ),
            ("default/12/a/b", Some("default")),
            ("plain", None),
            ("/tmp/test", None),
            ("a/b", None),
            ("a/b/c", None),
            ("/1/c", None),
        ];
        for (key, namespace) in table {
            assert_eq!(namespace_of(key), namespace, "{key}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_label_holds_it_is_read_or_refused_by_name(
            which in 0usize..7,
            text in ".{0,100}",
            digests in proptest::collection::vec("[a-z]{1,8}", 0..60),
        ) {
            let keys = [
                REFERENCE_LABEL, IMAGE_REF, LAYER_DIGEST, IMAGE_LAYERS, MANIFEST_DIGEST, PARENT_CHAIN_ID, DIFF_ID,
            ];
            let mut odd = full();
            odd.insert(keys[which].to_owned(), text);
            if let Err(error) = RemoteRequest::parse(&odd) {
                prop_assert!(error.to_string().contains(keys[which]), "{error}");
            }
            let layers: Vec<Digest> = digests.iter().map(|text| of(text)).collect();
            let joined: Vec<String> = layers.iter().map(ToString::to_string).collect();
            let mut good = full();
            good.insert(IMAGE_LAYERS.to_owned(), joined.join(","));
            if let Ok(Some(request)) = RemoteRequest::parse(&good) {
                prop_assert_eq!(request.image_layers, layers);
            } else {
                prop_assert!(false, "{:?} is refused", joined);
            }
        }
    }
}
