//! What is to be seen of a pull besides its figures and trees: who fetched, whether the image runs, what a second pull
//! changes, and what is left when the image is removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use parapull_engine::Input;
use parapull_scenario::TraceLine;

use super::by_containerd::traces;
use super::{Fetcher, PullError, PulledByContainerd, Stage, Way};
use crate::processes::{ProcessError, interrupt};

/// What was seen of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Who fetched the layers.
    pub fetcher: Fetcher,
    /// What the image's own command wrote to stdout.
    pub output: String,
    /// What a second pull of the same image added or took away, one line each; nothing where all is well.
    pub changed_by_second_pull: Vec<String>,
    /// What the image's removal left in containerd or in the snapshotter's root; nothing where all is well.
    pub left_behind: Vec<String>,
}

impl PulledByContainerd {
    /// Runs the image, pulls it again and removes it, in this order.
    ///
    /// # Errors
    /// When one of them fails; what is odd without failing is in the result.
    pub fn observe(&self, stage: &Stage) -> Result<Observed, PullError> {
        let held = self.holdings()?;
        let fetcher = fetcher(stage, &held);
        let output = self.output()?;
        let after_run = self.holdings()?;
        self.pull_again()?;
        let mut changed_by_second_pull = held.changes(&after_run);
        changed_by_second_pull.extend(after_run.changes(&self.holdings()?));
        self.remove_image()?;
        Ok(Observed {
            fetcher,
            output,
            changed_by_second_pull,
            left_behind: self.left_behind()?,
        })
    }

    /// What a process writes just before it ends can be lost in `ctr`, which stops reading when it hears of the end.
    fn output(&self) -> Result<String, ProcessError> {
        let mut output = String::new();
        for _ in 0..RUNS_MAX {
            output = self.run_container()?;
            if !output.is_empty() {
                break;
            }
        }
        Ok(output)
    }

    fn remove_image(&self) -> Result<(), PullError> {
        let reference = self.reference();
        match self.way {
            Way::Ctr | Way::CtrLocal | Way::Client => Ok(self.ctr().remove_image(reference)?),
            Way::Cri | Way::CriTransfer => {
                let remove = || self.containerd.cri()?.remove_image(reference);
                remove().map_err(|cause| PullError::Cri {
                    cause,
                    logs: self.logs(),
                })
            }
        }
    }

    /// What is still there when garbage collection, which nobody announces, had its time.
    fn left_behind(&self) -> Result<Vec<String>, PullError> {
        let started = Instant::now();
        loop {
            let left = self.holdings()?.lines();
            if left.is_empty() || started.elapsed() > COLLECTION_LIMIT {
                return Ok(left);
            }
            if interrupt::requested() {
                return Err(ProcessError::Interrupted.into());
            }
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn holdings(&self) -> Result<Holdings, PullError> {
        let ctr = self.ctr();
        let blobs = ctr.content()?.into_iter().map(|row| row.digest);
        let snapshots = ctr.snapshots(self.containerd.snapshotter())?;
        let root = self.snapshotter.as_ref();
        Ok(Holdings {
            blobs: blobs.collect(),
            snapshots: snapshots.into_iter().map(|row| row.key).collect(),
            trees: root.map_or_else(BTreeSet::new, |one| trees(&one.proxy().root)),
            pulls: pulls_recorded(&traces(&self.folder)),
        })
    }
}

/// What containerd and the snapshotter hold of images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Holdings {
    blobs: BTreeSet<String>,
    snapshots: BTreeSet<String>,
    trees: BTreeSet<PathBuf>,
    /// How many pulls the snapshotter began, which is history and not held.
    pulls: usize,
}

impl Holdings {
    /// Everything, in words.
    fn lines(&self) -> Vec<String> {
        let mut lines = self.known();
        lines.extend(self.trees.iter().map(|path| path.display().to_string()));
        lines
    }

