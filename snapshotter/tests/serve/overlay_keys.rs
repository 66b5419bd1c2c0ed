//! The keys an operator brings along from containerd's overlayfs snapshotter mean here what they mean there.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    CommitSnapshotRequest, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, UpdateSnapshotRequest,
};
use parapull_snapshotter::grpc::proto::containerd::types::Mount;
use tonic::transport::Channel;

use crate::daemon::Daemon;
use crate::served::{self, temporary_directory};

const KEYS: &str = r#"
[parapull]
mount_options = ["volatile", "metacopy=off"]
upperdir_label = true
sync_remove = true
remap_ids = true
slow_chown = true
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_containerd_s_overlayfs_are_honoured_in_real_mounts() {
    let test = "keys_of_containerd_s_overlayfs_are_honoured_in_real_mounts";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "mounting needs root");
    }
    let folder = temporary_directory();
    let config = folder.path().join("config.toml");
    fs::write(&config, KEYS).unwrap();
    let daemon = Daemon::start_with(folder.path(), &config);
    let mut client = daemon.client().await;
    let bind = prepare(&mut client, "base-active", "", &[]).await;
    fs::write(Path::new(&bind.source).join("below"), b"below").unwrap();
    let commit = CommitSnapshotRequest {
        name: "base".to_owned(),
        key: "base-active".to_owned(),
        ..CommitSnapshotRequest::default()
    };
    client.commit(commit).await.unwrap();
    let mount = prepare(&mut client, "container", "base", &[]).await;

    // The mount is the kernel's, and a file made in it lies where the label says.
    let target = folder.path().join("mounted");
    let Some(mounted) = Mounted::mount(&mount, &target) else {
        return served::skip(test, "no overlay can be mounted here");
    };
    assert!(
        mounted.options().contains("volatile"),
        "{}",
        mounted.options()
    );
    fs::write(target.join("own"), b"own").unwrap();
    let upper = upper_of(&mut client, "container").await;
    assert_eq!(fs::read(upper.join("own")).unwrap(), b"own");
    assert!(!upper.join("below").exists());
    assert_eq!(fs::read(target.join("below")).unwrap(), b"below");
    drop(mounted);

    let mapping = [
        ("containerd.io/snapshot/uidmapping", "0:100000:65536"),
        ("containerd.io/snapshot/gidmapping", "0:200000:65536"),
    ];
    let mapped = prepare(&mut client, "mapped", "base", &mapping).await;
    let maps = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
    assert_eq!(mapped.options[..2], maps, "{mapped:?}");

    for number in 0..2_000 {
        fs::write(upper.join(number.to_string()), b"").unwrap();
    }
    let remove = RemoveSnapshotRequest {
        key: "container".to_owned(),
        ..RemoveSnapshotRequest::default()
    };
    client.remove(remove).await.unwrap();
    let trash = fs::read_dir(daemon.root().join("trash")).unwrap();
    assert_eq!(trash.count(), 0, "a removal that is answered is done");
}

/// Where the label says that a snapshot's own files lie, in whichever answer it comes.
async fn upper_of(client: &mut SnapshotsClient<Channel>, key: &str) -> PathBuf {
    const LABEL: &str = "containerd.io/snapshot/overlay.upperdir";
    let stat = StatSnapshotRequest {
        key: key.to_owned(),
        ..StatSnapshotRequest::default()
    };
    let stat = client.stat(stat).await.unwrap().into_inner().info.unwrap();
    let mut listed = client
        .list(ListSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let listed = listed.message().await.unwrap().unwrap().info;
    let listed = listed.iter().find(|info| info.name == key).unwrap();
    let update = UpdateSnapshotRequest {
        info: Some(stat.clone()),
        ..UpdateSnapshotRequest::default()
    };
    let updated = client
        .update(update)
        .await
        .unwrap()
        .into_inner()
        .info
        .unwrap();
    assert_eq!(stat.labels[LABEL], listed.labels[LABEL]);
    assert_eq!(stat.labels[LABEL], updated.labels[LABEL]);
    PathBuf::from(&stat.labels[LABEL])
}

async fn prepare(
    client: &mut SnapshotsClient<Channel>,
    key: &str,
    parent: &str,
    labels: &[(&str, &str)],
) -> Mount {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let request = PrepareSnapshotRequest {
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: labels.collect::<HashMap<_, _>>(),
        ..PrepareSnapshotRequest::default()
    };
    client
        .prepare(request)
        .await
        .unwrap()
        .into_inner()
        .mounts
        .remove(0)
}

/// Something mounted, until dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn mount(mount: &Mount, target: &Path) -> Option<Self> {
        fs::create_dir_all(target).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                &mount.r#type,
                "-o",
                &mount.options.join(","),
                &mount.source,
            ])
            .arg(target)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(target.to_path_buf()))
    }

    /// The options the kernel mounted it with.
    fn options(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let target = self.0.to_str().unwrap();
        let line = mounts.lines().find(|line| line.contains(target)).unwrap();
        line.to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
