//! The containerd generations that parapull promises to work under, side by side on one machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{ContainerdVersion, ProcessError, debian, find_program};

/// A containerd generation with a fragment in `deploy/containerd/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 1.6, as in Debian 12.
    V1_6,
    /// 1.7, as in Debian 13.
    V1_7,
    /// 2.1 and later, as in Debian's testing.
    V2,
}

impl Generation {
    /// Every generation, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_6, Self::V1_7, Self::V2];

    /// Its name on the command line and of its fragment.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2 => "2",
        }
    }

    /// Finds a containerd of this generation: the installed one, else Debian's, unpacked into a cache.
    ///
    /// Which 2.x testing has changes with time; any from 2.1 is right. Only containerd, `ctr` and the shims come from
    /// there: runc stays the machine's, because a newer one needs a newer C library than this machine may have.
    ///
    /// # Errors
    /// [`ProcessError::Obtain`], or [`ProcessError::Answer`] when the suite has another version by now.
    pub fn obtain(self) -> Result<ObtainedContainerd, ProcessError> {
        if let Ok(program) = find_program("containerd", "")
            && let Ok(version) = ContainerdVersion::of(&program)
            && self.has(version)
        {
            return Ok(ObtainedContainerd { program, version });
        }
        let suite = self.suite();
        let program = debian::unpacked(suite, &["containerd"])?.join("usr/bin/containerd");
        let version = ContainerdVersion::of(&program)?;
        if self.has(version) {
            return Ok(ObtainedContainerd { program, version });
        }
        Err(ProcessError::Answer {
            what: format!("containerd of Debian's {suite}, which should be {self}"),
            text: version.to_string(),
        })
    }

    /// Whether `version` belongs to it.
    fn has(self, version: ContainerdVersion) -> bool {
        match self {
            Self::V1_6 => (version.major, version.minor) == (1, 6),
            Self::V1_7 => (version.major, version.minor) == (1, 7),
            Self::V2 => (version.major, version.minor) >= (2, 1),
        }
    }

    const fn suite(self) -> &'static str {
        match self {
            Self::V1_6 => "bookworm",
            Self::V1_7 => "trixie",
            Self::V2 => "testing",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Generation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| {
            format!(
                "{text:?} is no containerd generation: write {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

/// A containerd that can be started; `ctr` and its shim lie beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObtainedContainerd {
    /// The daemon.
    pub program: PathBuf,
    /// What it says of itself.
    pub version: ContainerdVersion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_at_most_one_generation() {
        for (version, expected) in [
            ("1.5.9", None),
            ("1.6.20", Some(Generation::V1_6)),
            ("1.7.24", Some(Generation::V1_7)),
            ("2.0.11", None),
            ("2.1.9", Some(Generation::V2)),
            ("2.4.2", Some(Generation::V2)),
            ("3.0.0", Some(Generation::V2)),
        ] {
            let version: ContainerdVersion = version.parse().unwrap();
            let found: Vec<Generation> = Generation::ALL
                .into_iter()
                .filter(|generation| generation.has(version))
                .collect();
            assert_eq!(found, Vec::from_iter(expected), "{version}");
        }
    }

    #[test]
    fn names_read_back() {
        for generation in Generation::ALL {
            assert_eq!(generation.name().parse(), Ok(generation));
        }
        assert!("1.8".parse::<Generation>().is_err());
    }
}
