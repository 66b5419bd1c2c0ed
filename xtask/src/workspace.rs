//! Where the project is, which files belong to it, and what cargo says about its packages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::source::Source;

/// The checked-out project.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    files: Vec<String>,
}

impl Workspace {
    /// The workspace this program was built from.
    ///
    /// # Errors
    /// When its files cannot be listed.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let member = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = member
            .parent()
            .context("the package stands at the root of the file system")?
            .to_path_buf();
        let files = match tracked_files(&root) {
            Some(files) => files,
            None => walk(&root)?,
        };
        Ok(Self { root, files })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The project's files as paths below the root, sorted: what git tracks, or everything but build output where the
    /// project is no git checkout.
    pub(crate) fn files(&self) -> &[String] {
        &self.files
    }

    /// Every Rust source file.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<Source>> {
        self.files
            .iter()
            .filter(|path| path.ends_with(".rs"))
            .map(|path| Ok(Source::new(path, &self.read(path)?)))
            .collect()
    }

    /// One file's text.
    ///
    /// # Errors
    /// When it cannot be read, with its name.
    pub(crate) fn read(&self, path: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("failed to read {path}"))
    }

    /// A command of the toolchain that runs this program, in the project's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// Where a profile's binaries are.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target().join(profile).join(name)
    }

    /// The build folder.
    pub(crate) fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |folder| self.root.join(folder))
    }

    /// What `cargo metadata` says.
    ///
    /// # Errors
    /// When cargo does not answer.
    pub(crate) fn metadata(&self) -> anyhow::Result<Metadata> {
        MetadataCommand::new()
            .manifest_path(self.root.join("Cargo.toml"))
            .other_options(["--locked".to_owned()])
            .exec()
            .context("failed to read cargo metadata")
    }

    /// The packages, as (name, version), that building with `arguments` of `cargo tree` takes in on this platform.
    ///
    /// `cargo metadata` is no substitute: its graph holds optional dependencies that no feature enables.
    ///
    /// # Errors
    /// When cargo does not answer.
    pub(crate) fn built(&self, arguments: &[&str]) -> anyhow::Result<BTreeSet<(String, String)>> {
        let output = self
            .cargo()
            .args(["tree", "--locked", "--prefix", "none", "--format", "{p}"])
            .args(arguments)
            .output()
            .context("failed to run cargo tree")?;
        if !output.status.success() {
            bail!(
                "cargo tree {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(parse_tree(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Reads lines such as `serde v1.0.229 (*)`.
fn parse_tree(text: &str) -> BTreeSet<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let version = words.next()?.strip_prefix('v')?;
            Some((name.to_owned(), version.to_owned()))
        })
        .collect()
}

fn tracked_files(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut files: Vec<String> = text
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(ToOwned::to_owned)
        .collect();
    files.sort();
    files.dedup();
    (!files.is_empty()).then_some(files)
}

fn walk(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let listing = fs::read_dir(&folder)
            .with_context(|| format!("failed to list {}", folder.display()))?;
        for entry in listing {
            let path = entry?.path();
            let below = path.strip_prefix(root)?.to_string_lossy().into_owned();
            if below == "target" || below == ".git" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(below);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_whatever_follows_the_version() {
        let text = "parapull-engine v0.1.0 (/src/engine)\nserde v1.0.229 (*)\nserde_derive v1.0.229 (proc-macro)\n\n";
        let expected = [
            ("parapull-engine", "0.1.0"),
            ("serde", "1.0.229"),
            ("serde_derive", "1.0.229"),
        ];
        let read = parse_tree(text);
        assert_eq!(
            read.iter()
                .map(|(name, version)| (name.as_str(), version.as_str()))
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn the_workspace_knows_its_own_files() {
        let workspace = Workspace::find().unwrap();
        assert!(
            workspace
                .files()
                .contains(&"xtask/src/workspace.rs".to_owned())
        );
        assert!(
            !workspace
                .files()
                .iter()
                .any(|path| path.starts_with("target/"))
        );
    }
}
