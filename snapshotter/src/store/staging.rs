//! The hidden place where layers are unpacked ahead of their `Prepare`.
//!
//! Staged trees are no snapshots: nothing lists them, so containerd's garbage collector, which removes what it does not know, never sees
//! one. A restart discards them, unless they were finished and recorded with [`Store::keep_staged`].

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Store;
use super::error::{Result, StoreError};
use super::layout::Layout;
use super::meta::StagedLayer;

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
        Ok(staging)
    }

    /// Discards what is staged of layer `layer` of job `job`, if anything; it is deleted in the background.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components.
    pub fn discard_staged(&self, job: &str, layer: &str) -> Result<()> {
        let path = self.staging_path(job, layer)?;
        self.forget_staged(|staged| staged.job == job && staged.layer == layer)?;
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
        self.forget_staged(|staged| staged.job == job)?;
        if self
            .inner
            .layout
            .discard(&self.inner.layout.staging().join(job))
        {
            self.inner.deleter.nudge();
        }
        Ok(())
    }

    /// Records that the tree of `layer` is finished and verified, so that the next opening of the store keeps it.
    ///
    /// The caller has made the tree durable before; without this a restart discards it. [`Self::commit_staged`] ends the record.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components, `NotFound` if there is no such tree.
    pub fn keep_staged(&self, layer: &StagedLayer) -> Result<()> {
        let path = self.staging_path(&layer.job, &layer.layer)?;
        if !path.join("fs").is_dir() {
            return Err(StoreError::NotFound(format!(
                "staged tree {}",
                path.display()
            )));
        }
        let mut transaction = self.inner.meta.write()?;
        transaction.put_staged(layer)?;
        transaction.commit()
    }

    /// The staged layers that were kept and not committed or discarded since.
    pub fn kept_staged(&self) -> Result<Vec<StagedLayer>> {
        self.inner.meta.read()?.staged()
    }

    /// The directory of a staged layer, which must exist.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components, `NotFound` without it.
    pub fn existing_staging_directory(&self, job: &str, layer: &str) -> Result<StagingDirectory> {
        let path = self.staging_path(job, layer)?;
        if !path.join("fs").is_dir() {
            return Err(StoreError::NotFound(format!(
                "staged tree {}",
                path.display()
            )));
        }
        Ok(StagingDirectory { path })
    }

    /// Drops the records of staged layers; takes a transaction only if there are any.
    fn forget_staged(&self, of: impl Fn(&StagedLayer) -> bool) -> Result<()> {
        let forgotten: Vec<_> = self.kept_staged()?.into_iter().filter(of).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        let mut transaction = self.inner.meta.write()?;
        for staged in forgotten {
            transaction.delete_staged(&staged.key())?;
        }
        transaction.commit()
    }

    fn staging_path(&self, job: &str, layer: &str) -> Result<PathBuf> {
        component(job)?;
        component(layer)?;
        Ok(self.inner.layout.staging().join(job).join(layer))
    }
}

/// The key of the record that a staged tree may have, from where it lies.
pub(super) fn key_of(layout: &Layout, staged: &Path) -> Option<String> {
    let within = staged.strip_prefix(layout.staging()).ok()?.parent()?;
    within.to_str().map(str::to_owned)
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
