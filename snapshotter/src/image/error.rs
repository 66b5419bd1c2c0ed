//! Why a document is not an image we can pull.

use crate::digest::Digest;

/// A manifest, index or configuration that cannot be used.
///
/// The texts fit after "failed to …: ". Names that come from the document are cut to 120 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The bytes are not those the digest names.
    #[error("{what} {expected} has other content: its bytes hash to {actual}")]
    WrongDigest {
        /// Which document.
        what: &'static str,
        /// The digest it was asked for by.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The document has another length than its descriptor says.
    #[error("{what} {digest} has {actual} bytes where its descriptor says {expected}")]
    WrongSize {
        /// Which document.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Bytes according to the descriptor.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// The document is larger than we read.
    #[error("{what} has {bytes} bytes or more; at most {bytes_max} are accepted")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size, or where reading stopped.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The document is not JSON of the expected shape.
    #[error("{what} is malformed: {message}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// What the parser says.
        message: String,
    },
    /// A Docker schema 1 manifest, which has no layer sizes and no diff ids.
    #[error(
        "manifest is of Docker schema 1, which is obsolete and not supported; rebuild or push the image again with a current tool"
    )]
    Schema1,
    /// A media type that is neither an image manifest nor an index.
    #[error("media type {media_type:?} is neither an image manifest nor an image index")]
    UnknownMediaType {
        /// The media type, shortened.
        media_type: String,
    },
    /// A document that could be read both as a manifest and as an index (CVE-2021-41190).
    #[error("{what} is ambiguous: {message}")]
    Ambiguous {
        /// Which document.
        what: &'static str,
        /// Which fields contradict each other.
        message: &'static str,
    },
    /// A layer we cannot unpack.
    #[error(
        "layer {index} has media type {media_type:?}, which is not a tar, tar+gzip or tar+zstd layer"
    )]
    LayerMediaType {
        /// Its index from the bottom.
        index: usize,
        /// Its media type, shortened.
        media_type: String,
    },
    /// More layers than accepted.
    #[error("manifest has {layers} layers; at most {layers_max} are accepted")]
    TooManyLayers {
        /// How many it has.
        layers: usize,
        /// The limit.
        layers_max: usize,
    },
    /// A size no blob has.
    #[error("descriptor of {digest} claims {bytes} bytes; at most {bytes_max} are accepted")]
    AbsurdSize {
        /// The blob.
        digest: Digest,
        /// Its claimed size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// Manifest and configuration disagree about the number of layers.
    #[error("manifest has {layers} layers but the configuration has {diff_ids} diff ids")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the configuration.
        diff_ids: usize,
    },
    /// One blob is listed twice with different facts.
    #[error("blob {digest} is listed twice with different sizes or diff ids")]
    Contradiction {
        /// The blob.
        digest: Digest,
    },
    /// The index has nothing for the platform.
    #[error("no image for platform {platform}; the index offers {offered}")]
    NoPlatform {
        /// What was asked for.
        platform: String,
        /// What there is, shortened.
        offered: String,
    },
    /// The configuration is for another platform.
    #[error("image is for platform {actual}, not for {expected}")]
    WrongPlatform {
        /// What was asked for.
        expected: String,
        /// What the configuration says.
        actual: String,
    },
    /// Indexes that point to indexes without an end.
    #[error("image indexes are nested more than {depth_max} deep")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
}

/// Checks `bytes` against `expected`.
pub(super) fn verify(
    what: &'static str,
    expected: &Digest,
    bytes: &[u8],
) -> Result<(), ImageError> {
    let actual = Digest::of(bytes);
    if actual == *expected {
        return Ok(());
    }
    Err(ImageError::WrongDigest {
        what,
        expected: *expected,
        actual,
    })
}

/// Cuts a text from outside to what fits in a message.
pub(super) fn excerpt(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(EXCERPT_CHARACTERS_MAX)
        .collect()
}

/// Reads JSON, refusing what is larger than `bytes_max`.
pub(super) fn parse_json<'de, T: serde::Deserialize<'de>>(
    what: &'static str,
    bytes: &'de [u8],
    bytes_max: u64,
) -> Result<T, ImageError> {
    let length = bytes.len() as u64;
    if length > bytes_max {
        return Err(ImageError::TooLarge {
            what,
            bytes: length,
            bytes_max,
        });
    }
    // The parser would also fill a structure from an array, by position; other tools do not.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ImageError::Malformed {
            what,
            message: "it is not a JSON object".to_owned(),
        });
    }
    serde_json::from_slice(bytes).map_err(|error| ImageError::Malformed {
        what,
        message: excerpt(&error.to_string()),
    })
}

const EXCERPT_CHARACTERS_MAX: usize = 120;
