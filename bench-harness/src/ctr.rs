//! containerd's own client `ctr`, run as a program: what operators type, and the only door to snapshots and content.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::processes::{ProcessError, run};

/// `ctr` on one socket and namespace.
#[derive(Debug, Clone)]
pub struct Ctr {
    program: PathBuf,
    socket: PathBuf,
    namespace: String,
}

/// One row of `ctr snapshots ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The snapshot's name or key.
    pub key: String,
    /// Its parent's name, empty for none.
    pub parent: String,
    /// `Committed`, `Active` or `View`.
    pub kind: String,
}

/// One row of `ctr content ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRow {
    /// The blob's digest.
    pub digest: String,
    /// Its size as `ctr` rounds it, such as `1.2 MB`.
    pub size: String,
}

impl Ctr {
    /// `program` on `socket` (absolute, as newer versions demand) in `namespace`.
    pub fn new(program: &Path, socket: &Path, namespace: &str) -> Self {
        Self {
            program: program.into(),
            socket: socket.into(),
            namespace: namespace.into(),
        }
    }

    /// The same in another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Runs `ctr <arguments>` and returns its stdout as text.
    ///
    /// # Errors
    /// [`ProcessError::Failed`] with its complaint.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        arguments: I,
    ) -> Result<String, ProcessError> {
        Ok(run(self.command().args(arguments))?.text())
    }

    /// Pulls by `ctr images pull` over plain HTTP: before 2.0 `ctr` itself fetches, then the transfer service.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn pull(&self, image: &str, snapshotter: &str) -> Result<(), ProcessError> {
        self.pull_with(&[], image, snapshotter)
    }

    /// The same with `--local`, which 1.6 does not know: `ctr` itself fetches.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn pull_locally(&self, image: &str, snapshotter: &str) -> Result<(), ProcessError> {
        self.pull_with(&["--local"], image, snapshotter)
    }

    fn pull_with(
        &self,
        options: &[&str],
        image: &str,
        snapshotter: &str,
    ) -> Result<(), ProcessError> {
        let pull = ["images", "pull", "--plain-http"].iter().chain(options);
        let rest = ["--snapshotter", snapshotter, image];
        self.run(pull.copied().chain(rest)).map(drop)
    }

    /// Runs a container to its end (`ctr run --rm`) and returns what it wrote to stdout.
    ///
    /// # Errors
    /// See [`Ctr::run`]; a container's exit code other than 0 is an error.
    pub fn run_container(
        &self,
        image: &str,
        snapshotter: &str,
        id: &str,
        command: &[&str],
    ) -> Result<String, ProcessError> {
        let mut arguments = vec!["run", "--rm", "--snapshotter", snapshotter, image, id];
        arguments.extend_from_slice(command);
        self.run(arguments)
    }

    /// Removes an image and waits for garbage collection (`--sync`).
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn remove_image(&self, image: &str) -> Result<(), ProcessError> {
        self.run(["images", "rm", "--sync", image]).map(drop)
    }

    /// All snapshots of a snapshotter.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn snapshots(&self, snapshotter: &str) -> Result<Vec<SnapshotRow>, ProcessError> {
        let table = self.run(["snapshots", "--snapshotter", snapshotter, "ls"])?;
        Ok(parse_snapshots(&table))
    }

    /// All blobs of the namespace.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn content(&self) -> Result<Vec<ContentRow>, ProcessError> {
        let table = self.run(["content", "ls"])?;
        Ok(parse_content(&table))
    }

    /// A blob's bytes.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn content_get(&self, digest: &str) -> Result<Vec<u8>, ProcessError> {
        Ok(run(self.command().args(["content", "get", digest]))?.stdout)
    }

    /// Makes an active snapshot `key` on the committed snapshot `parent`.
    ///
    /// `ctr` marks it as a root for garbage collection, which it does not do for a view.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn prepare(&self, snapshotter: &str, key: &str, parent: &str) -> Result<(), ProcessError> {
        self.run([
            "snapshots",
            "--snapshotter",
            snapshotter,
            "prepare",
            key,
            parent,
        ])
        .map(drop)
    }

    /// The `mount` commands of an active or view snapshot, as `ctr snapshots mounts` prints them.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn mounts(&self, snapshotter: &str, key: &str) -> Result<String, ProcessError> {
        self.run([
            "snapshots",
            "--snapshotter",
            snapshotter,
            "mounts",
            "/target",
            key,
        ])
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// See [`Ctr::run`].
    pub fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<(), ProcessError> {
        self.run(["snapshots", "--snapshotter", snapshotter, "rm", key])
            .map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--address")
            .arg(&self.socket)
            .arg("--namespace")
            .arg(&self.namespace);
        command
    }
}

fn parse_snapshots(table: &str) -> Vec<SnapshotRow> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Without a parent the middle column is blank; keys of unpackers hold a space.
        let (kind, rest) = words.split_last()?;
        let (key, parent) = match rest {
            [] => return None,
            [key] => ((*key).to_owned(), String::new()),
            [key @ .., parent]
                if parent.starts_with("sha256:") && !key.last()?.starts_with("extract-") =>
            {
                (key.join(" "), (*parent).to_owned())
            }
            words => (words.join(" "), String::new()),
        };
        Some(SnapshotRow {
            key,
            parent,
            kind: (*kind).to_owned(),
        })
    });
    rows.collect()
}

fn parse_content(table: &str) -> Vec<ContentRow> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split('\t').map(str::trim);
        Some(ContentRow {
            digest: columns
                .next()
                .filter(|digest| digest.starts_with("sha256:"))?
                .to_owned(),
            size: columns.next()?.to_owned(),
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_snapshot_table() {
        let table = "KEY          PARENT       KIND\nsha256:aa                 Committed\n\
                     sha256:bb    sha256:aa    Committed\nview-1       sha256:bb    View\n\
                     extract-1-x sha256:cc        Active\n";
        let rows = parse_snapshots(table);
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.key.as_str(), row.parent.as_str(), row.kind.as_str()))
            .collect();
        assert_eq!(
            rows,
            [
                ("sha256:aa", "", "Committed"),
                ("sha256:bb", "sha256:aa", "Committed"),
                ("view-1", "sha256:bb", "View"),
                ("extract-1-x sha256:cc", "", "Active"),
            ]
        );
    }
}
