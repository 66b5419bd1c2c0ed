//! Who unpacks: ours with one or more threads, and peers with one way to decompress each.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use super::place::Place;
use super::{PlaceKind, TestLayer, UnpackBenchError};
use crate::measure::ProcessUsage;
use crate::processes::{
    Containerd, ContainerdOptions, Decompressor, Generation, ObtainedContainerd, find_program, run,
};

/// Somebody who unpacks a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// A lane with this many threads, in a process of its own.
    Parapull(u32),
    /// `tar -x` behind this program; verifies nothing.
    Tar(&'static str),
    /// The same behind igzip, whose output is hashed on the way.
    TarHashed,
    /// `umoci raw unpack`, which verifies both digests.
    Umoci,
    /// containerd's unpacking of an image it has, which verifies the diff ID.
    Containerd(Generation, Decompressor),
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
}

impl Contender {
    /// All, ours first.
    pub const ALL: [Self; 11] = [
        Self::Parapull(1),
        Self::Parapull(2),
        Self::Tar("gzip"),
        Self::Tar("unpigz"),
        Self::Tar("igzip"),
        Self::TarHashed,
        Self::Umoci,
        Self::Containerd(Generation::V1_6, Decompressor::Go),
        Self::Containerd(Generation::V1_6, Decompressor::Unpigz),
        Self::Containerd(Generation::V2, Decompressor::Go),
        Self::Containerd(Generation::V2, Decompressor::Igzip),
    ];

    /// Whether it proves that the tree is the one the image names, as containerd and umoci do.
    pub const fn is_verifying_peer(self) -> bool {
        matches!(self, Self::Umoci | Self::Containerd(..))
    }

    /// Unpacks `layer` onto a file system of the kind `place`, made for it below `folder`.
    pub(super) fn unpack(
        self,
        layer: &TestLayer,
        place: PlaceKind,
        folder: &Path,
    ) -> Result<Taken, UnpackBenchError> {
        if let Self::Containerd(generation, decompressor) = self {
            let obtained = generation.obtain()?;
            return by_containerd(layer, place, &obtained, decompressor, folder);
        }
        let at = folder.join("fs");
        let _place = Place::mount(place, &at)?;
        let to = at.join("tree");
        let mut command = self.command(layer, &to, folder)?;
        let (before, start) = (own_cpu_seconds(), Instant::now());
        run(&mut command)?;
        let taken = Taken {
            seconds: start.elapsed().as_secs_f64(),
            cpu_seconds: own_cpu_seconds() - before,
        };
        if self == Self::TarHashed {
            check_hash(layer, folder)?;
        }
        Ok(taken)
    }

    /// What runs as one child, whose processor time and that of its children is counted when it has ended.
    fn command(
        self,
        layer: &TestLayer,
        to: &Path,
        folder: &Path,
    ) -> Result<Command, UnpackBenchError> {
        let shell = |script: &str| {
            let mut shell = Command::new("sh");
            shell
                .args(["-ec", script])
                .arg(&layer.blob)
                .arg(to)
                .arg(folder);
            shell
        };
        Ok(match self {
            Self::Parapull(threads) => {
                let own = std::env::current_exe()
                    .map_err(UnpackBenchError::file("find", Path::new("/proc/self/exe")))?;
                let mut command = Command::new(own);
                command.args(super::unpack_one_arguments(
                    layer,
                    "lane",
                    threads,
                    Some(to),
                ));
                command
            }
            Self::Umoci => {
                let umoci = find_program("umoci", "install the package umoci")?;
                let mut command = Command::new(umoci);
                command.args(["raw", "unpack", "--image"]);
                command
                    .arg(format!("{}:layer", layer.layout.display()))
                    .arg(to);
                command
            }
            Self::TarHashed => shell(HASHED),
            Self::Tar(program) => {
                let program = find_program(program, "install the packages isal and pigz")?;
                shell(&format!(
                    "mkdir \"$1\"\n{} -dc \"$0\" | {TAR} \"$1\"",
                    program.display()
                ))
            }
            Self::Containerd(..) => Command::new("false"),
        })
    }
}

