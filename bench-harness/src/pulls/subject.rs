//! The pullers that can be compared, under the names the command line and the reports use.

use std::fmt;
use std::str::FromStr;

use parapull_engine::Strategy;

use crate::processes::{Decompressor, find_program};

/// A puller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `parapull-snapshotter pull --strategy <name>`, without containerd.
    Strategy(Strategy),
    /// containerd's own overlayfs through CRI.
    Containerd(Option<Decompressor>),
    /// The same of containerd 2.1 or later, which fetches each layer in ranges, ten downloads at a time.
    Multipart(Decompressor),
    /// containerd with parapull as its snapshotter, through CRI.
    Parapull,
}

impl Subject {
    /// The decompressor containerd is to use: the named one, else what this machine's containerd would choose itself.
    pub fn decompressor(&self) -> Decompressor {
        match self {
            Self::Containerd(Some(decompressor)) | Self::Multipart(decompressor) => *decompressor,
            _ if find_program("unpigz", "").is_ok() => Decompressor::Unpigz,
            _ => Decompressor::Go,
        }
    }

    /// Whether it needs the program `parapull-snapshotter`.
    pub const fn needs_snapshotter(&self) -> bool {
        !matches!(self, Self::Containerd(_) | Self::Multipart(_))
    }

    /// Whether it needs containerd.
    pub const fn needs_containerd(&self) -> bool {
        !matches!(self, Self::Strategy(_))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strategy(strategy) => f.write_str(strategy.name()),
            Self::Containerd(None) => f.write_str("containerd"),
            Self::Containerd(Some(decompressor)) => write!(f, "containerd:{}", decompressor.name()),
            Self::Multipart(decompressor) => {
                write!(f, "{MULTIPART_PREFIX}{}", decompressor.name())
            }
            Self::Parapull => f.write_str("parapull"),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    /// Reads a strategy or a peer.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(decompressor) = text.strip_prefix(MULTIPART_PREFIX) {
            return Ok(Self::Multipart(decompressor.parse()?));
        }
        match text {
            "containerd" => Ok(Self::Containerd(None)),
            "parapull" => Ok(Self::Parapull),
            _ => match (text.parse(), text.strip_prefix("containerd:")) {
                (Ok(strategy), _) => Ok(Self::Strategy(strategy)),
                (_, Some(decompressor)) => Ok(Self::Containerd(Some(decompressor.parse()?))),
                (Err(_), None) => Err(format!(
                    "{text:?} is neither a strategy ({}) nor a peer (containerd, containerd:go, containerd:unpigz, \
                     containerd:igzip, containerd-multipart:go, containerd-multipart:igzip, parapull)",
                    Strategy::ALL.map(Strategy::name).join(", ")
                )),
            },
        }
    }
}

const MULTIPART_PREFIX: &str = "containerd-multipart:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_typos_are_told_what_exists() {
        for name in [
            "sequential",
            "store-then-unpack",
            "containerd",
            "containerd:unpigz",
            "containerd-multipart:igzip",
            "parapull",
        ] {
            assert_eq!(name.parse::<Subject>().unwrap().to_string(), name);
        }
        for name in ["", "stream", "containerd:gzip", "docker"] {
            assert!(name.parse::<Subject>().is_err(), "{name}");
        }
    }
}
