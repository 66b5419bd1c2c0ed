//! What of the store survives the sudden end of the machine.
//!
//! # The rule
//! Metadata is durable when a call returns; files are so only after the file system was synced. A snapshot whose files were
//! unpacked here is therefore *unsynced* from the moment it is committed until a `syncfs` that began afterwards has
//! succeeded, and its record says which. Every opening of the store compares the kernel's boot id with that of the opening
//! before. If they differ, the machine stopped in between, and whatever is still unsynced may be a tree of empty files: such
//! snapshots count as absent, so they are dropped, and with them everything that was built on them.
//!
//! | policy | the file system is synced | a power failure takes |
//! |---|---|---|
//! | [`SyncPolicy::Background`] | once per pull, after it ended, on a thread of the store's own | the images of the last pulls: dropped, and told so |
//! | [`SyncPolicy::Layer`] | before each layer is committed | no layer that was answered for |
//! | [`SyncPolicy::None`] | never; everything counts as synced | contents of files, unnoticed: as with containerd's overlayfs |
//!
//! * The end of the process alone takes nothing: the kernel still has the files. What is unsynced is synced after the next start.
//! * A clean end of the daemon syncs ([`Store::sync`](super::Store::sync)), so a reboot after it drops nothing.
//! * Snapshots that containerd fills and commits itself have no promise, as with its overlayfs snapshotter: they are never unsynced,
//!   so nobody but their parents can take them away, and their `Commit` waits for no file.
//! * Staged trees outlive the process and not the machine ([`super::kept`]).
//! * After a `syncfs` that failed, nobody knows which files are lost, and the next one may succeed: what was unsynced then stays so.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Result, StoreError};
use super::meta::MetaStore;
use super::worker::Worker;

/// When the files of a layer are made to survive the sudden end of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When the kernel writes them: as containerd does by default.
    None,
    /// Before the layer is answered for.
    Layer,
    /// After its pull has ended.
    #[default]
    Background,
}

/// The boot of the kernel that this process runs under.
///
/// # Errors
/// If the kernel does not tell.
pub fn kernel_boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(StoreError::io("read", path))?;
    Ok(text.trim().to_owned())
}

/// Syncs the file system of a store and knows what has been synced.
#[derive(Debug)]
pub(super) struct Durability {
    shared: Arc<Shared>,
    worker: Worker,
}

#[derive(Debug)]
struct Shared {
    policy: SyncPolicy,
    disk: Disk,
    meta: Arc<dyn MetaStore>,
    /// Snapshots that were unsynced when syncing failed; locked by whoever syncs.
    doubtful: Mutex<BTreeSet<u64>>,
}

impl Durability {
    /// Starts the thread that syncs, which first sees to what an earlier run left unsynced.
    pub(super) fn start(policy: SyncPolicy, disk: Disk, meta: Arc<dyn MetaStore>) -> Result<Self> {
        let shared = Arc::new(Shared {
            policy,
            disk,
            meta,
            doubtful: Mutex::default(),
        });
        let worker = Worker::start("sync", {
            let shared = Arc::clone(&shared);
            move |_| {
                if let Err(error) = shared.sync() {
                    tracing::warn!(%error, "a power failure would take the images of the last pulls");
                }
            }
        })
        .map_err(StoreError::metadata("start the thread that syncs"))?;
        if !shared.unsynced(&BTreeSet::new())?.is_empty() {
            worker.nudge();
        }
        Ok(Self { shared, worker })
    }

    /// Makes a tree durable that is about to be committed, if that is the policy; whether it is unsynced when this returns.
    pub(super) fn before_commit(&self) -> Result<bool> {
        match self.shared.policy {
            SyncPolicy::None => Ok(false),
            SyncPolicy::Background => Ok(true),
            SyncPolicy::Layer => self.shared.disk.sync().map(|()| false),
        }
    }

    /// Has everything synced soon, on another thread.
    pub(super) fn sync_soon(&self) {
        self.worker.nudge();
    }

    /// Syncs everything and waits for it.
    pub(super) fn sync(&self) -> Result<()> {
        self.shared.sync()
    }
}

impl Shared {
    fn sync(&self) -> Result<()> {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let unsynced = self.unsynced(&doubtful)?;
        if unsynced.is_empty() {
            return Ok(());
        }
        if self.policy != SyncPolicy::None
            && let Err(error) = self.disk.sync()
        {
            doubtful.extend(unsynced.iter().map(|(_, id)| *id));
            return Err(error);
        }
        let mut transaction = self.meta.write()?;
        for (name, id) in &unsynced {
            match transaction.record(name)? {
                Some(mut record) if record.id == *id => {
                    record.unsynced = false;
                    transaction.put(name, &record)?;
                }
                // Removed meanwhile.
                _ => {}
            }
        }
        transaction.commit()?;
        tracing::debug!(snapshots = unsynced.len(), "snapshots became durable");
        Ok(())
    }

    fn unsynced(&self, doubtful: &BTreeSet<u64>) -> Result<Vec<(String, u64)>> {
        let mut unsynced = Vec::new();
        self.meta.read()?.visit(&mut |name, record| {
            if record.unsynced && !doubtful.contains(&record.id) {
                unsynced.push((name, record.id));
            }
            Ok(())
        })?;
        Ok(unsynced)
    }
}

/// The file system of a store, as far as it can be synced.
#[derive(Clone)]
pub(super) struct Disk(Arc<dyn Fn() -> Result<()> + Send + Sync>);

impl Disk {
    /// The file system of `root`.
    pub(super) fn of(root: &Path) -> Result<Self> {
        // Opened once, because the kernel tells each descriptor only of what failed after it was opened.
        let directory = File::open(root).map_err(StoreError::io("open", root))?;
        let root = root.to_path_buf();
        Ok(Self(Arc::new(move || {
            rustix::fs::syncfs(&directory).map_err(StoreError::io("sync the file system of", &root))
        })))
    }

    /// A disk whose syncing is `sync`.
    #[cfg(test)]
    pub(super) fn with(sync: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sync))
    }

    fn sync(&self) -> Result<()> {
        (self.0)()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}
