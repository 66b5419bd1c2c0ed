//! The command as a user types it, and what came of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::images::{TestImage, memory};
use super::served::Served;
use super::tree::Tree;

/// A place to pull to, and the command line so far.
pub struct Pull {
    folder: TempDir,
    pub to: PathBuf,
    reference: String,
    arguments: Vec<String>,
}

impl Pull {
    /// Into a directory that does not exist, on a memory file system.
    pub fn of(served: &Served) -> Self {
        Self::of_reference(&served.reference)
    }

    pub fn of_reference(reference: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("pull-")
            .tempdir_in(memory())
            .unwrap();
        Self {
            to: folder.path().join("deep/er"),
            folder,
            reference: reference.to_owned(),
            // What is sent is counted: on a busy machine a hedge could be among it.
            arguments: ["--json", "--set", HEDGE_OFF].map(str::to_owned).into(),
        }
    }

    /// With hedges as they are by default.
    #[must_use]
    pub fn hedged(mut self) -> Self {
        for argument in &mut self.arguments {
            if argument == HEDGE_OFF {
                *argument = "hedge=auto".into();
            }
        }
        self
    }

    #[must_use]
    pub fn to(mut self, to: &Path) -> Self {
        self.to = to.to_path_buf();
        self
    }

    #[must_use]
    pub fn set(self, key_value: &str) -> Self {
        self.with(&["--set", key_value])
    }

    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Without `--json`.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.arguments.retain(|argument| argument != "--json");
        self
    }

    /// A file beside the directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"));
        // Neither this machine's logins nor its settings are part of a test.
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DOCKER_CONFIG", self.folder.path().join("no-docker"))
            .args(["pull", &self.reference, "--to"])
            .arg(&self.to)
            .args(&self.arguments);
        command
    }

    pub fn start(&self) -> Child {
        self.command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub fn run(&self) -> Ended {
        Ended::from(self.command().stdin(Stdio::null()).output().unwrap())
    }

    /// Asserts that nothing of the attempt is left.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let left: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// The trees of the layers, bottom first, without the times of directories that no archive gives.
    pub fn trees(&self, image: &TestImage) -> Vec<Tree> {
        trees(&self.to, image)
    }
}

/// What a finished command leaves.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The document of a pull that succeeded.
    #[track_caller]
    pub fn figures(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_eq!(self.stderr, "", "a quiet success");
        self.document()
    }

    /// The `error` object of a pull that failed with one line on standard error.
    #[track_caller]
    pub fn failure(&self, kind: &str) -> Value {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let error = self.document()["error"].clone();
        assert_eq!(error["kind"], kind, "{self:#?}");
        let first = self.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: "), "{self:#?}");
        error
    }

    #[track_caller]
    fn document(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// The trees below `root`, bottom first.
#[track_caller]
pub fn trees(root: &Path, image: &TestImage) -> Vec<Tree> {
    let expected: Vec<String> = image
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| format!("{index:03}-{}", layer.short()))
        .collect();
    assert_eq!(names(&root.join("layers")), expected);
    assert_eq!(names(root), ["layers", "manifest.json"]);
    let layers = expected.iter().enumerate().map(|(index, name)| {
        assert_eq!(names(&root.join("layers").join(name)), ["fs"]);
        let mut tree = Tree::read(&root.join("layers").join(name).join("fs"));
        let (own, _) = image.entries(index);
        for (path, node) in &mut tree.0 {
            if node.kind == 'd' && !own.contains(path) {
                node.mtime = (0, 0);
            }
        }
        tree
    });
    layers.collect()
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether the test has root's powers; loud when not, and a failure where everything is required.
pub fn is_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip(
        test,
        "needs root for owners, devices and trusted attributes",
    );
    false
}

pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
        "{test}: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
}

const HEDGE_OFF: &str = "hedge=off";
