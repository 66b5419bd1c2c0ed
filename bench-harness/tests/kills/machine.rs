//! A node whose daemons are killed and started again: containerd, the snapshotter on a socket that stays, a registry.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use fake_registry::{CraftedImage, HELLO_OUTPUT};
use parapull_bench::layout::Layout;
use parapull_bench::processes::{
    Containerd, ContainerdOptions, Decompressor, Process, Programs, Snapshotter, Workspace,
};
use parapull_bench::tree::{ImageTree, layers_from_snapshots};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::snapshots::Snapshots;
use crate::support::node::{run_hello, wait_until};

pub(crate) struct Machine {
    // Declared in the order of their ends: containerd stops while its snapshotter still answers.
    containerd: Containerd,
    snapshotter: Process,
    /// Held here as systemd would: calls that come while nobody serves wait for the next one.
    listener: UnixListener,
    options: ContainerdOptions,
    programs: Programs,
    folder: PathBuf,
    boots: u32,
    workspace: Workspace,
}

/// How a pull by CRI ended, once it has.
pub(crate) type Ending = Receiver<Result<(), String>>;

impl Machine {
    pub(crate) fn start(programs: &Programs, host: &str) -> Self {
        let workspace = Workspace::new(None).unwrap();
        let folder = workspace.folder("p").unwrap();
        let proxy = Snapshotter::announced(&folder);
        let listener = UnixListener::bind(&proxy.socket).unwrap();
        let options = ContainerdOptions {
            proxy: Some(proxy),
            decompressor: Decompressor::Go,
            plain_http_hosts: vec![host.to_owned()],
            ..ContainerdOptions::installed().unwrap()
        };
        let containerd = Containerd::start(&workspace.folder("c").unwrap(), &options).unwrap();
        let config = "[parapull]\nstaging_ttl = \"1s\"\ncancel_grace = \"1s\"\n";
        fs::write(folder.join("config.toml"), config).unwrap();
        let mut machine = Self {
            snapshotter: Process::start("true", &mut Command::new("true"), &folder.join("log"))
                .unwrap(),
            containerd,
            listener,
            options,
            programs: programs.clone(),
            folder,
            boots: 0,
            workspace,
        };
        machine.boot(None);
        machine.wait_agreement(Some(0));
        machine
    }

