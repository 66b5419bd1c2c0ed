//! `compatibility`: every containerd generation, way of pulling and image, judged and reported.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use fake_registry::HELLO_OUTPUT;
use parapull_bench::compatibility::{Case, Compatibility, IMAGES, SCHEMA, markdown, prepare};
use parapull_bench::measure::Machine;
use parapull_bench::processes::{Generation, ObtainedContainerd, Programs, Workspace};
use parapull_bench::pulls::{RegistryKind, Stage, StageOptions, Way};
use parapull_bench::report;

use super::command_line;
use super::output::say;
use super::progress::Progress;

/// Pull images through each containerd generation in every way there is, beside containerd's own overlayfs.
///
/// What the machine does not have installed is unpacked from Debian's archive (see `containerds`). Every pull has daemons
/// of its own. One difference fails the command, after everything was tried.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parapull-bench compatibility --out results\n  parapull-bench compatibility --generation 2 \
                  --way ctr,cri --image tiny --reps 1 --out /tmp/found\n\nWays: cri, cri-transfer, ctr, ctr-local, client. Images: \
                  presets, craft files, layouts, and the two named encodings and multi-arch."
)]
pub(super) struct CompatibilityCommand {
    /// Generations, comma-separated
    #[arg(long = "generation", value_name = "LIST", value_delimiter = ',', default_values = ["1.6", "1.7", "2"])]
    generations: Vec<Generation>,

    /// Ways, comma-separated; those that a generation does not have are left out there
    #[arg(long = "way", value_name = "LIST", value_delimiter = ',', default_values_t = Way::ALL)]
    ways: Vec<Way>,

    /// Image; repeatable, every kind of trouble once when not given
    #[arg(long = "image", value_name = "SPEC", default_values = IMAGES)]
    images: Vec<String>,

    /// Repetitions of each pull
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    reps: u16,

    /// Folder for compatibility.md and compatibility.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Print the result as one JSON document on stdout
    #[arg(long)]
    json: bool,

    /// Look for parapull-snapshotter and fake-registry here instead of beside this program
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

impl CompatibilityCommand {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let programs = self
            .programs
            .as_deref()
            .map_or_else(Programs::beside_this_one, Programs::in_directory);
        programs.snapshotter().context("failed to begin")?;
        let containerds = self
            .generations
            .iter()
            .map(|generation| generation.obtain())
            .collect::<Result<Vec<_>, _>>()
            .context("failed to begin")?;
        let workspace = Workspace::new(None).context("failed to begin")?;
        let machine = Machine::here(workspace.path());
        let mut cases = Vec::new();
        for image in &self.images {
            cases.extend(self.one(image, &programs, &containerds, &workspace)?);
        }
        // By containerd and way, as tables show them; images stay in their order.
        cases.sort_by_key(|case| self.place(case, &containerds));
        let result = Compatibility {
            schema: SCHEMA,
            command: command_line(),
            revision: report::revision(),
            build: report::build().into(),
            machine,
            cases,
        };
        write(&result, &self.out)?;
        if self.json {
            say(&format!("{}\n", serde_json::to_string_pretty(&result)?))?;
        } else {
            let text = markdown(&result);
            say(&format!("{text}\nwritten to {}\n", self.out.display()))?;
        }
        let troubled = result.cases.iter().filter(|case| !case.is_well()).count();
        if troubled > 0 {
            bail!(
                "{troubled} of {} cases are not as with overlayfs",
                result.cases.len()
            );
        }
        Ok(())
    }

    fn one(
        &self,
        image: &str,
        programs: &Programs,
        containerds: &[ObtainedContainerd],
        workspace: &Workspace,
    ) -> anyhow::Result<Vec<Case>> {
        let progress = Progress::new();
        let failed = || format!("failed to serve {image}");
        let folder = workspace.folder("image").with_context(failed)?;
        let stage = Stage::prepare(&StageOptions {
            image: prepare(image, programs, &folder).with_context(failed)?,
            registry: RegistryKind::Fake,
            profile: None,
            work: None,
            programs: programs.clone(),
            containerd: None,
        })
        .with_context(failed)?;
        let mut cases = Vec::new();
        for containerd in containerds {
            for way in Way::of(containerd.version) {
                if !self.ways.contains(&way) {
                    continue;
                }
                let name = format!("{image}, containerd {}, {way}", containerd.version);
                progress.say(&name);
                let reps = usize::from(self.reps);
                let case = Case::run(&stage, (image, HELLO_OUTPUT), containerd, way, reps);
                cases.push(case.with_context(|| format!("failed to judge {name}"))?);
            }
        }
        Ok(cases)
    }

    fn place(&self, case: &Case, containerds: &[ObtainedContainerd]) -> (usize, usize, usize) {
        let containerd = |one: &ObtainedContainerd| one.version.to_string() == case.containerd;
        (
            containerds.iter().position(containerd).unwrap_or_default(),
            Way::ALL
                .iter()
                .position(|way| way.name() == case.way)
                .unwrap_or_default(),
            self.images
                .iter()
                .position(|image| *image == case.image)
                .unwrap_or_default(),
        )
    }
}

fn write(result: &Compatibility, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("failed to make {}", to.display()))?;
    let json = serde_json::to_string_pretty(result)?;
    for (name, text) in [
        ("compatibility.json", format!("{json}\n")),
        ("compatibility.md", markdown(result)),
    ] {
        let path = to.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
