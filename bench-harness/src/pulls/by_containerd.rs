//! A pull through a private containerd, on its own overlayfs or on parapull.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clients::Clients;
use super::{Fetcher, Logs, PullError, Pulled, Stage, Subject, Way};
use crate::ctr::Ctr;
use crate::measure::{ProcessUsage, WrittenBytes};
use crate::processes::{
    Containerd, ContainerdOptions, ContainerdVersion, CriPull, Decompressor, ProcessError,
    Programs, Snapshotter, SnapshotterOptions, find_program,
};
use crate::report::Run;
use crate::timeline::Timeline;
use crate::tree::{ImageTree, layers_from_snapshots};

/// A finished pull whose daemons still run, so that more can be asked of them.
#[derive(Debug)]
pub struct PulledByContainerd {
    /// Figures and trees.
    pub pulled: Pulled,
    // Declared before the snapshotter: containerd is stopped while its snapshotter still answers.
    pub(super) containerd: Containerd,
    pub(super) snapshotter: Option<Snapshotter>,
    pub(super) way: Way,
    pub(super) folder: PathBuf,
    programs: Programs,
    reference: String,
}

impl PulledByContainerd {
    /// Runs the image's own command in a container and returns what it wrote to stdout.
    ///
    /// # Errors
    /// When the container does not start or does not exit with 0.
    pub fn run_container(&self) -> Result<String, ProcessError> {
        // runc's folder is the whole machine's, so the name must be too.
        let name = format!("hello-{}", self.containerd.id());
        self.ctr()
            .run_container(&self.reference, self.containerd.snapshotter(), &name, &[])
    }

    /// Stops the daemons and keeps what was found.
    pub fn pulled(self) -> Pulled {
        self.pulled
    }

    /// The private containerd.
    pub const fn containerd(&self) -> &Containerd {
        &self.containerd
    }

    /// The snapshotter, when parapull pulled.
    pub const fn snapshotter(&self) -> Option<&Snapshotter> {
        self.snapshotter.as_ref()
    }

    /// What was pulled.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// `ctr` in the namespace that was pulled into.
    pub(super) fn ctr(&self) -> Ctr {
        self.containerd.ctr().in_namespace(self.way.namespace())
    }

    /// What the daemons said last.
    pub(super) fn logs(&self) -> Box<Logs> {
        self.clients().logs()
    }

    /// Pulls the same image again and returns how long the client took.
    ///
    /// # Errors
    /// As the first pull.
    pub(super) fn pull_again(&self) -> Result<Duration, PullError> {
        self.clients().pull(self.way, &self.reference)
    }

    fn clients(&self) -> Clients<'_> {
        Clients {
            containerd: &self.containerd,
            snapshotter: self.snapshotter.as_ref(),
            programs: &self.programs,
        }
    }
}

impl Stage {
    /// Pulls by CRI into daemons of its own in the folder `name` of the workspace, and reads the trees.
    ///
    /// As [`Stage::pull_by_containerd`], with the stage's containerd.
    ///
    /// # Errors
    /// When a daemon does not start, the pull fails (the logs' ends are shown), or a tree cannot be read.
    pub fn pull_by_cri(
        &self,
        subject: &Subject,
        name: &str,
        rep: usize,
    ) -> Result<PulledByContainerd, PullError> {
        let stages = self.containerd.as_deref();
        let program = stages.unwrap_or(Path::new("containerd"));
        self.pull_by_containerd(subject, (program, Way::Cri), name, rep)
    }

    /// Pulls in a way through the containerd `program` into daemons of its own in the folder `name` of the workspace, and
    /// reads the trees.
    ///
    /// The time is that of the one call or command that pulls. Call [`Stage::remove`] with the same name after dropping
    /// the result.
    ///
    /// # Errors
    /// When a daemon does not start, the pull fails (the logs' ends are shown), or a tree cannot be read.
    pub fn pull_by_containerd(
        &self,
        subject: &Subject,
        (program, way): (&Path, Way),
        name: &str,
        rep: usize,
    ) -> Result<PulledByContainerd, PullError> {
        self.cool_down();
        let folder = self.workspace.folder(name)?;
        let (containerd, snapshotter) = self.start_daemons(subject, (program, way), &folder)?;
        let mut processes = vec![containerd.id()];
        processes.extend(snapshotter.as_ref().map(Snapshotter::id));
        let before: Vec<ProcessUsage> = processes.iter().map(|&id| usage_from_here(id)).collect();
        let written = WrittenBytes::start(self.work(), &processes).map_err(PullError::Written)?;

        let clients = Clients {
            containerd: &containerd,
            snapshotter: snapshotter.as_ref(),
            programs: &self.programs,
        };
        let elapsed = clients.pull(way, self.reference())?;

        let bytes_written = written.finish().map_err(PullError::Written)?;
        let after: Vec<ProcessUsage> = processes
            .iter()
            .map(|&id| ProcessUsage::of(id).unwrap_or_default())
            .collect();
        let ctr = containerd.ctr().in_namespace(way.namespace());
        let tree = self.tree_of(&ctr, containerd.snapshotter(), &folder.join("merged"))?;
        let is_ours =
            snapshotter.is_some() && way.fetcher(containerd.version()) == Fetcher::Snapshotter;
        let timeline = if is_ours {
            Timeline::from_folder(&traces(&folder))?
        } else {
            None
        };
        let run = Run {
            peer: Some(subject.to_string()),
            version: format!(
                "containerd {}, {}",
                containerd.version(),
                inflater(subject, &containerd)
            ),
            rep,
            seconds: elapsed.as_secs_f64(),
            bytes_fetched: bytes_fetched(&folder, is_ours, timeline.as_ref()),
            bytes_written: Some(bytes_written),
            peak_rss_bytes: Some(after.iter().map(|usage| usage.peak_rss_bytes).sum()),
            cpu_seconds: Some(cpu_seconds_between(&before, &after)),
            tree_sha256: tree.sha256(),
            ..Run::default()
        };
        Ok(PulledByContainerd {
            pulled: Pulled {
                run,
                tree,
                timeline,
            },
            containerd,
            snapshotter,
            way,
            folder,
            programs: self.programs.clone(),
            reference: self.reference().into(),
        })
    }

