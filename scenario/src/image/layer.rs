//! One layer: its plan and the shape that follows from it. The bytes are made elsewhere.

use serde::{Deserialize, Serialize};

use super::MediaType;

/// Bytes of a tar header, and the unit to which file contents are padded.
pub(crate) const TAR_BLOCK_BYTES: u64 = 512;

/// Two zero blocks end an archive.
const TAR_END_BYTES: u64 = 2 * TAR_BLOCK_BYTES;

/// `bin/`, `bin/hello` and its one block of content, which every image's bottom layer carries.
const HELLO_TAR_BYTES: u64 = 3 * TAR_BLOCK_BYTES;

/// The smallest gzip stream of an empty layer, as `docker build` writes it.
const COMPRESSED_BYTES_MIN: u64 = 32;

/// What fills the files of a generated layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentKind {
    /// Nothing but zeros, as container-chonks measured: gzip shrinks them about a thousandfold.
    Zeros,
    /// Text and binaries whose ratio can be chosen.
    #[default]
    Text,
    /// Like bf16 model weights: one byte of two is noise. Measured gzip ratio 1.26.
    Weights,
    /// Noise, which no compressor shrinks.
    Random,
}

impl ContentKind {
    /// The ratio to plan with when a craft file names none, in permille of the compressed size.
    #[must_use]
    pub fn ratio_permille(self) -> u32 {
        match self {
            Self::Zeros => 1_000_000,
            Self::Text => 2_400,
            Self::Weights => 1_260,
            Self::Random => 1_000,
        }
    }
}

/// How a layer's bytes are spread over its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSizes {
    /// All files alike.
    #[default]
    Even,
    /// Weights of powers of two from 1 to 4096, so that few files carry most bytes, as in package trees.
    Skewed,
}

/// A hand-written layer of odd tar entries instead of generated files; together they are the preset `metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OddEntries {
    /// Types, modes, links, devices, names, times and extended attributes.
    Types,
    /// Whiteouts, opaque directories, replaced types and implied parents over [`OddEntries::Types`].
    Overrides,
    /// The same path more than once and directories whose metadata comes late.
    Repeats,
}

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LayerSpec {
    /// Bytes of the layer's tar, rounded up to 512; never less than its headers need.
    pub uncompressed_bytes: u64,
    /// Planned uncompressed bytes per 1,000 compressed ones. Chosen for [`ContentKind::Text`], a property of the content else.
    pub ratio_permille: u32,
    /// What fills the files.
    pub content: ContentKind,
    /// Regular files.
    pub files: u32,
    /// How the bytes are spread over the files.
    pub file_sizes: FileSizes,
    /// Directories with an entry of their own; files are spread over them.
    pub directories: u32,
    /// How the tar becomes a blob.
    pub media_type: MediaType,
    /// The earlier layer whose blob this one repeats; the fields above are then ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<u32>,
    /// Files of the nearest generated layer below that this one removes.
    pub whiteouts: u32,
    /// Hand-written entries; the counts above then describe them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odd_entries: Option<OddEntries>,
}

/// What a layer looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Bytes of the tar.
    pub uncompressed_bytes: u64,
    /// Planned bytes of the blob.
    pub compressed_bytes: u64,
    /// Regular files.
    pub files: u32,
    /// Directories with an entry of their own.
    pub directories: u32,
    /// How the tar became a blob.
    pub media_type: MediaType,
    /// The earlier layer this one is the same blob as.
    pub duplicate_of: Option<u32>,
}

impl LayerSpec {
    /// A generated gzip layer with the content's own ratio, one file and no directory.
    #[must_use]
    pub fn new(content: ContentKind, uncompressed_bytes: u64) -> Self {
        Self {
            uncompressed_bytes,
            ratio_permille: content.ratio_permille(),
            content,
            files: 1,
            file_sizes: FileSizes::Even,
            directories: 0,
            media_type: MediaType::default(),
            duplicate_of: None,
            whiteouts: 0,
            odd_entries: None,
        }
    }

