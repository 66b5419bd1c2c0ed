//! What the sudden end of the machine takes, under each policy. The boot is told to the store, so no test needs one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use super::super::durability::Disk;
use super::super::error::StoreError;
use super::super::layout::Layout;
use super::super::memory::MemoryMeta;
use super::super::{Labels, Loss, Options, Store, SyncPolicy};
use super::{commit_empty, commit_request, link, names, options, staged_tree, temporary_directory};
use crate::digest::Digest;

/// A store whose file system is synced by being counted.
struct Node {
    root: TempDir,
    meta: MemoryMeta,
    synced: Arc<AtomicU32>,
    broken: Arc<AtomicBool>,
}

impl Node {
    fn new() -> Self {
        Self {
            root: temporary_directory(),
            meta: MemoryMeta::default(),
            synced: Arc::default(),
            broken: Arc::default(),
        }
    }

    fn open(&self, policy: SyncPolicy, boot: &str) -> Store {
        let (synced, broken) = (Arc::clone(&self.synced), Arc::clone(&self.broken));
        let disk = Disk::with(move || {
            if broken.load(Ordering::SeqCst) {
                return Err(StoreError::FailedPrecondition("the disk broke".to_owned()));
            }
            synced.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        self.open_on(disk, policy, boot)
    }

    fn open_on(&self, disk: Disk, policy: SyncPolicy, boot: &str) -> Store {
        let options = Options {
            sync: policy,
            boot_id: Some(boot.to_owned()),
            ..options()
        };
        let layout = Layout::create(self.root.path()).unwrap();
        Store::assemble(layout, Arc::new(self.meta.clone()), disk, &options).unwrap()
    }

    fn syncs(&self) -> u32 {
        self.synced.load(Ordering::SeqCst)
    }
}

/// A disk that never gets synced, as long as this lives.
fn stuck() -> (mpsc::Sender<()>, Disk) {
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let disk = Disk::with(move || {
        let _ = held.lock().unwrap().recv();
        Err(StoreError::FailedPrecondition("too late".to_owned()))
    });
    (hold, disk)
}

#[test]
fn an_unclean_boot_takes_what_was_not_synced_and_all_that_stands_on_it() {
    let node = Node::new();
    let store = node.open(SyncPolicy::Background, "first");
    let kept = link(&store, "kept", None);
    store.sync().unwrap();
    commit_empty(&store, "applied", &kept);
    let lost = link(&store, "lost", Some(&kept));
    commit_empty(&store, "applied over lost", &lost);
    store
        .prepare("container", "applied over lost", Labels::new())
        .unwrap();
    store.view("view", &kept, Labels::new()).unwrap();
    store
        .update(
            &lost,
            &super::labels(&[("containerd.io/snapshot/cri.image-ref", "a:1")]),
            &[],
        )
        .unwrap();
    let lost_fs = store.lower_paths(&lost).unwrap().swap_remove(0);
    drop(store);

    let store = node.open(SyncPolicy::Background, "second");
    assert_eq!(names(&store), ["applied", &kept, "view"]);
    let dropped: Vec<(&str, Loss)> = store
        .recovery()
        .dropped
        .iter()
        .map(|dropped| (dropped.name.as_str(), dropped.loss))
        .collect();
    let expected = [
        ("container", Loss::Parent),
        ("applied over lost", Loss::Parent),
        (lost.as_str(), Loss::Unsynced),
    ];
    assert_eq!(dropped, expected, "children first");
    assert_eq!(
        store.recovery().dropped[2].image.as_deref(),
        Some("a:1"),
        "the operator is told which image to pull again"
    );
    assert!(!lost_fs.exists(), "its directory is in the trash");
    assert!(matches!(store.stat(&lost), Err(StoreError::NotFound(_))));
    // The layer can be linked again, and what was durable is not asked again.
    link(&store, "lost", Some(&kept));
    drop(store);
    let store = node.open(SyncPolicy::None, "second");
    assert_eq!(store.recovery().dropped, []);
}

#[test]
fn each_policy_says_what_a_power_failure_takes() {
    // Policy, whether the file system was synced for the layer, whether an unclean boot takes it before any later sync.
    let table = [
        (SyncPolicy::Background, 0, true),
        (SyncPolicy::Layer, 1, false),
        (SyncPolicy::None, 0, false),
    ];
    for (policy, syncs, taken) in table {
        let node = Node::new();
        let store = node.open(policy, "first");
        let name = link(&store, "layer", None);
        assert_eq!(node.syncs(), syncs, "{policy:?}");
        drop(store);
        let store = node.open(policy, "second");
        assert_eq!(names(&store).contains(&name), !taken, "{policy:?}");
    }
}

#[test]
fn the_end_of_the_process_alone_takes_nothing() {
    let node = Node::new();
    let store = node.open(SyncPolicy::Background, "first");
    let name = link(&store, "layer", None);
    drop(store);
    let store = node.open(SyncPolicy::Background, "first");
    assert_eq!(names(&store), [name.as_str()]);
    store.sync().unwrap();
    drop(store);
    let store = node.open(SyncPolicy::Background, "second");
    assert_eq!(names(&store), [name]);
}

#[test]
fn a_pull_is_synced_in_the_background_once_and_nothing_waits_for_it() {
    let node = Node::new();
    let (hold, disk) = stuck();
    let store = node.open_on(disk, SyncPolicy::Background, "first");
    link(&store, "stuck", None);
    store.sync_soon();
    // The disk is busy, and every call goes on.
    commit_empty(&store, "applied", "");
    store.remove("applied").unwrap();
    link(&store, "another", None);
    drop(hold);
    drop(store);

    let store = node.open(SyncPolicy::Background, "first");
    // The thread sees to what an earlier run left.
    wait_until(|| node.syncs() == 1);
    let layers = ["one", "two", "three"].map(|layer| link(&store, layer, None));
    store.sync_soon();
    wait_until(|| node.syncs() == 2);
    // A second sync has nothing to do, and ends after the first has marked what it synced.
    store.sync().unwrap();
    assert_eq!(node.syncs(), 2);
    drop(store);
    let store = node.open(SyncPolicy::Background, "second");
    assert_eq!(store.recovery().dropped, []);
    assert_eq!(names(&store).len(), 2 + layers.len());
}

#[test]
fn what_a_failed_sync_may_have_lost_stays_doubtful() {
    let node = Node::new();
    let store = node.open(SyncPolicy::Background, "first");
    let doubtful = link(&store, "doubtful", None);
    node.broken.store(true, Ordering::SeqCst);
    store.sync().unwrap_err();
    node.broken.store(false, Ordering::SeqCst);
    let sound = link(&store, "sound", None);
    store.sync().unwrap();
    drop(store);
    let store = node.open(SyncPolicy::Background, "second");
    assert_eq!(names(&store), [sound]);
    assert_eq!(store.recovery().dropped[0].name, doubtful);
}

#[test]
fn a_layer_that_cannot_be_synced_is_not_committed() {
    let node = Node::new();
    let store = node.open(SyncPolicy::Layer, "first");
    node.broken.store(true, Ordering::SeqCst);
    let tree = staged_tree(&store, "layer");
    let request = commit_request(&tree, &Digest::of(b"chain"), None);
    store.commit_staged(request.clone()).unwrap_err();
    assert!(tree.join("layer").is_file(), "the tree was given back");
    assert_eq!(names(&store), [""; 0]);
    // containerd's own commits wait for no file.
    commit_empty(&store, "applied", "");
    node.broken.store(false, Ordering::SeqCst);
    store.commit_staged(request).unwrap();
    assert_eq!(node.syncs(), 1);
}

#[test]
fn the_kernel_tells_its_boot() {
    let id = super::super::kernel_boot_id().unwrap();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
    let root = temporary_directory();
    let store = super::open(&root);
    link(&store, "layer", None);
    store.sync().unwrap();
    assert_eq!(store.inner.meta.read().unwrap().boot().unwrap(), Some(id));
}

/// Waits for another thread.
fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..4000 {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("it did not happen within 20 s");
}
