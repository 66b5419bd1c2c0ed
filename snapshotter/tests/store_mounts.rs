//! What a client gets from our mounts and sees of our disk: over the socket, mounted for real where that is allowed.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "conformance/served.rs"]
mod served;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::grpc::NoRemote;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    CleanupRequest, CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, UsageRequest,
};
use parapull_snapshotter::grpc::proto::containerd::types::Mount;
use parapull_snapshotter::store::{
    CommitStaged, CommittedStaged, Format, Labels, Options, Pause, Store, Usage,
};
use rustix::mount::{MountFlags, UnmountFlags};
use served::{Served, connect, skip, temporary_directory};
use tonic::Code;
use tonic::transport::Channel;

type Client = SnapshotsClient<Channel>;

async fn serve_with(root: &Path, options: &Options) -> (Served, Client) {
    let store = Store::open(root.join("store"), options).unwrap();
    let served = Served::start_over(root, store, NoRemote).await;
    let client = connect(served.socket()).await;
    (served, client)
}

async fn prepare(client: &mut Client, key: &str, parent: &str, labels: &[(&str, &str)]) -> Mount {
    let request = PrepareSnapshotRequest {
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<HashMap<_, _>>(),
        ..PrepareSnapshotRequest::default()
    };
    let mut mounts = client.prepare(request).await.unwrap().into_inner().mounts;
    assert_eq!(mounts.len(), 1);
    mounts.remove(0)
}

async fn commit(client: &mut Client, name: &str, key: &str) {
    let request = CommitSnapshotRequest {
        name: name.to_owned(),
        key: key.to_owned(),
        ..CommitSnapshotRequest::default()
    };
    client.commit(request).await.unwrap();
}

async fn remove(client: &mut Client, key: &str) {
    let key = key.to_owned();
    let request = RemoveSnapshotRequest {
        key,
        ..RemoveSnapshotRequest::default()
    };
    client.remove(request).await.unwrap();
}

/// Commits a pulled layer that holds one file of this name.
fn link(store: &Store, name: &str, parent: Option<&str>, opaque_root: bool) -> String {
    let staging = store.staging_directory("job", name).unwrap();
    fs::create_dir(staging.fs()).unwrap();
    fs::write(staging.fs().join(name), name).unwrap();
    let request = CommitStaged {
        snapshot_ref: Digest::of(name.as_bytes()),
        parent: parent.map(str::to_owned),
        namespace: "k8s.io".to_owned(),
        labels: Labels::new(),
        fs: staging.fs(),
        usage: Usage::default(),
        format: Format::Overlay,
        opaque_root,
    };
    match store.commit_staged(request).unwrap() {
        CommittedStaged::Linked { name } | CommittedStaged::Existed { name } => name,
    }
}

/// Something mounted, until dropped; none, said loudly, where mounting is not allowed.
struct Mounted(PathBuf);