    /// What containerd knows of.
    fn known(&self) -> Vec<String> {
        let blobs = self.blobs.iter().map(|blob| format!("blob {blob}"));
        let snapshots = self.snapshots.iter().map(|key| format!("snapshot {key}"));
        blobs.chain(snapshots).collect()
    }

    /// What is different in `later`, in words; trees come and go with every container, when containerd collects.
    fn changes(&self, later: &Self) -> Vec<String> {
        let (before, after) = (self.known(), later.known());
        let gone = before.iter().filter(|line| !after.contains(line));
        let new = after.iter().filter(|line| !before.contains(line));
        let mut changes: Vec<String> = gone
            .map(|line| format!("gone: {line}"))
            .chain(new.map(|line| format!("new: {line}")))
            .collect();
        if later.pulls > self.pulls {
            changes.push("the snapshotter pulled anew".to_owned());
        }
        changes
    }
}

fn fetcher(stage: &Stage, held: &Holdings) -> Fetcher {
    let layers: BTreeSet<&String> = stage.layout.layers.iter().map(|one| &one.digest).collect();
    let there = layers.iter().filter(|digest| held.blobs.contains(**digest));
    match there.count() {
        0 => Fetcher::Snapshotter,
        count if count == layers.len() => Fetcher::Containerd,
        _ => Fetcher::Both,
    }
}

/// Everything below the snapshotter's root that is a layer, is becoming one, or was one.
fn trees(root: &Path) -> BTreeSet<PathBuf> {
    let staged = list(&root.join("staging"));
    let staged = staged.iter().flat_map(|job| list(job));
    let rest = ["snapshots", "trash", "spool"].map(|name| list(&root.join(name)));
    rest.into_iter().flatten().chain(staged).collect()
}

/// How many pulls the traces in `folder` hold. A line that is being written is not counted yet.
fn pulls_recorded(folder: &Path) -> usize {
    let texts = list(folder)
        .into_iter()
        .map(fs::read_to_string)
        .map(Result::unwrap_or_default);
    let begun = |line: &&str| {
        let line = serde_json::from_str(line);
        matches!(
            line,
            Ok(TraceLine::Input {
                input: Input::PullRequested(_),
                ..
            })
        )
    };
    texts.map(|text| text.lines().filter(begun).count()).sum()
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// More often than this in a row output is not lost but missing.
const RUNS_MAX: usize = 5;
/// containerd collects within a second of a removal on an idle machine; a loaded one is given time.
const COLLECTION_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings(blobs: &[&str], snapshots: &[&str], trees: &[&str], pulls: usize) -> Holdings {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Holdings {
            blobs: owned(blobs),
            snapshots: owned(snapshots),
            trees: trees.iter().map(PathBuf::from).collect(),
            pulls,
        }
    }

    #[test]
    fn a_change_is_told_and_a_tree_that_awaits_collection_is_none() {
        let before = holdings(&["a"], &["s"], &["/root/snapshots/1"], 1);
        assert_eq!(before.changes(&before), [""; 0]);
        let collected = holdings(&["a"], &["s"], &[], 1);
        assert_eq!(before.changes(&collected), [""; 0]);
        let later = holdings(&["b"], &["s", "t"], &[], 2);
        assert_eq!(
            before.changes(&later),
            [
                "gone: blob a",
                "new: blob b",
                "new: snapshot t",
                "the snapshotter pulled anew"
            ]
        );
        assert_eq!(before.lines().len(), 3, "a tree counts as left behind");
    }

    #[test]
    fn only_whole_lines_of_a_request_are_pulls() {
        let folder = tempfile::tempdir().unwrap();
        let request = r#"{"input":{"at":1,"input":{"PullRequested":"cut"#;
        fs::write(folder.path().join("a.jsonl"), request).unwrap();
        assert_eq!(pulls_recorded(folder.path()), 0);
        assert_eq!(pulls_recorded(&folder.path().join("absent")), 0);
    }
}
