//! The daemon's end in mid-pull: layers that were finished are not fetched again by the next one.
//!
//! Goal: what survives a kill or a stop. Method: the real program without containerd, asked layer by layer as containerd asks, a
//! registry whose silence keeps one layer from ending, and its journal of requests.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fake_registry::{FakeRegistry, Journal, Running};
use parapull_scenario::Faults;
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use parapull_snapshotter::grpc::proto::containerd::services::snapshots::v1::{
    ListSnapshotsRequest, PrepareSnapshotRequest,
};
use parapull_snapshotter::tree::{Tree, scan};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;
use tonic::transport::Channel;

#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/archive.rs"]
mod archive;
#[expect(dead_code, reason = "shared with the tests of the command")]
#[path = "pull/images.rs"]
mod images;
#[path = "conformance/served.rs"]
mod served;

use images::TestImage;
use served::temporary_directory;

/// Layers below this one are linked before the daemon ends, those above are only staged.
const SILENT: usize = 2;

fn image() -> TestImage {
    let layer =
        |bytes: u32| format!(r#"{{"uncompressed_bytes": {bytes}, "files": 4, "directories": 2}}"#);
    let layers = [200_000, 150_000, 250_000, 300_000, 100_000].map(layer);
    TestImage::of_yaml(&format!(
        r#"{{"name": "restart", "seed": 5, "layers": [{}]}}"#,
        layers.join(",")
    ))
}

/// A registry whose answer to the first request for the silent layer never ends.
async fn registry(image: &TestImage, silent: bool) -> Running {
    let fault = Fault {
        target: FaultTarget::Digest(image.layers[SILENT].digest.clone()),
        offset: Some(0),
        times: FaultTimes::First(1),
        kind: FaultKind::StallAfter {
            bytes: 100,
            stall_ms: None,
        },
    };
    FakeRegistry::builder()
        .image("team/app:1", image.layout.clone())
        .faults(Faults {
            faults: silent.then_some(fault).into_iter().collect(),
        })
        .build()
        .unwrap()
        .start()
        .await
        .unwrap()
}

/// A running daemon; dropping it kills it.
struct Daemon {
    child: Child,
    root: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    fn start(folder: &Path, settings: &[&str]) -> Self {
        let (root, socket) = (folder.join("root"), folder.join("s.sock"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"));
        command
            .arg("serve")
            .args(["--log-level", "warn"])
            .arg("--root")
            .arg(&root)
            .arg("--address")
            .arg(format!("unix://{}", socket.display()))
            .arg("--containerd-address")
            .arg(folder.join("no-containerd.sock"))
            .env_remove("LISTEN_FDS")
            .stdin(Stdio::null());
        for setting in settings {
            command.args(["--set", setting]);
        }
        // What a killed one left would be taken for the new one's.
        let _ = fs::remove_file(&socket);
        let child = command.spawn().unwrap();
        wait_until("the daemon's socket", || socket.exists());
        Self {
            child,
            root,
            socket,
        }
    }

    async fn client(&self) -> SnapshotsClient<Channel> {
        served::connect(&self.socket).await
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.success(), signal == Signal::TERM, "{status}");
    }

    /// The images that `status` shows.
    fn images(&self) -> Vec<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"))
            .args(["status", "--json", "--address"])
            .arg(format!("unix://{}", self.socket.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let pulls = status["pulls"].as_array().unwrap();
        pulls.iter().map(|pull| pull["image"].to_string()).collect()
    }

    /// What lies in staging, and of it what is noted as finished.
    fn staged(&self) -> (usize, usize) {
        let below = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let layers: Vec<PathBuf> = below(&self.root.join("staging"))
            .iter()
            .flat_map(|job| below(job))
            .collect();
        let noted = layers
            .iter()
            .filter(|layer| layer.join("layer.json").exists());
        (layers.len(), noted.count())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for layers as containerd does.
struct Caller {
    image: TestImage,
    host: String,
    chains: Vec<Digest>,
    /// The backend name of the layer linked last.
    parent: String,
}

impl Caller {
    fn new(image: &TestImage, host: &str) -> Self {
        let mut chains: Vec<Digest> = Vec::new();
        for layer in &image.layers {
            let diff_id: Digest = layer.diff_id.parse().unwrap();
            let chain = chains.last().map(|below| below.chain(&diff_id));
            chains.push(chain.unwrap_or(diff_id));
        }
        Self {
            image: image.clone(),
            host: host.to_owned(),
            chains,
            parent: String::new(),
        }
    }

    fn request(&self, index: usize) -> PrepareSnapshotRequest {
        let labels = [
            ("containerd.io/snapshot.ref", self.chains[index].to_string()),
            (
                "containerd.io/snapshot/cri.image-ref",
                format!("{}/team/app:1", self.host),
            ),
            (
                "containerd.io/snapshot/cri.layer-digest",
                self.image.layers[index].digest.clone(),
            ),
            (
                "containerd.io/snapshot/cri.manifest-digest",
                self.image.manifest_digest.clone(),
            ),
        ];
        PrepareSnapshotRequest {
            key: format!("k8s.io/1/extract {}", self.chains[index]),
            parent: self.parent.clone(),
            labels: labels
                .map(|(label, value)| (label.to_owned(), value))
                .into_iter()
                .collect::<HashMap<_, _>>(),
            ..PrepareSnapshotRequest::default()
        }
    }

    /// Has a layer linked and looks it up, as containerd does.
    async fn link(&mut self, client: &mut SnapshotsClient<Channel>, index: usize) {
        let status = client.prepare(self.request(index)).await.unwrap_err();
        assert_eq!(
            status.code(),
            Code::AlreadyExists,
            "layer {index}: {status}"
        );
        let filter = format!(
            "labels.\"containerd.io/snapshot.ref\"=={},parent==\"{}\"",
            self.chains[index], self.parent
        );
        let request = ListSnapshotsRequest {
            filters: vec![filter],
            ..ListSnapshotsRequest::default()
        };
        let mut found = client.list(request).await.unwrap().into_inner();
        let infos = found.message().await.unwrap().unwrap().info;
        self.parent.clone_from(&infos[0].name);
    }

    /// The layers as a container sees them, bottom first.
    async fn trees(&self, client: &mut SnapshotsClient<Channel>) -> Vec<Tree> {
        let request = PrepareSnapshotRequest {
            key: "k8s.io/9/container".to_owned(),
            parent: self.parent.clone(),
            ..PrepareSnapshotRequest::default()
        };
        let mounts = client.prepare(request).await.unwrap().into_inner().mounts;
        let lowers = mounts[0].options.iter();
        let lowers = lowers
            .filter_map(|option| option.strip_prefix("lowerdir="))
            .flat_map(|lowers| lowers.split(':'));
        let mut trees: Vec<Tree> = lowers
            .map(|lower| scan(Path::new(lower)).unwrap())
            .collect();
        trees.reverse();
        trees
    }
}

fn requests(journal: &Journal, image: &TestImage) -> Vec<usize> {
    let layers = image.layers.iter();
    layers
        .map(|layer| journal.blob_requests(&layer.digest).len())
        .collect()
}

/// The trees of a pull that nothing disturbed.
async fn trees_of_a_whole_pull(image: &TestImage) -> Vec<Tree> {
    let folder = temporary_directory();
    let registry = registry(image, false).await;
    let daemon = Daemon::start(folder.path(), &[]);
    let (mut client, mut caller) = (
        daemon.client().await,
        Caller::new(image, &registry.authority()),
    );
    for index in 0..image.layers.len() {
        caller.link(&mut client, index).await;
    }
    assert_eq!(requests(&registry.journal, image), [1; 5]);
    caller.trees(&mut client).await
}

/// Pulls until the layers below the silent one are linked and those above are staged.
async fn pull_halfway(daemon: &Daemon, caller: &mut Caller) {
    let mut client = daemon.client().await;
    for index in 0..SILENT {
        caller.link(&mut client, index).await;
    }
    let above = caller.image.layers.len() - SILENT - 1;
    wait_until("layers staged", || daemon.staged().1 == above);
    assert_eq!(daemon.images().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_layers_of_an_unfinished_pull_are_not_fetched_again_after_a_restart() {
    let test = "finished_layers_of_an_unfinished_pull_are_not_fetched_again_after_a_restart";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let image = image();
    let whole = trees_of_a_whole_pull(&image).await;
    for signal in [Signal::KILL, Signal::TERM] {
        let folder = temporary_directory();
        let registry = registry(&image, true).await;
        let mut caller = Caller::new(&image, &registry.authority());
        let daemon = Daemon::start(folder.path(), &[]);
        pull_halfway(&daemon, &mut caller).await;
        assert_eq!(requests(&registry.journal, &image), [1; 5]);
        daemon.end(signal);

        let daemon = Daemon::start(folder.path(), &[]);
        assert_eq!(daemon.staged(), (2, 2), "what was unfinished is gone");
        let mut client = daemon.client().await;
        for index in SILENT..image.layers.len() {
            caller.link(&mut client, index).await;
        }
        assert_eq!(
            requests(&registry.journal, &image),
            [1, 1, 2, 1, 1],
            "{signal:?}: only what was missing is fetched"
        );
        assert!(caller.trees(&mut client).await == whole, "{signal:?}");
        wait_until("an empty staging area", || daemon.staged() == (0, 0));
        daemon.end(Signal::TERM);
        registry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asks_for_after_a_restart_is_dropped() {
    let test = "what_nobody_asks_for_after_a_restart_is_dropped";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let (image, folder) = (image(), temporary_directory());
    let registry = registry(&image, true).await;
    let mut caller = Caller::new(&image, &registry.authority());
    let daemon = Daemon::start(folder.path(), &[]);
    pull_halfway(&daemon, &mut caller).await;
    daemon.end(Signal::KILL);
    let daemon = Daemon::start(folder.path(), &["staging_ttl=1s"]);
    wait_until("an empty staging area", || daemon.staged() == (0, 0));
    // What was linked stays.
    let mut client = daemon.client().await;
    for index in SILENT..image.layers.len() {
        caller.link(&mut client, index).await;
    }
    assert_eq!(requests(&registry.journal, &image), [1, 1, 2, 2, 2]);
    registry.stop().await;
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