    /// A layer without entries: 1,024 zero bytes of tar, 32 of gzip; the commonest duplicate in real images.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            files: 0,
            ..Self::new(ContentKind::Zeros, 0)
        }
    }

    /// The same blob as layer `index`.
    #[must_use]
    pub fn duplicate(index: u32) -> Self {
        Self {
            duplicate_of: Some(index),
            ..Self::empty()
        }
    }

    /// The same layer with that many files and directories, sizes skewed if asked.
    #[must_use]
    pub fn with_files(self, files: u32, directories: u32, file_sizes: FileSizes) -> Self {
        Self {
            files,
            directories,
            file_sizes,
            ..self
        }
    }

    /// The same layer with another planned ratio.
    #[must_use]
    pub fn with_ratio_permille(self, ratio_permille: u32) -> Self {
        Self {
            ratio_permille,
            ..self
        }
    }

    /// The same layer in another media type.
    #[must_use]
    pub fn with_media_type(self, media_type: MediaType) -> Self {
        Self { media_type, ..self }
    }

    /// Bytes of tar that are not file content: headers and the end, for the bottom layer also `/bin/hello`.
    #[must_use]
    pub fn overhead_bytes(&self, bottom: bool) -> u64 {
        let entries =
            u64::from(self.files) + u64::from(self.directories) + u64::from(self.whiteouts);
        entries * TAR_BLOCK_BYTES + TAR_END_BYTES + if bottom { HELLO_TAR_BYTES } else { 0 }
    }

    /// The bytes of the tar as it will be crafted; `bottom` is true for layer 0, which carries `/bin/hello`.
    #[must_use]
    pub fn tar_bytes(&self, bottom: bool) -> u64 {
        if self.odd_entries.is_some() {
            return self.uncompressed_bytes;
        }
        self.uncompressed_bytes
            .next_multiple_of(TAR_BLOCK_BYTES)
            .max(self.overhead_bytes(bottom))
    }

    pub(crate) fn shape(&self, bottom: bool) -> LayerShape {
        let uncompressed_bytes = self.tar_bytes(bottom);
        let hello = u32::from(bottom && self.odd_entries.is_none());
        LayerShape {
            uncompressed_bytes,
            compressed_bytes: self.planned_compressed_bytes(uncompressed_bytes),
            files: self.files + hello,
            directories: self.directories + hello,
            media_type: self.media_type,
            duplicate_of: None,
        }
    }

    fn planned_compressed_bytes(&self, uncompressed_bytes: u64) -> u64 {
        if self.media_type == MediaType::Uncompressed {
            return uncompressed_bytes;
        }
        let planned =
            u128::from(uncompressed_bytes) * 1_000 / u128::from(self.ratio_permille.max(1));
        u64::try_from(planned)
            .unwrap_or(u64::MAX)
            .max(COMPRESSED_BYTES_MIN)
    }

    /// Says what contradicts itself in this layer alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        const RATIO_PERMILLE: std::ops::RangeInclusive<u32> = 1_000..=20_000;
        if self.content == ContentKind::Text && !RATIO_PERMILLE.contains(&self.ratio_permille) {
            return Err(format!(
                "ratio_permille {} of text content must be within 1000 and 20000",
                self.ratio_permille
            ));
        }
        if self.odd_entries.is_none()
            && self.files == 0
            && self.tar_bytes(false) > self.overhead_bytes(false)
        {
            return Err(format!(
                "{} bytes need at least one file",
                self.uncompressed_bytes
            ));
        }
        if self.uncompressed_bytes > 1 << 50 {
            return Err(format!(
                "{} bytes are more than 1 PiB",
                self.uncompressed_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_layer_is_two_zero_blocks_in_32_bytes() {
        let shape = LayerSpec::empty().shape(false);
        assert_eq!(
            (shape.uncompressed_bytes, shape.compressed_bytes),
            (1_024, 32)
        );
        assert_eq!((shape.files, shape.directories), (0, 0));
    }

    #[test]
    fn headers_count_and_the_bottom_layer_carries_hello() {
        let layer = LayerSpec::new(ContentKind::Text, 0).with_files(3, 2, FileSizes::Even);
        assert_eq!(layer.shape(false).uncompressed_bytes, 5 * 512 + 1_024);
        assert_eq!(
            layer.shape(true).uncompressed_bytes,
            5 * 512 + 1_024 + 1_536
        );
        assert_eq!(
            (layer.shape(true).files, layer.shape(true).directories),
            (4, 3)
        );
    }

    #[test]
    fn the_plan_divides_by_the_ratio_except_where_nothing_is_compressed() {
        let layer = LayerSpec::new(ContentKind::Text, 24_000 * 512).with_ratio_permille(2_400);
        assert_eq!(layer.shape(false).compressed_bytes, 10_000 * 512);
        let plain = layer.with_media_type(MediaType::Uncompressed);
        assert_eq!(plain.shape(false).compressed_bytes, 24_000 * 512);
    }
}
