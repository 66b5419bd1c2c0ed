//! containerd's configuration file, per version; nothing here starts anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use super::{ProcessError, find_program, run};

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

/// A proxy snapshotter containerd is told about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySnapshotter {
    /// Its plugin name, such as `parapull`.
    pub name: String,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its root directory, which containerd reports as the image file system.
    pub root: PathBuf,
}

/// Where one private containerd keeps everything.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) root: PathBuf,
    pub(super) state: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) hosts: PathBuf,
    pub(super) empty: PathBuf,
}

/// The whole configuration file: CRI on `snapshotter`, labels for remote snapshotters on, no CNI, nothing outside
/// `paths`.
///
/// Version 3 of the file belongs to containerd 2.x, which silently drops CRI's `snapshotter` and
/// `disable_snapshot_annotations` from a version 2 file.
pub(super) fn configuration(
    version: ContainerdVersion,
    paths: &Paths,
    snapshotter: &str,
    proxy: Option<&ProxySnapshotter>,
) -> String {
    let mut text = String::new();
    let file_version = if version.major >= 2 { 3 } else { 2 };
    let _ = writeln!(text, "version = {file_version}");
    let _ = writeln!(text, "root = {}", quoted(&paths.root));
    let _ = writeln!(text, "state = {}", quoted(&paths.state));
    let _ = writeln!(text, "[grpc]\n  address = {}", quoted(&paths.socket));
    let opt = paths.root.join("opt");
    let _ = writeln!(
        text,
        "[plugins.'io.containerd.internal.v1.opt']\n  path = {}",
        quoted(&opt)
    );
    if version.major >= 2 {
        version_3(&mut text, paths, snapshotter, proxy);
    } else {
        version_2(&mut text, paths, snapshotter);
    }
    if let Some(proxy) = proxy {
        let _ = writeln!(text, "[proxy_plugins.{}]\n  type = 'snapshot'", proxy.name);
        let _ = writeln!(text, "  address = {}", quoted(&proxy.socket));
        if version >= FIRST_WITH_EXPORTS {
            let _ = writeln!(
                text,
                "  [proxy_plugins.{}.exports]\n    root = {}",
                proxy.name,
                quoted(&proxy.root)
            );
            if version.major >= 2 {
                text.push_str("    enable_remote_snapshot_annotations = 'true'\n");
            }
        }
    }
    text
}

fn version_2(text: &mut String, paths: &Paths, snapshotter: &str) {
    let empty = quoted(&paths.empty);
    let hosts = quoted(&paths.hosts);
    let _ = writeln!(
        text,
        "[plugins.'io.containerd.grpc.v1.cri']
  [plugins.'io.containerd.grpc.v1.cri'.cni]
    bin_dir = {empty}
    conf_dir = {empty}
  [plugins.'io.containerd.grpc.v1.cri'.containerd]
    snapshotter = '{snapshotter}'
    disable_snapshot_annotations = false
    discard_unpacked_layers = false
  [plugins.'io.containerd.grpc.v1.cri'.registry]
    config_path = {hosts}"
    );
}

fn version_3(
    text: &mut String,
    paths: &Paths,
    snapshotter: &str,
    proxy: Option<&ProxySnapshotter>,
) {
    let empty = quoted(&paths.empty);
    let hosts = quoted(&paths.hosts);
    let _ = writeln!(
        text,
        "[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dir = {empty}
  conf_dir = {empty}
[plugins.'io.containerd.cri.v1.images']
  snapshotter = '{snapshotter}'
  disable_snapshot_annotations = false
  discard_unpacked_layers = false
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = {hosts}
[plugins.'io.containerd.transfer.v1.local']
  config_path = {hosts}"
    );
    let names = std::iter::once("overlayfs").chain(proxy.map(|proxy| proxy.name.as_str()));
    for name in names {
        let _ = writeln!(
            text,
            "  [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
    platform = '{}'
    snapshotter = '{name}'",
            platform()
        );
    }
}

/// containerd's name of this machine's platform.
fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// A TOML string; JSON's escapes are a subset of a basic string's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// `[proxy_plugins.<name>.exports]` is unknown before 1.7.16.
const FIRST_WITH_EXPORTS: ContainerdVersion = ContainerdVersion {
    major: 1,
    minor: 7,
    patch: 16,
};

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

    #[test]
    fn each_version_gets_the_keys_it_knows() {
        let paths = Paths {
            root: "/w/root".into(),
            state: "/w/state".into(),
            socket: "/w/c.sock".into(),
            hosts: "/w/hosts".into(),
            empty: "/w/empty".into(),
        };
        let proxy = ProxySnapshotter {
            name: "parapull".into(),
            socket: "/w/p.sock".into(),
            root: "/w/p".into(),
        };
        for (version, has, lacks) in [
            ("1.6.20", "grpc.v1.cri", "exports"),
            ("1.7.15", "version = 2", "exports"),
            ("1.7.16", "exports", "enable_remote_snapshot_annotations"),
            ("2.1.9", "enable_remote_snapshot_annotations", "grpc.v1.cri"),
            ("2.3.0", "unpack_config", "version = 2"),
        ] {
            let text = configuration(version.parse().unwrap(), &paths, "parapull", Some(&proxy));
            assert!(text.contains(has), "{version}: {text}");
            assert!(!text.contains(lacks), "{version}: {text}");
            assert!(
                text.contains("disable_snapshot_annotations = false"),
                "{version}"
            );
        }
    }

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
