//! How a layer's tar becomes a blob, as one short text in craft files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A layer's compression, written `gzip`, `gzip:9`, `gzip-members:6`, `zstd:3` or `uncompressed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// One gzip member at a level from 1 to 9; 6 is what `docker build` uses.
    Gzip {
        /// 1 (fast) to 9 (small).
        level: u32,
    },
    /// Several concatenated gzip members, one per MiB of tar and at least two.
    GzipMembers {
        /// 1 (fast) to 9 (small).
        level: u32,
    },
    /// One zstd frame at a level from 1 to 19.
    Zstd {
        /// 1 (fast) to 19 (small).
        level: u32,
    },
    /// The tar itself.
    Uncompressed,
}

/// A text that is no media type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is no media type: write gzip, gzip:1 to gzip:9, gzip-members:6, zstd:1 to zstd:19 or uncompressed"
)]
pub struct MediaTypeError {
    text: String,
}

const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: u32 = 3;

impl MediaType {
    /// The OCI media type of such a layer.
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::Gzip { .. } | Self::GzipMembers { .. } => {
                "application/vnd.oci.image.layer.v1.tar+gzip"
            }
            Self::Zstd { .. } => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Uncompressed => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

impl Default for MediaType {
    fn default() -> Self {
        Self::Gzip { level: GZIP_LEVEL }
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MediaTypeError {
            text: text.chars().take(40).collect(),
        };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u32>().map_err(|_| error())?)),
            None => (text, None),
        };
        let within = |default: u32, level_max: u32| match level.unwrap_or(default) {
            level if (1..=level_max).contains(&level) => Ok(level),
            _ => Err(error()),
        };
        match name {
            "gzip" => Ok(Self::Gzip {
                level: within(GZIP_LEVEL, 9)?,
            }),
            "gzip-members" => Ok(Self::GzipMembers {
                level: within(GZIP_LEVEL, 9)?,
            }),
            "zstd" => Ok(Self::Zstd {
                level: within(ZSTD_LEVEL, 19)?,
            }),
            "uncompressed" if level.is_none() => Ok(Self::Uncompressed),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip { level } => write!(f, "gzip:{level}"),
            Self::GzipMembers { level } => write!(f, "gzip-members:{level}"),
            Self::Zstd { level } => write!(f, "zstd:{level}"),
            Self::Uncompressed => f.write_str("uncompressed"),
        }
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for (text, shown) in [
            ("gzip", "gzip:6"),
            ("gzip:1", "gzip:1"),
            ("gzip-members", "gzip-members:6"),
            ("zstd", "zstd:3"),
            ("uncompressed", "uncompressed"),
        ] {
            let media_type: MediaType = text.parse().unwrap();
            assert_eq!(media_type.to_string(), shown);
            assert_eq!(shown.parse(), Ok(media_type));
        }
        for text in [
            "",
            "gzip:",
            "gzip:0",
            "gzip:10",
            "zstd:20",
            "uncompressed:1",
            "bzip2",
        ] {
            assert!(text.parse::<MediaType>().is_err(), "{text}");
        }
    }
}