    /// Starts the snapshotter on what is there, in the place of the one that runs; it dies at the point `kill_at`, or
    /// with 0 only tells its points.
    pub(crate) fn boot(&mut self, kill_at: Option<u64>) {
        self.snapshotter.kill();
        self.boots += 1;
        let proxy = Snapshotter::announced(&self.folder);
        let listener = self.listener.as_raw_fd();
        // Only bash takes descriptors of two digits.
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!(
                "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&{listener}"
            ))
            .arg(self.programs.snapshotter().unwrap())
            .args(["serve", "--config"])
            .arg(self.folder.join("config.toml"))
            .arg("--address")
            .arg(format!("unix://{}", proxy.socket.display()))
            .arg("--root")
            .arg(&proxy.root)
            .arg("--containerd-address")
            .arg(self.containerd.socket());
        if let Some(point) = kill_at {
            command.env("PARAPULL_KILL_AT", point.to_string());
        }
        fcntl_setfd(&self.listener, FdFlags::empty()).unwrap();
        self.snapshotter =
            Process::start("parapull-snapshotter", &mut command, &self.log()).unwrap();
        fcntl_setfd(&self.listener, FdFlags::CLOEXEC).unwrap();
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.snapshotter.is_running()
    }

    /// Kills the snapshotter wherever it is.
    pub(crate) fn kill(&mut self) {
        self.snapshotter.kill();
    }

    /// Kills containerd wherever it is, and starts it again.
    pub(crate) fn crash_containerd(&mut self) {
        self.containerd.crash(&self.options).unwrap();
    }

    /// The points that the snapshotter has come to since it was started.
    pub(crate) fn points(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap();
        let lines = log
            .lines()
            .filter_map(|line| line.strip_prefix("kill point "));
        lines
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// Begins a pull that ends on its own.
    pub(crate) fn begin_pull(&self, reference: &str) -> Ending {
        let (told, ending) = channel();
        let (mut client, reference) = (self.containerd.cri().unwrap(), reference.to_owned());
        thread::spawn(move || {
            let pulled = client.pull_image(&reference);
            let _ = told.send(pulled.map(drop).map_err(|error| error.to_string()));
        });
        ending
    }

    pub(crate) fn pull_well(&self, reference: &str) {
        if let Err(error) = self.begin_pull(reference).recv().unwrap() {
            panic!("{reference}: {error}\n{}", self.snapshotter.log_tail());
        }
    }

    /// The digest of a pulled image's trees.
    pub(crate) fn tree_sha256(&self, image: &CraftedImage) -> String {
        let layers = image.layers.iter();
        let diff_ids: Vec<String> = layers.map(|layer| layer.diff_id.clone()).collect();
        let folders = layers_from_snapshots(&self.containerd.ctr(), "parapull", &diff_ids).unwrap();
        let contents = Layout::open(image.layout.directory())
            .unwrap()
            .contents()
            .unwrap();
        let point = self.workspace.folder("merged").unwrap();
        ImageTree::read(&folders, &contents, &point)
            .unwrap()
            .sha256()
    }

    pub(crate) fn run_container(&self, reference: &str) {
        assert_eq!(run_hello(&self.containerd, reference), HELLO_OUTPUT);
    }

    pub(crate) fn remove_image(&self, reference: &str) {
        self.containerd
            .cri()
            .unwrap()
            .remove_image(reference)
            .unwrap();
        self.containerd.ctr().remove_image(reference).unwrap();
    }

    /// Ends the leases of pulls that containerd did not live to see the end of, which hold snapshots for a day, and has it
    /// collect its garbage: snapshots it died before writing down among it.
    pub(crate) fn collect_garbage(&self) {
        let ctr = self.containerd.ctr();
        // Ending a lease is what makes it collect, so there has to be one.
        ctr.run(["leases", "create"]).unwrap();
        for lease in ctr.run(["leases", "ls", "-q"]).unwrap().lines() {
            ctr.run(["leases", "rm", "--sync", lease]).unwrap();
        }
    }

    /// Waits until what the snapshotter lists and what lies on the disk are the same, every snapshot answers for itself,
    /// and there are as many as given, if so.
    pub(crate) fn wait_agreement(&self, count: Option<usize>) {
        let mut disagreement = String::new();
        let agrees = || {
            match self.agreement() {
                Ok(snapshots) if count.is_none_or(|count| count == snapshots) => {
                    disagreement.clear();
                }
                Ok(snapshots) => disagreement = format!("{snapshots} snapshots"),
                Err(error) => disagreement = error,
            }
            disagreement.is_empty()
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("agreement", agrees);
        }));
        assert!(waited.is_ok(), "{disagreement}; wanted {count:?} snapshots");
    }

    /// How many snapshots there are, each with its directory; garbage collection may come in between.
    fn agreement(&self) -> Result<usize, String> {
        let proxy = Snapshotter::announced(&self.folder);
        let mut snapshots = Snapshots::connect(&proxy.socket)?;
        let listed = snapshots.list()?;
        let mut ids = BTreeSet::new();
        for info in &listed {
            ids.extend(snapshots.ids_of(info)?);
        }
        let found: BTreeSet<String> = self.names_in("snapshots").into_iter().collect();
        if ids != found {
            return Err(format!("records of {ids:?}, directories {found:?}"));
        }
        for id in &ids {
            if !proxy.root.join("snapshots").join(id).join("fs").is_dir() {
                return Err(format!("snapshot {id} has no tree"));
            }
        }
        if snapshots.list()?.len() != listed.len() {
            return Err("changed meanwhile".into());
        }
        Ok(listed.len())
    }

    /// Waits until nothing is left of any pull but `snapshots` snapshots.
    pub(crate) fn wait_clean(&self, snapshots: usize) {
        self.wait_agreement(Some(snapshots));
        let mut left = Vec::new();
        let is_clean = || {
            left.clear();
            for job in self.names_in("staging") {
                left.extend(self.names_in(&format!("staging/{job}")));
            }
            left.extend(self.names_in("trash"));
            left.extend(self.names_in("empty"));
            left.extend(self.names_in("spool"));
            left.is_empty()
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("nothing left", is_clean);
        }));
        assert!(waited.is_ok(), "left over: {left:?}");
        let known = [
            "empty",
            "metadata.redb",
            "snapshots",
            "spool",
            "staging",
            "trash",
        ];
        let others: Vec<String> = self
            .names_in("")
            .into_iter()
            .filter(|name| !known.contains(&&**name))
            .collect();
        assert!(others.is_empty(), "left over: {others:?}");
    }

    fn names_in(&self, folder: &str) -> Vec<String> {
        let folder = Snapshotter::announced(&self.folder).root.join(folder);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("boot-{}.log", self.boots))
    }
}
