//! A node as Kubernetes has it: containerd with parapull as its snapshotter, and a registry in this process that keeps a
//! journal.

#![expect(clippy::unwrap_used, reason = "test support fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fake_registry::{CraftedImage, FakeRegistry, FakeRegistryBuilder, Journal, Running, craft};
use hyper_util::rt::TokioIo;
use parapull_bench::cri::CriError;
use parapull_bench::layout::Layout;
use parapull_bench::processes::{
    Containerd, ContainerdOptions, Decompressor, Programs, Snapshotter, SnapshotterOptions,
    Workspace, find_program,
};
use parapull_bench::tree::{ImageTree, layers_from_snapshots};
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{Faults, ImageSpec, RegistryProfile};
use parapull_snapshotter::grpc::proto::runtime::v1::image_service_client::ImageServiceClient;
use parapull_snapshotter::grpc::proto::runtime::v1::{ImageSpec as CriImage, PullImageRequest};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tonic::transport::{Endpoint, Uri};

use super::can_run;

/// The project's programs, where they are built and everything else that a node needs is installed.
pub(crate) fn programs(test: &str) -> Option<Programs> {
    if !can_run(test, &["containerd", "ctr", "runc"]) {
        return None;
    }
    let programs = Programs::beside_this_one();
    if programs.snapshotter().is_ok() && programs.fake_registry().is_ok() {
        return Some(programs);
    }
    let why = "build the programs first: cargo build --bins";
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
        "{test}: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
    None
}

/// Crafts an image, or finds it from the last time.
pub(crate) fn crafted(spec: &ImageSpec) -> CraftedImage {
    craft(spec, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("images")).unwrap()
}

/// What a craft file describes.
pub(crate) fn crafted_of(json: &str) -> CraftedImage {
    crafted(&serde_json::from_str(json).unwrap())
}

/// A registry in this process; dropping it stops it.
pub(crate) struct Registry {
    pub(crate) host: String,
    pub(crate) journal: Journal,
    running: Option<Running>,
    runtime: Runtime,
}

