//! Whether parapull does what containerd's own overlayfs does, for each containerd, way of pulling and image.
//!
//! One [`Case`] pulls one image in one way through one containerd, in turns with that containerd's own overlayfs, and
//! judges everything that is to be seen. Which cases there are, and where the result goes, is the command's business.

mod images;
mod markdown;

use serde::{Deserialize, Serialize};

pub use images::{IMAGES, prepare};
pub use markdown::markdown;

use crate::measure::{Machine, Summary, interleaved};
use crate::processes::ObtainedContainerd;
use crate::pulls::{PullError, Stage, Subject, Way};
use crate::tree::ImageTree;

/// Everything that was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compatibility {
    /// The version of this document.
    pub schema: u32,
    /// The command that made it.
    pub command: String,
    /// The revision that was built.
    pub revision: String,
    /// `debug` or `release`.
    pub build: String,
    /// Where it ran.
    pub machine: Machine,
    /// One for each containerd, way and image.
    pub cases: Vec<Case>,
}

/// One image pulled in one way through one containerd.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// containerd's version.
    pub containerd: String,
    /// The way, by its short name.
    pub way: String,
    /// The image.
    pub image: String,
    /// Who should have fetched the layers.
    pub fetcher_expected: String,
    /// Who did.
    pub fetcher: String,
    /// What is not as it should be, one line each; empty where all is well.
    pub problems: Vec<String>,
    /// Seconds of parapull's pulls.
    pub seconds: Vec<f64>,
    /// Seconds of the same containerd's own overlayfs, in turns with them.
    pub seconds_containerd: Vec<f64>,
}

impl Case {
    /// Whether trees, fetcher, container, second pull and removal were as they should be.
    pub const fn is_well(&self) -> bool {
        self.problems.is_empty()
    }

    /// The medians of parapull's and containerd's own seconds.
    pub fn medians(&self) -> Option<(f64, f64)> {
        let median = |samples: &[f64]| Summary::of(samples).map(|summary| summary.p50);
        Some((median(&self.seconds)?, median(&self.seconds_containerd)?))
    }

    /// Pulls the stage's image `reps` times on both, in turns, and judges.
    ///
    /// # Errors
    /// When a daemon does not start or containerd's own overlayfs cannot pull; what parapull cannot is a problem in the
    /// result.
    pub fn run(
        stage: &Stage,
        (image, expected_output): (&str, &str),
        containerd: &ObtainedContainerd,
        way: Way,
        reps: usize,
    ) -> Result<Self, PullError> {
        let mut case = Self {
            containerd: containerd.version.to_string(),
            way: way.to_string(),
            image: image.to_owned(),
            fetcher_expected: way.fetcher(containerd.version).to_string(),
            fetcher: String::new(),
            problems: Vec::new(),
            seconds: Vec::new(),
            seconds_containerd: Vec::new(),
        };
        let through = (containerd.program.as_path(), way);
        let mut trees = Trees::default();
        for turn in interleaved(2, reps) {
            if turn.configuration == 0 {
                let subject = Subject::Containerd(None);
                let pulled =
                    stage.pull_by_containerd(&subject, through, FOLDER, turn.repetition)?;
                let pulled = pulled.pulled();
                case.seconds_containerd.push(pulled.run.seconds);
                case.problems.extend(trees.theirs(pulled.tree));
            } else {
                match stage.pull_by_containerd(&Subject::Parapull, through, FOLDER, turn.repetition)
                {
                    Ok(pulled) => {
                        case.seconds.push(pulled.pulled.run.seconds);
                        if turn.repetition == 0 {
                            case.observe(&pulled, stage, expected_output);
                        }
                        case.problems.extend(trees.ours(pulled.pulled().tree));
                    }
                    Err(PullError::Process(error)) => return Err(error.into()),
                    Err(error) => case.problems.push(error.to_string()),
                }
            }
            stage.remove(FOLDER)?;
        }
        Ok(case)
    }

    fn observe(
        &mut self,
        pulled: &crate::pulls::PulledByContainerd,
        stage: &Stage,
        expected_output: &str,
    ) {
        let observed = match pulled.observe(stage) {
            Ok(observed) => observed,
            Err(error) => return self.problems.push(error.to_string()),
        };
        self.fetcher = observed.fetcher.to_string();
        if self.fetcher != self.fetcher_expected {
            let (found, expected) = (&self.fetcher, &self.fetcher_expected);
            self.problems
                .push(format!("{found} fetched, {expected} should have"));
        }
        if observed.output != expected_output {
            self.problems
                .push(format!("the container wrote {:?}", observed.output));
        }
        let second = observed.changed_by_second_pull.into_iter();
        let left = observed.left_behind.into_iter();
        self.problems
            .extend(second.map(|line| format!("after a second pull: {line}")));
        self.problems
            .extend(left.map(|line| format!("after removal: {line}")));
    }
}

/// The trees of both sides, whichever comes first.
#[derive(Default)]
struct Trees {
    theirs: Option<ImageTree>,
    ours: Option<ImageTree>,
}

impl Trees {
    fn theirs(&mut self, tree: ImageTree) -> Vec<String> {
        let found = self.ours.take().map(|ours| differences(&tree, &ours));
        self.theirs = Some(tree);
        found.unwrap_or_default()
    }

    fn ours(&mut self, tree: ImageTree) -> Vec<String> {
        let Some(theirs) = &self.theirs else {
            self.ours = Some(tree);
            return Vec::new();
        };
        differences(theirs, &tree)
    }
}

fn differences(theirs: &ImageTree, ours: &ImageTree) -> Vec<String> {
    let found = theirs.diff(ours);
    let shown = found.iter().take(DIFFERENCES_SHOWN);
    let mut lines: Vec<String> = shown.map(|one| format!("trees differ: {one}")).collect();
    if found.len() > DIFFERENCES_SHOWN {
        lines.push(format!("trees differ in {} places", found.len()));
    }
    lines
}

/// The version of [`Compatibility`] as a document.
pub const SCHEMA: u32 = 1;
/// Where in the workspace each pull happens.
const FOLDER: &str = "compatibility";
/// Enough to see the pattern; the rest repeats it.
const DIFFERENCES_SHOWN: usize = 10;
