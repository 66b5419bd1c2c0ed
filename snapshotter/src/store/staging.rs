//! The hidden place where layers are unpacked ahead of their `Prepare`.
//!
//! Staged trees are no snapshots: nothing lists them, so containerd's garbage collector, which removes what it does not know, never sees
//! one. A restart discards them, unless they were finished and noted with [`Store::keep_staged`].

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Store;
use super::error::{Result, StoreError};
use super::steps::passed;

/// A directory under `staging/`, `<job>/<layer>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingDirectory {
    path: PathBuf,
}

impl StagingDirectory {
    /// The directory itself, for whatever the unpacker needs beside the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the layer's tree is built by whoever unpacks it.
    pub fn fs(&self) -> PathBuf {
        self.path.join("fs")
    }
}

impl Store {
    /// Makes the directory in which layer `layer` of job `job` is unpacked; what was there before goes to the trash.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components, or an IO error.
    pub fn staging_directory(&self, job: &str, layer: &str) -> Result<StagingDirectory> {
        let staging = StagingDirectory {
            path: self.staging_path(job, layer)?,
        };
        self.discard_staged(job, layer)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&staging.path)
            .map_err(StoreError::io("create directory", &staging.path))?;
        passed("make a staging directory");
        Ok(staging)
    }

    /// Discards what is staged of layer `layer` of job `job`, if anything; it is deleted in the background.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components.
    pub fn discard_staged(&self, job: &str, layer: &str) -> Result<()> {
        let path = self.staging_path(job, layer)?;
        if self.inner.layout.discard(&path) {
            self.inner.deleter.nudge();
        }
        Ok(())
    }

    /// Discards all that is staged of job `job`.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is not a single path component.
    pub fn discard_job(&self, job: &str) -> Result<()> {
        component(job)?;
        if self
            .inner
            .layout
            .discard(&self.inner.layout.staging().join(job))
        {
            self.inner.deleter.nudge();
        }
        Ok(())
    }

    /// Makes the directory of a layer in a [`Self::job_directory`]; what was there before goes to the trash.
    ///
    /// # Errors
    /// `InvalidArgument` for any other directory, or an IO error.
    pub fn make_staging_directory(&self, directory: &Path) -> Result<()> {
        let (job, layer) = self.names_of(directory)?;
        self.staging_directory(job, layer).map(drop)
    }

    /// Discards the directory of a layer in a [`Self::job_directory`], of this run or an earlier one.
    ///
    /// # Errors
    /// `InvalidArgument` for any other directory.
    pub fn discard_staging_directory(&self, directory: &Path) -> Result<()> {
        let (job, layer) = self.names_of(directory)?;
        self.discard_staged(job, layer)
    }

    fn names_of<'a>(&self, directory: &'a Path) -> Result<(&'a str, &'a str)> {
        let within = directory.strip_prefix(self.inner.layout.staging()).ok();
        let names: Option<Vec<&str>> =
            within.and_then(|path| path.iter().map(|name| name.to_str()).collect());
        match names.as_deref() {
            Some(&[job, layer]) => Ok((job, layer)),
            _ => Err(StoreError::InvalidArgument(format!(
                "{} is no staging directory",
                directory.display()
            ))),
        }
    }

    /// A name for a job that no other run of the process has.
    pub fn new_job(&self) -> String {
        format!("pulls-{:x}", self.inner.layout.unique())
    }

    /// The directory that holds those of a job's layers.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is not a single path component.
    pub fn job_directory(&self, job: &str) -> Result<PathBuf> {
        component(job)?;
        Ok(self.inner.layout.staging().join(job))
    }

    fn staging_path(&self, job: &str, layer: &str) -> Result<PathBuf> {
        component(job)?;
        component(layer)?;
        Ok(self.inner.layout.staging().join(job).join(layer))
    }
}

fn component(name: &str) -> Result<()> {
    let plain = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0']);
    match plain {
        true => Ok(()),
        false => Err(StoreError::InvalidArgument(format!(
            "{name:?} cannot name a staging directory"
        ))),
    }
}