impl Mounted {
    fn mount(test: &str, mount: &Mount, target: &Path) -> Option<Self> {
        fs::create_dir_all(target).unwrap();
        let options = CString::new(mount.options.join(",")).unwrap();
        let mounted = rustix::mount::mount(
            mount.source.as_str(),
            target,
            mount.r#type.as_str(),
            MountFlags::empty(),
            options.as_c_str(),
        );
        match mounted {
            Ok(()) => Some(Self(target.to_path_buf())),
            Err(error) => {
                skip(test, &format!("mounting failed: {error}"));
                None
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_container_sees_nothing_below_a_layer_that_hides_it() {
    let test = "a_container_sees_nothing_below_a_layer_that_hides_it";
    let root = temporary_directory();
    let (served, mut client) = serve_with(root.path(), &Options::default()).await;
    let bottom = link(&served.store, "bottom", None, false);
    let hidden = link(&served.store, "hidden", Some(&bottom), false);
    let hiding = link(&served.store, "hiding", Some(&hidden), true);
    let top = link(&served.store, "top", Some(&hiding), false);
    for (parent, expected) in [
        (&hidden, &["bottom", "hidden"][..]),
        (&hiding, &["hiding"]),
        (&top, &["hiding", "top"]),
    ] {
        let mount = prepare(&mut client, &format!("over {parent}"), parent, &[]).await;
        let target = root.path().join("mounted");
        let Some(mounted) = Mounted::mount(test, &mount, &target) else {
            return served.stop().await;
        };
        assert_eq!(mounted.names(), expected, "{mount:?}");
        fs::write(target.join("own"), b"").unwrap();
        drop(mounted);
        // A layer that containerd commits on top of it shows what it shows.
        let name = format!("committed over {parent}");
        commit(&mut client, &name, &format!("over {parent}")).await;
        let mount = prepare(&mut client, &format!("over {name}"), &name, &[]).await;
        let mounted = Mounted::mount(test, &mount, &target).unwrap();
        let mut with_own = [expected, &["own"]].concat();
        with_own.sort_unstable();
        assert_eq!(mounted.names(), with_own, "{mount:?}");
    }
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn mounts_come_with_the_configured_options_in_containerd_s_order() {
    let root = temporary_directory();
    let options = Options {
        mount_options: vec!["metacopy=off".to_owned(), "index=off".to_owned()],
        remap_ids: true,
        ..Options::default()
    };
    let (served, mut client) = serve_with(root.path(), &options).await;
    let mapping = [
        ("containerd.io/snapshot/uidmapping", "0:100000:65536"),
        ("containerd.io/snapshot/gidmapping", "0:200000:65536"),
    ];
    let mapped = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
    let bind = prepare(&mut client, "base-active", "", &[]).await;
    assert_eq!(
        (bind.r#type.as_str(), bind.options),
        ("bind", vec!["rw".to_owned(), "rbind".to_owned()])
    );
    commit(&mut client, "base", "base-active").await;
    let at = |rest: &str| format!("{}/snapshots/{rest}", served.store.root().display());
    for (key, labels, first) in [("plain", &[][..], &[][..]), ("mapped", &mapping, &mapped)] {
        let mount = prepare(&mut client, key, "base", labels).await;
        let id = if key == "plain" { 2 } else { 3 };
        let mut expected: Vec<String> = first.iter().map(|option| (*option).to_owned()).collect();
        expected.extend([
            format!("workdir={}", at(&format!("{id}/work"))),
            format!("upperdir={}", at(&format!("{id}/fs"))),
            format!("lowerdir={}", at("1/fs")),
            "metacopy=off".to_owned(),
            "index=off".to_owned(),
        ]);
        assert_eq!(
            (mount.source.as_str(), mount.options),
            ("overlay", expected)
        );
    }
    if rustix::process::geteuid().is_root() {
        let owner = fs::metadata(at("3/fs")).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (100_000, 200_000));
        // What a client chowned slowly (a committed "<id>-remap") is inherited by its children.
        chown(at("1/fs"), Some(7), Some(8)).unwrap();
        prepare(&mut client, "inherits", "base", &[]).await;
        let owner = fs::metadata(at("4/fs")).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (7, 8));
    }
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn usage_of_an_active_snapshot_is_what_it_occupies_so_far() {
    let root = temporary_directory();
    let (served, mut client) = serve_with(root.path(), &Options::default()).await;
    let mount = prepare(&mut client, "a", "", &[]).await;
    let upper = PathBuf::from(mount.source);
    let usage = async |client: &mut Client, key: &str| {
        let key = key.to_owned();
        let request = UsageRequest {
            key,
            ..UsageRequest::default()
        };
        let usage = client.usage(request).await.unwrap().into_inner();
        (usage.size, usage.inodes)
    };
    let (empty, inodes) = usage(&mut client, "a").await;
    assert_eq!(inodes, 1, "the root");
    fs::write(upper.join("file"), vec![1; 1 << 20]).unwrap();
    fs::hard_link(upper.join("file"), upper.join("again")).unwrap();
    fs::File::create(upper.join("sparse"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let (bytes, inodes) = usage(&mut client, "a").await;
    assert_eq!(inodes, 3, "a hard link is no inode of its own");
    assert!((1 << 20..2 << 20).contains(&(bytes - empty)), "{bytes}");
    commit(&mut client, "base", "a").await;
    fs::write(upper.join("later"), vec![1; 1 << 20]).unwrap();
    assert_eq!(
        usage(&mut client, "base").await,
        (bytes, inodes),
        "as recorded"
    );
    // A child is measured without its parents.
    prepare(&mut client, "b", "base", &[]).await;
    assert_eq!(usage(&mut client, "b").await.1, 1);
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_files_to_be_deleted() {
    let root = temporary_directory();
    // At this pace the tree below takes forty seconds to delete.
    let options = Options {
        pause: Pause {
            entries: 1,
            rest: Duration::from_millis(20),
        },
        ..Options::default()
    };
    let (served, mut client) = serve_with(root.path(), &options).await;
    let mount = prepare(&mut client, "a", "", &[]).await;
    let upper = PathBuf::from(&mount.source);
    for number in 0..2000 {
        fs::write(upper.join(number.to_string()), b"").unwrap();
    }
    let began = Instant::now();
    remove(&mut client, "a").await;
    for _ in 0..3 {
        client.cleanup(CleanupRequest::default()).await.unwrap();
    }
    let stat = StatSnapshotRequest {
        key: "a".to_owned(),
        ..StatSnapshotRequest::default()
    };
    assert_eq!(client.stat(stat).await.unwrap_err().code(), Code::NotFound);
    assert!(!upper.exists(), "its directory is gone at once");
    let again = prepare(&mut client, "a", "", &[]).await;
    assert_ne!(
        again.source, mount.source,
        "the key is free, the id is not used twice"
    );
    let trash = served.store.root().join("trash");
    assert!(
        fs::read_dir(&trash).unwrap().next().is_some(),
        "the files are still being deleted"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
    // A busy deleter does not keep the store from closing either.
    drop(client);
    served.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20));
}
