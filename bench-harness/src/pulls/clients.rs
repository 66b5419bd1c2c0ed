//! What each way's client does to pull, and how long it takes.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Logs, PullError, Way};
use crate::ctr::Ctr;
use crate::processes::{Containerd, ProcessError, Programs, Snapshotter, run};

/// The daemons that a client pulls through, and where our own client is.
pub(super) struct Clients<'a> {
    pub(super) containerd: &'a Containerd,
    pub(super) snapshotter: Option<&'a Snapshotter>,
    pub(super) programs: &'a Programs,
}

impl Clients<'_> {
    /// Pulls `reference` and returns how long the one call or command took.
    pub(super) fn pull(&self, way: Way, reference: &str) -> Result<Duration, PullError> {
        match way {
            Way::Ctr => self.by_ctr(way, reference, Ctr::pull),
            Way::CtrLocal => self.by_ctr(way, reference, Ctr::pull_locally),
            Way::Client if self.snapshotter.is_some() => self.by_our_client(way, reference),
            // What its users would type instead.
            Way::Client => self.by_ctr(way, reference, Ctr::pull),
            Way::Cri | Way::CriTransfer => self.by_cri(reference),
        }
    }

    /// What the daemons said last.
    pub(super) fn logs(&self) -> Box<Logs> {
        let snapshotter = self.snapshotter.map(Snapshotter::log_tail);
        Box::new(Logs {
            containerd: self.containerd.log_tail(),
            snapshotter: snapshotter.unwrap_or_default(),
        })
    }

    fn by_cri(&self, reference: &str) -> Result<Duration, PullError> {
        let pull = || self.containerd.cri()?.pull_image(reference);
        let pulled = pull().map_err(|cause| PullError::Cri {
            cause,
            logs: self.logs(),
        })?;
        Ok(pulled.elapsed)
    }

    fn by_ctr(
        &self,
        way: Way,
        reference: &str,
        pull: fn(&Ctr, &str, &str) -> Result<(), ProcessError>,
    ) -> Result<Duration, PullError> {
        let ctr = self.containerd.ctr().in_namespace(way.namespace());
        let started = Instant::now();
        let pulled = pull(&ctr, reference, self.containerd.snapshotter());
        pulled.map_err(|cause| self.failed(cause))?;
        Ok(started.elapsed())
    }

    fn by_our_client(&self, way: Way, reference: &str) -> Result<Duration, PullError> {
        let mut command = Command::new(self.programs.snapshotter()?);
        command
            .args(["pull", reference, "--namespace", way.namespace()])
            .arg("--containerd")
            .arg(self.containerd.socket())
            // Whoever runs this may be logged in somewhere; the registry here is nobody's.
            .env("DOCKER_CONFIG", self.containerd.folder());
        let pulled = run(&mut command).map_err(|cause| self.failed(cause))?;
        Ok(pulled.elapsed)
    }

    fn failed(&self, cause: ProcessError) -> PullError {
        PullError::Client {
            cause,
            logs: self.logs(),
        }
    }
}
