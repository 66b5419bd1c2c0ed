//! A pull through CRI into a private containerd, on its own overlayfs or on parapull.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PullError, Pulled, Stage, Subject};
use crate::cri::CriError;
use crate::measure::{ProcessUsage, WrittenBytes};
use crate::processes::{
    Containerd, ContainerdOptions, ProcessError, Snapshotter, SnapshotterOptions,
};
use crate::report::Run;
use crate::timeline::Timeline;
use crate::tree::{ImageTree, layers_from_snapshots};

/// A finished pull whose daemons still run, so that a container can be started from it.
#[derive(Debug)]
pub struct PulledByCri {
    /// Figures and trees.
    pub pulled: Pulled,
    // Declared before the snapshotter: containerd is stopped while its snapshotter still answers.
    containerd: Containerd,
    snapshotter: Option<Snapshotter>,
    reference: String,
}

impl PulledByCri {
    /// Runs the image's own command in a container and returns what it wrote to stdout.
    ///
    /// # Errors
    /// When the container does not start or does not exit with 0.
    pub fn run_container(&self) -> Result<String, ProcessError> {
        // runc's folder is the whole machine's, so the name must be too.
        let name = format!("hello-{}", self.containerd.id());
        self.containerd.ctr().run_container(
            &self.reference,
            self.containerd.snapshotter(),
            &name,
            &[],
        )
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
}

impl Stage {
    /// Pulls by CRI into daemons of its own in the folder `name` of the workspace, and reads the trees.
    ///
    /// The time is that of the one `PullImage` call. Call [`Stage::remove`] with the same name after dropping the result.
    ///
    /// # Errors
    /// When a daemon does not start, the pull fails (the logs' ends are shown), or a tree cannot be read.
    pub fn pull_by_cri(
        &self,
        subject: &Subject,
        name: &str,
        rep: usize,
    ) -> Result<PulledByCri, PullError> {
        self.cool_down();
        let folder = self.workspace.folder(name)?;
        let (containerd, snapshotter) = self.start_daemons(subject, &folder)?;
        let mut processes = vec![containerd.id()];
        processes.extend(snapshotter.as_ref().map(Snapshotter::id));
        let before: Vec<ProcessUsage> = processes.iter().map(|&id| usage_from_here(id)).collect();
        let written = WrittenBytes::start(self.work(), &processes).map_err(PullError::Written)?;

        let failed = |source: CriError| PullError::Cri {
            source,
            containerd: containerd.log_tail(),
            snapshotter: snapshotter
                .as_ref()
                .map(Snapshotter::log_tail)
                .unwrap_or_default(),
        };
        let mut cri = containerd.cri().map_err(failed)?;
        let pull = cri.pull_image(self.reference()).map_err(failed)?;

        let bytes_written = written.finish().map_err(PullError::Written)?;
        let after: Vec<ProcessUsage> = processes
            .iter()
            .map(|&id| ProcessUsage::of(id).unwrap_or_default())
            .collect();
        let cpu_seconds: f64 = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after.cpu_seconds - before.cpu_seconds)
            .sum();
        let tree = self.tree_of(&containerd, &folder.join("merged"))?;
        let timeline = Timeline::from_folder(&traces(&folder))?;
        let run = Run {
            peer: Some(subject.to_string()),
            version: format!(
                "containerd {}, {}",
                containerd.version(),
                inflater(subject, &containerd)
            ),
            rep,
            seconds: pull.elapsed.as_secs_f64(),
            bytes_fetched: bytes_fetched(&folder, snapshotter.is_some(), timeline.as_ref()),
            bytes_written: Some(bytes_written),
            peak_rss_bytes: Some(after.iter().map(|usage| usage.peak_rss_bytes).sum()),
            cpu_seconds: Some(cpu_seconds),
            tree_sha256: tree.sha256(),
            ..Run::default()
        };
        Ok(PulledByCri {
            pulled: Pulled {
                run,
                tree,
                timeline,
            },
            containerd,
            snapshotter,
            reference: self.reference().into(),
        })
    }

    /// Reads the layers the pulled image has in `containerd`, and their merged view, mounted on `mount_point`.
    fn tree_of(&self, containerd: &Containerd, mount_point: &Path) -> Result<ImageTree, PullError> {
        let layers = self.layout.layers.iter();
        let diff_ids: Vec<String> = layers.map(|layer| layer.diff_id.clone()).collect();
        let folders =
            layers_from_snapshots(&containerd.ctr(), containerd.snapshotter(), &diff_ids)?;
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
        folder: &Path,
    ) -> Result<(Containerd, Option<Snapshotter>), PullError> {
        let is_parapull = *subject == Subject::Parapull;
        let own = folder.join("parapull");
        let proxy = is_parapull.then(|| Snapshotter::announced(&own));
        let options = ContainerdOptions {
            snapshotter: proxy
                .as_ref()
                .map_or_else(|| "overlayfs".into(), |proxy| proxy.name.clone()),
            proxy,
            decompressor: subject.decompressor(),
            plain_http_hosts: vec![self.host().to_owned()],
            program: self
                .containerd
                .clone()
                .unwrap_or_else(|| "containerd".into()),
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

fn inflater(subject: &Subject, containerd: &Containerd) -> &'static str {
    if *subject == Subject::Parapull {
        "parapull inflates"
    } else {
        containerd.decompressor().name()
    }
}

/// Where the snapshotter of the pull in `folder` records.
fn traces(folder: &Path) -> PathBuf {
    folder.join("traces")
}

/// What came from the registry: into containerd's content store, and what the snapshotter says it fetched itself.
///
/// Unknown when the snapshotter recorded no finished pull.
fn bytes_fetched(folder: &Path, has_snapshotter: bool, timeline: Option<&Timeline>) -> Option<u64> {
    let content = content_bytes(folder);
    if !has_snapshotter {
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
