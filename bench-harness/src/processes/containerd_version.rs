//! Which containerd a program is.

use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use super::{ProcessError, run};

/// The part of containerd's version that decides the shape of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerdVersion {
    /// 1 or 2.
    pub major: u32,
    /// Such as 6 in 1.6.
    pub minor: u32,
    /// Such as 20 in 1.6.20.
    pub patch: u32,
}

impl ContainerdVersion {
    /// Asks the program (`containerd --version`).
    ///
    /// # Errors
    /// When it does not run or answers no version.
    pub fn of(program: &Path) -> Result<Self, ProcessError> {
        let text = run(Command::new(program).arg("--version"))?.text();
        text.parse()
    }
}

impl FromStr for ContainerdVersion {
    type Err = ProcessError;

    /// Reads `containerd github.com/containerd/containerd 1.6.20~ds1 …`, `v2.1.9` and the like: the first word that
    /// starts with three numbers.
    fn from_str(text: &str) -> Result<Self, ProcessError> {
        text.split_whitespace()
            .find_map(parse_word)
            .ok_or_else(|| ProcessError::Answer {
                what: "containerd's version".into(),
                text: text.chars().take(200).collect(),
            })
    }
}

fn parse_word(word: &str) -> Option<ContainerdVersion> {
    let mut numbers = word.strip_prefix('v').unwrap_or(word).splitn(3, '.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    let rest = numbers.next()?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let patch = rest[..digits].parse().ok()?;
    Some(ContainerdVersion {
        major,
        minor,
        patch,
    })
}

impl std::fmt::Display for ContainerdVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_programs_print() {
        for (text, version) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
                (1, 6, 20),
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.1.9 abcdef",
                (2, 1, 9),
            ),
            ("containerd containerd.io 1.7.24 88bf19b", (1, 7, 24)),
            (
                "containerd github.com/containerd/containerd/v2 2.4.0-beta.0",
                (2, 4, 0),
            ),
        ] {
            let read: ContainerdVersion = text.parse().unwrap();
            assert_eq!((read.major, read.minor, read.patch), version, "{text}");
        }
        assert!(
            "containerd: command not found"
                .parse::<ContainerdVersion>()
                .is_err()
        );
    }
}