/// Times the unpacking alone: the image was imported before, and the snapshotter's folder is the fresh file system.
fn by_containerd(
    layer: &TestLayer,
    place: PlaceKind,
    obtained: &ObtainedContainerd,
    decompressor: Decompressor,
    folder: &Path,
) -> Result<Taken, UnpackBenchError> {
    let own = folder.join("containerd");
    let _ = fs::remove_dir_all(&own);
    let snapshots = own.join("root/io.containerd.snapshotter.v1.overlayfs");
    let _place = Place::mount(place, &snapshots)?;
    let options = ContainerdOptions {
        program: obtained.program.clone(),
        proxy: None,
        cri_pull: Default::default(),
        decompressor,
        plain_http_hosts: Vec::new(),
    };
    let containerd = Containerd::start(&own, &options)?;
    let ctr = containerd.ctr();
    let image = layer.image.to_string_lossy();
    let mut import = vec!["images", "import", "--no-unpack"];
    if obtained.version.major >= 2 {
        import.push("--local");
    }
    ctr.run(import.into_iter().chain([&*image]))?;
    let cpu = || ProcessUsage::of(containerd.id()).map_or(0.0, |usage| usage.cpu_seconds);
    let manifest = layer.manifest.to_string();
    let (before, start) = (cpu(), Instant::now());
    ctr.run(["snapshots", "unpack", &manifest])?;
    let taken = Taken {
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: cpu() - before,
    };
    // The daemon and its mounts go before the file system they lie on.
    let diff_id = layer.spec.diff_id.to_string();
    let committed = ctr.snapshots("overlayfs")?;
    drop(containerd);
    if committed.iter().any(|row| row.key == diff_id) {
        return Ok(taken);
    }
    Err(UnpackBenchError::Wrong {
        who: format!("containerd {}", obtained.version),
        why: "it has no snapshot of the layer".into(),
    })
}

/// Of this process and the children it has waited for.
fn own_cpu_seconds() -> f64 {
    ProcessUsage::of(std::process::id()).map_or(0.0, |usage| usage.cpu_seconds)
}

fn check_hash(layer: &TestLayer, folder: &Path) -> Result<(), UnpackBenchError> {
    let path = folder.join("archive.sum");
    let text = fs::read_to_string(&path).map_err(UnpackBenchError::file("read", &path))?;
    let sum = text.split(' ').next().unwrap_or_default();
    if layer.spec.diff_id.to_string() == format!("sha256:{sum}") {
        return Ok(());
    }
    Err(UnpackBenchError::Wrong {
        who: "igzip".into(),
        why: format!("sha256sum says {sum}"),
    })
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Parapull(threads) => format!("parapull:{threads}"),
            Self::Tar(program) => format!("tar:{program}"),
            Self::TarHashed => "tar:igzip+sha256".into(),
            Self::Umoci => "umoci".into(),
            Self::Containerd(generation, by) => {
                format!("containerd-{generation}:{}", by.name())
            }
        };
        f.pad(&name)
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(threads) = text.strip_prefix("parapull:") {
            let threads = threads.parse().ok().filter(|threads| *threads > 0);
            return threads
                .map(Self::Parapull)
                .ok_or_else(|| format!("{text:?}: write parapull:N with N threads"));
        }
        let found = Self::ALL.into_iter().find(|one| one.to_string() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|one| one.to_string()).join(", ");
            format!("{text:?} is no contender: write {names}")
        })
    }
}

/// As a layer's applier does it: owners by number, modes as they are.
const TAR: &str = "tar --numeric-owner -xpC";

/// The shell waits for the hash too, which `tee >(sha256sum)` would not.
const HASHED: &str = "mkdir \"$1\"; cd \"$2\"; rm -f pipe; mkfifo pipe
sha256sum <pipe >archive.sum &
igzip -dc \"$0\" | tee pipe | tar --numeric-owner -xpC \"$1\"
wait";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_ours_may_have_any_number_of_threads() {
        for contender in Contender::ALL {
            assert_eq!(contender.to_string().parse(), Ok(contender));
        }
        assert_eq!("parapull:8".parse(), Ok(Contender::Parapull(8)));
        for wrong in ["parapull:0", "parapull", "tar", "containerd-1.6:igzip"] {
            assert!(wrong.parse::<Contender>().is_err(), "{wrong}");
        }
    }
}
