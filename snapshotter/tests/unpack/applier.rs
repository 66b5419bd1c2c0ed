//! containerd's own applier, built from its Go source where Debian's package has it and kept running.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The running program. Orders are answered one at a time.
pub struct Applier {
    orders: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
}

impl Applier {
    /// The program, or `None`, loudly, where it cannot be built.
    pub fn get() -> Option<&'static Self> {
        static APPLIER: OnceLock<Option<Applier>> = OnceLock::new();
        APPLIER.get_or_init(Self::start).as_ref()
    }

    fn start() -> Option<Self> {
        let Some(program) = build() else {
            eprintln!(
                "SKIPPED comparison with containerd: needs go and golang-github-containerd-containerd-dev"
            );
            assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
            return None;
        };
        // It ends when its input does, which is when this process ends.
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let orders = child.stdin.take().unwrap();
        let _ = std::fs::remove_file(&program);
        Some(Self {
            orders: Mutex::new((orders, answers)),
            _child: child,
        })
    }

    /// Applies an archive to a directory that is made for it; over `lowers`, the topmost first, or as the bottom layer.
    pub fn apply(&self, tar: &[u8], root: &Path, lowers: &[PathBuf]) -> Result<(), String> {
        std::fs::create_dir(root).unwrap();
        // As containerd makes it; another test may have changed the process's umask.
        std::fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        let archive = root.with_extension("tar");
        std::fs::write(&archive, tar).unwrap();
        let mut order = format!("{}\t{}", archive.display(), root.display());
        for lower in lowers {
            order.push('\t');
            order.push_str(&lower.display().to_string());
        }
        order.push('\n');
        let mut running = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        running.0.write_all(order.as_bytes()).unwrap();
        let mut answer = Vec::new();
        running.1.read_until(b'\n', &mut answer).unwrap();
        drop(running);
        std::fs::remove_file(&archive).unwrap();
        match String::from_utf8_lossy(&answer).trim_end() {
            "ok" => Ok(()),
            refusal => Err(refusal.to_owned()),
        }
    }
}

/// Go keeps what it compiled with the test's own artefacts, so that only the first run builds containerd.
fn build() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unpack/containerd.go");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = place.join(format!("apply-{}", std::process::id()));
    let has_package = Path::new(PACKAGES)
        .join("src/github.com/containerd/containerd/archive")
        .is_dir();
    let compiled = has_package
        && Command::new("go")
            .args(["build", "-o"])
            .args([&program, &source])
            .env("GO111MODULE", "off")
            .env("GOPATH", PACKAGES)
            .env("GOCACHE", place.join("go-cache"))
            .status()
            .is_ok_and(|status| status.success());
    compiled.then_some(program)
}

/// Where Debian keeps Go packages.
const PACKAGES: &str = "/usr/share/gocode";