    /// Reads the layers the pulled image has in `snapshotter`, and their merged view, mounted on `mount_point`.
    fn tree_of(
        &self,
        ctr: &Ctr,
        snapshotter: &str,
        mount_point: &Path,
    ) -> Result<ImageTree, PullError> {
        let layers = self.layout.layers.iter();
        let diff_ids: Vec<String> = layers.map(|layer| layer.diff_id.clone()).collect();
        let folders = layers_from_snapshots(ctr, snapshotter, &diff_ids)?;
        Ok(ImageTree::read(&folders, &self.contents, mount_point)?)
    }

    /// Removes what a pull left in the folder `name`.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), PullError> {
        Ok(self.workspace.remove(name)?)
    }

    fn start_daemons(
        &self,
        subject: &Subject,
        (program, way): (&Path, Way),
        folder: &Path,
    ) -> Result<(Containerd, Option<Snapshotter>), PullError> {
        let is_parapull = *subject == Subject::Parapull;
        let own = folder.join("parapull");
        let proxy = is_parapull.then(|| Snapshotter::announced(&own));
        let decompressor = match subject {
            Subject::Containerd(Some(named)) | Subject::Multipart(named) => *named,
            _ => {
                let program = find_program(&program.to_string_lossy(), INSTALL)?;
                Decompressor::chosen_by(ContainerdVersion::of(&program)?)
            }
        };
        let options = ContainerdOptions {
            proxy,
            cri_pull: match (subject, way) {
                (Subject::Multipart(_), _) => CriPull::Multipart,
                (_, Way::CriTransfer) => CriPull::TransferService,
                _ => CriPull::Itself,
            },
            decompressor,
            plain_http_hosts: vec![self.host().to_owned()],
            program: program.into(),
        };
        // containerd connects to a snapshotter on first use; the snapshotter reads manifests from containerd.
        let containerd = Containerd::start(&folder.join("containerd"), &options)?;
        if !is_parapull {
            return Ok((containerd, None));
        }
        let options = SnapshotterOptions {
            containerd_socket: containerd.socket().into(),
            settings: Vec::new(),
            traces: Some(traces(folder)),
            boot_id: None,
        };
        let snapshotter = Snapshotter::start(&self.programs, &own, &options)?;
        Ok((containerd, Some(snapshotter)))
    }
}

/// Starts a new memory peak for a process; one that cannot be reset shows its peak since the start.
fn usage_from_here(id: u32) -> ProcessUsage {
    let _ = ProcessUsage::reset_peak(id);
    ProcessUsage::of(id).unwrap_or_default()
}

fn cpu_seconds_between(before: &[ProcessUsage], after: &[ProcessUsage]) -> f64 {
    let spent = after.iter().zip(before);
    spent
        .map(|(after, before)| after.cpu_seconds - before.cpu_seconds)
        .sum()
}

fn inflater(subject: &Subject, containerd: &Containerd) -> &'static str {
    if *subject == Subject::Parapull {
        "parapull inflates"
    } else {
        containerd.decompressor().name()
    }
}

/// Where the snapshotter of the pull in `folder` records.
pub(super) fn traces(folder: &Path) -> PathBuf {
    folder.join("traces")
}

/// What came from the registry: into containerd's content store, and what the snapshotter says it fetched itself.
///
/// Unknown when the snapshotter recorded no finished pull.
fn bytes_fetched(folder: &Path, is_ours: bool, timeline: Option<&Timeline>) -> Option<u64> {
    let content = content_bytes(folder);
    if !is_ours {
        return Some(content);
    }
    let stats = timeline?.stats?;
    Some(content + stats.bytes_fetched + stats.bytes_retried)
}

/// Bytes of all blobs in containerd's content store: what it fetched into an empty root.
fn content_bytes(folder: &Path) -> u64 {
    let blobs = folder.join("containerd/root/io.containerd.content.v1.content/blobs/sha256");
    let entries = fs::read_dir(blobs).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

const INSTALL: &str = "install the package containerd";
