//! What is known of a layer before its first byte: its descriptor, its diff id and how its bytes are encoded.

use crate::digest::Digest;

/// What a layer's bytes must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpec {
    /// How the decompressor is chosen.
    pub encoding: Encoding,
    /// Digest of the compressed bytes, from the manifest's descriptor.
    pub digest: Digest,
    /// Compressed bytes, from the manifest's descriptor.
    pub size: u64,
    /// Digest of the uncompressed bytes, from the image configuration.
    pub diff_id: Digest,
}

/// How the decompressor of a layer is chosen.
///
/// The media type says only whether to look: containerd and Docker find out by magic what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// gzip, zstd or nothing, as the first bytes say.
    Sniffed,
    /// Never compressed: what looks like gzip here is not a tar archive and is refused.
    Plain,
}

impl Encoding {
    /// The rule for a layer's media type, or `None` for a type that is not a layer that can be unpacked here
    /// (encrypted layers, artefacts).
    ///
    /// The same table as containerd's `images.DiffCompression`, and Docker's zstd type as containerd 2.x knows it.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Some(Self::Plain),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Sniffed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_media_type() {
        let cases = [
            (
                "application/vnd.oci.image.layer.v1.tar",
                Some(Encoding::Plain),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                Some(Encoding::Sniffed),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                Some(Encoding::Sniffed),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar",
                Some(Encoding::Sniffed),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Some(Encoding::Sniffed),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                None,
            ),
            ("application/vnd.oci.image.config.v1+json", None),
            ("", None),
        ];
        for (media_type, expected) in cases {
            assert_eq!(
                Encoding::of_media_type(media_type),
                expected,
                "{media_type}"
            );
        }
    }
}
