//! `unpack`: layers unpacked by us and by peers, interleaved, and what that costs.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use parapull_bench::measure::Machine;
use parapull_bench::processes::{Generation, Workspace, find_program};
use parapull_bench::report::{build, revision};
use parapull_bench::unpack::{
    Compressor, Contender, LayerKind, LayerSize, PlaceKind, SCHEMA, Sizes, TestLayer, UnpackPlan,
    UnpackResult, inflating, instructions, markdown, unpack_all, write,
};

use super::command_line;
use super::output::say;
use super::progress::Progress;

/// Unpack the same layers by a lane, tar, umoci and containerd, interleaved, each time onto a file system made for it.
///
/// Then inflate them in every way there is, and count a lane's instructions beside a plain loop's. Needs root; wants two
/// cores without other work.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parapull-bench unpack --out results                          all of it, some 10 minutes\n  \
                  parapull-bench unpack --quick --out /tmp/found               under 2 minutes\n  \
                  parapull-bench unpack --layers big --contenders parapull:1,parapull:2,umoci --filesystems xfs --reps 5 \
                  --out /tmp/found\n\nLayers: mixed, big, small, weights. File systems: tmpfs, ext4, xfs. Contenders: parapull:N, tar:gzip, \
                  tar:unpigz, tar:igzip,\ntar:igzip+sha256, umoci, containerd-1.6:go, containerd-1.6:unpigz, containerd-2:go, \
                  containerd-2:igzip."
)]
pub(super) struct Unpack {
    /// Small layers, one run each, onto a tmpfs alone
    #[arg(long)]
    quick: bool,

    /// Layers, comma-separated
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["mixed", "big", "small", "weights"])]
    layers: Vec<LayerKind>,

    /// File systems, comma-separated [default: tmpfs,ext4; tmpfs with --quick]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    filesystems: Vec<PlaceKind>,

    /// Contenders, comma-separated [default: all of them]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    contenders: Vec<Contender>,

    /// Repetitions [default: 3; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    reps: Option<u16>,

    /// Leave instructions uncounted
    #[arg(long)]
    no_instructions: bool,

    /// Folder for unpack.md, .json, .csv and .svg
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Print the result as one JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Unpack {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let workspace = Workspace::new(None).context("failed to begin")?;
        let progress = Progress::new();
        let plan = self.plan();
        let mut result = self.empty(&workspace, &plan)?;
        for kind in &self.layers {
            progress.say(format!("making the layer {}", kind.name()));
            let made = self.make(*kind, &workspace)?;
            for layer in &made {
                result.layers.push(LayerSize {
                    name: layer.name.clone(),
                    compressed_bytes: layer.spec.size,
                    uncompressed_bytes: layer.uncompressed_bytes,
                    entries: layer.entries,
                    files: layer.files,
                });
                let work = workspace.folder("work").context("failed to begin")?;
                let runs = unpack_all(layer, &plan, &work, &|text| progress.say(text));
                result.runs.extend(runs.context("failed to measure")?);
                progress.say(format!("inflating {}", layer.name));
                let costs = inflating(layer, plan.reps).context("failed to measure")?;
                result.inflate.extend(costs);
            }
            workspace.remove("layers").context("failed to go on")?;
        }
        if !self.no_instructions {
            progress.say("counting instructions");
            // What was measured before is worth more than this.
            match self.count(&workspace) {
                Ok(counted) => result.instructions = Some(counted),
                Err(error) => eprintln!("warning: {error:#}"),
            }
        }
        result.load_after = Machine::here(workspace.path()).load;
        let result = result.summarised();
        write(&result, &self.out).context("failed to write the report")?;
        drop(progress);
        if self.json {
            return say(&format!("{}\n", serde_json::to_string_pretty(&result)?));
        }
        let text = markdown(&result);
        say(&format!("{text}\nwritten to {}\n", self.out.display()))
    }

    fn plan(&self) -> UnpackPlan {
        let or = |given: &[PlaceKind], all: &[PlaceKind]| {
            if given.is_empty() { all } else { given }.to_vec()
        };
        let places: &[PlaceKind] = if self.quick {
            &[PlaceKind::Tmpfs]
        } else {
            &[PlaceKind::Tmpfs, PlaceKind::Ext4]
        };
        UnpackPlan {
            contenders: if self.contenders.is_empty() {
                Contender::ALL.to_vec()
            } else {
                self.contenders.clone()
            },
            places: or(&self.filesystems, places),
            reps: usize::from(self.reps.unwrap_or(if self.quick { 1 } else { 3 })),
        }
    }

    fn sizes(&self) -> Sizes {
        if self.quick { QUICK } else { FULL }
    }

    /// By Go where it is installed, which is how most images are made; the mixed layer by gzip too.
    fn make(&self, kind: LayerKind, workspace: &Workspace) -> anyhow::Result<Vec<TestLayer>> {
        let has_go = find_program("go", "").is_ok();
        let compressors: &[Compressor] = match (has_go, kind) {
            (false, _) => &[Compressor::Gzip],
            (true, LayerKind::Mixed) if !self.quick => &[Compressor::Go, Compressor::Gzip],
            (true, _) => &[Compressor::Go],
        };
        let folder = workspace.folder("layers").context("failed to begin")?;
        let made = TestLayer::make(kind, self.sizes(), compressors, &folder);
        made.with_context(|| format!("failed to make the layer {}", kind.name()))
    }

    fn count(&self, workspace: &Workspace) -> anyhow::Result<parapull_bench::unpack::Instructions> {
        let failed = "failed to count instructions";
        let folder = workspace.folder("counted").context(failed)?;
        let layers = TestLayer::make(LayerKind::Mixed, COUNTED, &[Compressor::Gzip], &folder);
        let layer = layers.context(failed)?;
        instructions(&layer[0], &folder).context(failed)
    }

    fn empty(&self, workspace: &Workspace, plan: &UnpackPlan) -> anyhow::Result<UnpackResult> {
        let mut versions = Vec::new();
        for generation in [Generation::V1_6, Generation::V2] {
            let is_one =
                |one: &Contender| matches!(one, Contender::Containerd(of, _) if *of == generation);
            if plan.contenders.iter().any(is_one) {
                let found = generation.obtain().context("failed to begin")?;
                versions.push(format!("containerd {}", found.version));
            }
        }
        versions.extend(["umoci", "igzip", "unpigz", "tar"].map(version_of));
        Ok(UnpackResult {
            schema: SCHEMA.into(),
            command: command_line(),
            revision: revision(),
            build: build().into(),
            machine: Machine::here(workspace.path()),
            load_after: 0.0,
            versions,
            layers: Vec::new(),
            runs: Vec::new(),
            lines: Vec::new(),
            inflate: Vec::new(),
            instructions: None,
            goals: Vec::new(),
        })
    }
}

/// What a program says of itself, or that it is not there.
fn version_of(program: &str) -> String {
    let found = find_program(program, "");
    let said = found.ok().and_then(|path| said_by(&path));
    said.unwrap_or_else(|| format!("no {program}"))
}

fn said_by(program: &Path) -> Option<String> {
    let mut command = std::process::Command::new(program);
    let output = command.arg("--version").output().ok()?;
    // unpigz says it on stderr.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(str::to_owned)
}

const FULL: Sizes = Sizes {
    bytes: 320 << 20,
    small_files: 50_000,
};
const QUICK: Sizes = Sizes {
    bytes: 64 << 20,
    small_files: 10_000,
};
/// callgrind is some fifty times slower than the machine.
const COUNTED: Sizes = Sizes {
    bytes: 16 << 20,
    small_files: 0,
};