impl Registry {
    /// Serves images under their names.
    pub(crate) fn serve(
        images: &[(&str, &CraftedImage)],
        profile: RegistryProfile,
        faults: Vec<Fault>,
    ) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let served = builder(images).profile(profile).faults(Faults { faults });
        let running = runtime.block_on(async { served.build().unwrap().start().await.unwrap() });
        Self {
            host: running.authority(),
            journal: running.journal.clone(),
            running: Some(running),
            runtime,
        }
    }

    /// The same images at the same address without faults and limits, with a new journal.
    pub(crate) fn heal(&mut self, images: &[(&str, &CraftedImage)]) {
        let (old, served) = (self.running.take().unwrap(), builder(images));
        let address = old.address;
        let running = self.runtime.block_on(async {
            old.stop().await;
            // A connection elsewhere on this machine may hold the port for a moment.
            let free = async {
                loop {
                    match tokio::net::TcpListener::bind(address).await {
                        Ok(listener) => return listener,
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            };
            let listener = tokio::time::timeout(Duration::from_secs(20), free).await;
            served
                .build()
                .unwrap()
                .serve(listener.unwrap())
                .await
                .unwrap()
        });
        self.journal = running.journal.clone();
        self.running = Some(running);
    }

    pub(crate) fn healthy(images: &[(&str, &CraftedImage)]) -> Self {
        Self::serve(images, RegistryProfile::default(), Vec::new())
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Body bytes sent of each layer of these images.
    pub(crate) fn layer_bytes(&self, images: &[&CraftedImage]) -> BTreeMap<String, u64> {
        let layers = images.iter().flat_map(|image| &image.layers);
        layers
            .map(|layer| {
                let requests = self.journal.blob_requests(&layer.digest);
                (
                    layer.digest.clone(),
                    requests.iter().map(|entry| entry.body_bytes).sum(),
                )
            })
            .collect()
    }

    pub(crate) fn layer_bytes_total(&self, image: &CraftedImage) -> u64 {
        self.layer_bytes(&[image]).values().sum()
    }
}

fn builder(images: &[(&str, &CraftedImage)]) -> FakeRegistryBuilder {
    images
        .iter()
        .fold(FakeRegistry::builder(), |builder, (name, image)| {
            builder.image(name, image.layout.clone())
        })
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

/// The size of each distinct layer of these images.
pub(crate) fn layer_sizes(images: &[&CraftedImage]) -> BTreeMap<String, u64> {
    let layers = images.iter().flat_map(|image| &image.layers);
    layers
        .map(|layer| (layer.digest.clone(), layer.compressed_bytes))
        .collect()
}

/// A fault without an offset.
pub(crate) fn fault(target: FaultTarget, times: FaultTimes, kind: FaultKind) -> Fault {
    Fault {
        target,
        offset: None,
        times,
        kind,
    }
}

/// containerd and the snapshotter.
pub(crate) struct Node {
    // Declared in the order of their ends: containerd stops while its snapshotter still answers.
    pub(crate) containerd: Containerd,
    pub(crate) snapshotter: Snapshotter,
    options: SnapshotterOptions,
    programs: Programs,
    pub(crate) folder: PathBuf,
    pub(crate) workspace: Workspace,
}

impl Node {
    /// Starts both, with these lines in the snapshotter's configuration.
    pub(crate) fn start(programs: &Programs, host: &str, settings: &[&str]) -> Self {
        Self::start_on(programs, host, settings, None)
    }

    /// The same with the snapshotter's root on a file system of its own, mounted with these options.
    pub(crate) fn start_on(
        programs: &Programs,
        host: &str,
        settings: &[&str],
        root: Option<&str>,
    ) -> Self {
        let workspace = Workspace::new(None).unwrap();
        let folder = workspace.folder("p").unwrap();
        let proxy = Snapshotter::announced(&folder);
        if let Some(options) = root {
            fs::create_dir_all(&proxy.root).unwrap();
            mount_tmpfs(&proxy.root, options);
        }
        let hosts = vec![host.to_owned()];
        let options = ContainerdOptions {
            proxy: Some(proxy),
            decompressor: Decompressor::Go,
            plain_http_hosts: hosts,
            ..ContainerdOptions::installed().unwrap()
        };
        let containerd = Containerd::start(&workspace.folder("c").unwrap(), &options).unwrap();
        let options = SnapshotterOptions {
            containerd_socket: containerd.socket().into(),
            settings: settings.iter().map(|line| (*line).to_owned()).collect(),
            traces: None,
            boot_id: None,
        };
        let snapshotter = Snapshotter::start(programs, &folder, &options).unwrap();
        Self {
            containerd,
            snapshotter,
            options,
            programs: programs.clone(),
            folder,
            workspace,
        }
    }

    /// Kills the snapshotter as a crash would, starts it again on the same root, and waits until containerd, which backs
    /// off, has found it.
    pub(crate) fn crash_snapshotter(&mut self) {
        self.snapshotter.kill();
        self.start_snapshotter_again();
    }

    /// The same as if the whole machine had stopped, after `loss` has done to the snapshotter's root what that does to files.
    pub(crate) fn lose_power(&mut self, loss: impl FnOnce()) {
        self.snapshotter.kill();
        loss();
        self.options.boot_id = Some("after the power failure".to_owned());
        self.start_snapshotter_again();
    }

    fn start_snapshotter_again(&mut self) {
        self.snapshotter = Snapshotter::start(&self.programs, &self.folder, &self.options).unwrap();
        let ctr = self.containerd.ctr();
        wait_until("containerd's connection", || {
            let probe = ["snapshots", "--snapshotter", "parapull", "prepare", "probe"];
            ctr.run(probe).is_ok()
        });
        ctr.remove_snapshot("parapull", "probe").unwrap();
    }

    /// Pulls by CRI and waits.
    pub(crate) fn pull(&self, reference: &str) -> Result<(), CriError> {
        self.containerd.cri()?.pull_image(reference).map(drop)
    }

    /// Pulls by CRI, expects success, and shows the snapshotter's log otherwise.
    #[track_caller]
    pub(crate) fn pull_well(&self, reference: &str) {
        if let Err(error) = self.pull(reference) {
            panic!("{error}\n{}", self.snapshotter.log_tail());
        }
    }

    /// Pulls by CRI, expects failure, and gives containerd's message.
    #[track_caller]
    pub(crate) fn pull_badly(&self, reference: &str) -> String {
        match self.pull(reference) {
            Ok(()) => panic!("{reference} was pulled"),
            Err(error) => error.to_string(),
        }
    }

    /// Begins a pull by CRI that can be dropped.
    pub(crate) fn begin_pull(
        &self,
        runtime: &Runtime,
        reference: &str,
    ) -> JoinHandle<Result<(), tonic::Status>> {
        let (socket, image) = (self.containerd.socket().to_owned(), reference.to_owned());
        runtime.spawn(async move {
            let connector = tower::service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_static("http://localhost");
            let channel = endpoint.connect_with_connector(connector).await.unwrap();
            let request = PullImageRequest {
                image: Some(CriImage {
                    image,
                    ..CriImage::default()
                }),
                ..PullImageRequest::default()
            };
            ImageServiceClient::new(channel)
                .pull_image(request)
                .await
                .map(drop)
        })
    }

    /// The command that pulls as a client of containerd into a namespace.
    pub(crate) fn client_pull(&self, reference: &str, namespace: &str) -> Command {
        let mut command = Command::new(self.programs.snapshotter().unwrap());
        command
            .args(["pull", reference, "--json", "--namespace", namespace])
            .arg("--containerd")
            .arg(self.containerd.socket())
            .env("DOCKER_CONFIG", &self.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the image's own command and returns what it wrote.
    #[track_caller]
    pub(crate) fn run_hello(&self, reference: &str) -> String {
        run_hello(&self.containerd, reference)
    }

    /// The trees of a pulled image.
    #[track_caller]
    pub(crate) fn tree(&self, image: &CraftedImage) -> ImageTree {
        self.tree_in("parapull", image)
    }

    /// The trees of an image in a snapshotter.
    #[track_caller]
    pub(crate) fn tree_in(&self, snapshotter: &str, image: &CraftedImage) -> ImageTree {
        let diff_ids: Vec<String> = image
            .layers
            .iter()
            .map(|layer| layer.diff_id.clone())
            .collect();
        let folders =
            layers_from_snapshots(&self.containerd.ctr(), snapshotter, &diff_ids).unwrap();
        let layout = Layout::open(image.layout.directory()).unwrap();
        let point = self.workspace.folder("merged").unwrap();
        ImageTree::read(&folders, &layout.contents().unwrap(), &point).unwrap()
    }

    /// What runs according to the daemon. Its status socket opens a moment after the one that containerd uses.
    pub(crate) fn status(&self) -> serde_json::Value {
        let mut status = serde_json::Value::Null;
        let address = format!("unix://{}", self.snapshotter.proxy().socket.display());
        wait_until("the daemon's status", || {
            let output = Command::new(self.programs.snapshotter().unwrap())
                .args(["status", "--json", "--address", &address])
                .output()
                .unwrap();
            status = serde_json::from_slice(&output.stdout).unwrap_or_default();
            !status.is_null()
        });
        status
    }

    /// Waits until no pull is under way and nothing of any is left: neither window, fetch, lane nor staged tree.
    #[track_caller]
    pub(crate) fn wait_idle(&self) {
        self.wait_quiet();
        wait_until("an empty staging area", || self.staged().is_empty());
    }

    /// Waits until no pull is under way and nothing is held for any.
    #[track_caller]
    pub(crate) fn wait_quiet(&self) {
        wait_until("a quiet daemon", || {
            let status = self.status();
            let used = ["fetches", "unpacks", "window_bytes"]
                .iter()
                .any(|limit| status[*limit][0] != 0);
            let pulls = status["pulls"]
                .as_array()
                .is_some_and(|pulls| !pulls.is_empty());
            !used && !pulls
        });
    }

    /// The daemon's threads that unpack.
    pub(crate) fn lane_threads(&self) -> usize {
        let threads = list(Path::new(&format!("/proc/{}/task", self.snapshotter.id())));
        let name = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let lanes = threads
            .iter()
            .filter(|thread| name(thread).starts_with("lane-"));
        lanes.count()
    }

    /// What lies in staging.
    pub(crate) fn staged(&self) -> Vec<PathBuf> {
        let jobs = list(&self.snapshotter.proxy().root.join("staging"));
        jobs.iter().flat_map(|job| list(job)).collect()
    }

    /// The diff ids of the layers in staging that are noted as finished.
    pub(crate) fn kept(&self) -> Vec<String> {
        let notes = self.staged().into_iter().filter_map(|layer| {
            let text = fs::read(layer.join("layer.json")).ok()?;
            serde_json::from_slice::<serde_json::Value>(&text).ok()
        });
        notes
            .map(|note| note["diff_id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Committed and active snapshots, by key.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let rows = self.containerd.ctr().snapshots("parapull").unwrap();
        rows.into_iter().map(|row| row.key).collect()
    }
}

/// Runs an image's own command on parapull and returns what it wrote.
///
/// Containers of all containerds on a machine share one folder of runc's, so each has a name that no other test gives. What
/// a process writes just before it ends can be lost in `ctr`, which stops reading when it hears of the end; then it is run
/// again.
#[track_caller]
pub(crate) fn run_hello(containerd: &Containerd, reference: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let ctr = containerd.ctr();
    let mut output = String::new();
    for _ in 0..5 {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hello-{}-{count}", std::process::id());
        output = ctr
            .run_container(reference, "parapull", &name, &[])
            .unwrap();
        if !output.is_empty() {
            break;
        }
    }
    output
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn mount_tmpfs(point: &Path, options: &str) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(point)
        .status()
        .unwrap();
    assert!(mounted.success(), "mount {}", point.display());
}

/// Waits for something that announces itself in no other way; a minute at most.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The chain ids of an image's layers, bottom first: the names of their snapshots.
pub(crate) fn chain_ids(image: &CraftedImage) -> Vec<String> {
    let mut chains: Vec<parapull_snapshotter::digest::Digest> = Vec::new();
    for layer in &image.layers {
        let diff_id = layer.diff_id.parse().unwrap();
        let next = chains.last().map_or(diff_id, |below| below.chain(&diff_id));
        chains.push(next);
    }
    chains.iter().map(ToString::to_string).collect()
}

/// Whether a program of this machine is missing, loudly.
pub(crate) fn has_program(test: &str, name: &str) -> bool {
    let found = find_program(name, "").is_ok();
    assert!(
        found || std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
        "{test}: {name} is missing"
    );
    if !found {
        eprintln!("SKIPPED {test}: {name} is missing");
    }
    found
}
