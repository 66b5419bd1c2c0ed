//! The programs that containerd may inflate gzip layers with.

use std::str::FromStr;

use super::{ContainerdVersion, ProcessError, find_program};

/// What containerd inflates gzip layers with; every measured figure must name it.
///
/// One stream each: Go's own gzip about 190 MB/s out, unpigz 300, igzip 660.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decompressor {
    /// Go's `compress/gzip` inside containerd.
    Go,
    /// The program `unpigz` (containerd's first choice before 2.0).
    Unpigz,
    /// The program `igzip` (containerd 2.0 and later).
    Igzip,
}

impl Decompressor {
    /// Its name in reports and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Unpigz => "unpigz",
            Self::Igzip => "igzip",
        }
    }

    /// What containerd `version` would choose on this machine by itself.
    pub fn chosen_by(version: ContainerdVersion) -> Self {
        let is_there = |name| find_program(name, "").is_ok();
        if version.major >= 2 && is_there("igzip") {
            Self::Igzip
        } else if is_there("unpigz") {
            Self::Unpigz
        } else {
            Self::Go
        }
    }

    /// The environment that makes containerd use exactly this one.
    ///
    /// # Errors
    /// When the program is not installed or this version never uses it: otherwise the figure would carry a wrong name.
    pub fn environment(
        self,
        version: ContainerdVersion,
    ) -> Result<Vec<(&'static str, &'static str)>, ProcessError> {
        let no_igzip = ("CONTAINERD_DISABLE_IGZIP", "1");
        let no_pigz = ("CONTAINERD_DISABLE_PIGZ", "1");
        match self {
            Self::Go => Ok(vec![no_pigz, no_igzip]),
            Self::Unpigz => {
                find_program("unpigz", "install the package pigz").map(|_| vec![no_igzip])
            }
            Self::Igzip if version.major < 2 => Err(ProcessError::NotFound {
                name: "igzip".into(),
                hint: format!("containerd {version} never runs it; 2.0 and later do"),
            }),
            Self::Igzip => find_program("igzip", "install the package isal").map(|_| vec![no_pigz]),
        }
    }
}

impl FromStr for Decompressor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Go, Self::Unpigz, Self::Igzip]
            .into_iter()
            .find(|one| one.name() == text)
            .ok_or_else(|| format!("{text:?} is no decompressor: write go, unpigz or igzip"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decompressor_containerd_would_not_run_is_refused() {
        let old = "1.6.20".parse().unwrap();
        assert!(Decompressor::Igzip.environment(old).is_err());
        assert!(
            Decompressor::Go
                .environment(old)
                .unwrap()
                .contains(&("CONTAINERD_DISABLE_PIGZ", "1"))
        );
        assert_eq!("unpigz".parse(), Ok(Decompressor::Unpigz));
        assert!("gzip".parse::<Decompressor>().is_err());
    }
}
