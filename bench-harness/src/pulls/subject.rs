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
    /// containerd with parapull as its snapshotter, through CRI.
    Parapull,
}

impl Subject {
    /// The decompressor containerd is to use: the named one, else what this machine's containerd would choose itself.
    pub fn decompressor(&self) -> Decompressor {
        match self {
            Self::Containerd(Some(decompressor)) => *decompressor,
            _ if find_program("unpigz", "").is_ok() => Decompressor::Unpigz,
            _ => Decompressor::Go,
        }
    }

    /// Whether it needs the program `parapull-snapshotter`.
    pub const fn needs_snapshotter(&self) -> bool {
        !matches!(self, Self::Containerd(_))
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
            Self::Parapull => f.write_str("parapull"),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    /// Reads a strategy or a peer.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "containerd" => Ok(Self::Containerd(None)),
            "parapull" => Ok(Self::Parapull),
            _ => match (text.parse(), text.strip_prefix("containerd:")) {
                (Ok(strategy), _) => Ok(Self::Strategy(strategy)),
                (_, Some(decompressor)) => Ok(Self::Containerd(Some(decompressor.parse()?))),
                (Err(_), None) => Err(format!(
                    "{text:?} is neither a strategy ({}) nor a peer (containerd, containerd:go, containerd:unpigz, \
                     containerd:igzip, parapull)",
                    Strategy::ALL.map(Strategy::name).join(", ")
                )),
            },
        }
    }
}

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
            "parapull",
        ] {
            assert_eq!(name.parse::<Subject>().unwrap().to_string(), name);
        }
        for name in ["", "stream", "containerd:gzip", "docker"] {
            assert!(name.parse::<Subject>().is_err(), "{name}");
        }
    }
}
