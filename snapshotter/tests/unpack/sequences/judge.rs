//! One sequence of layers unpacked by both, compared layer by layer and as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use parapull_snapshotter::unpack::{Difference, FixError, Position, UnpackError};
use tempfile::TempDir;

use super::super::applier::Applier;
use super::super::lane::{Layer, at, place};
use super::super::machine::Mounted;
use super::super::tree::{Node, Tree};
use super::explain;
use super::generate::Plan;

/// What came of sequences.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Layers whose trees were compared.
    pub compared: u64,
    /// Layers that both refuse.
    pub refused: u64,
    /// Layers that were unpacked again over their parents.
    pub over_parents: u64,
    /// Chains whose merged view was compared.
    pub merged: u64,
    /// How many layers met each difference.
    pub met: BTreeMap<Difference, u64>,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.refused += other.refused;
        self.over_parents += other.over_parents;
        self.merged += other.merged;
        for (difference, layers) in &other.met {
            *self.met.entry(*difference).or_default() += layers;
        }
    }

    fn meet(&mut self, met: impl IntoIterator<Item = Difference>) {
        for difference in met {
            *self.met.entry(difference).or_default() += 1;
        }
    }
}

/// Unpacks the layers here at once and without parents, links them in order, and compares with containerd's.
///
/// # Errors
/// What differs and is no difference on purpose.
pub fn judge(applier: &Applier, plans: &[Plan]) -> Result<Outcome, String> {
    let tars: Vec<Vec<u8>> = plans.iter().map(Plan::tar).collect();
    let unpacked = unpack_at_once(&tars);
    let mut trial = Trial {
        applier,
        started_s: now_s() - 1,
        place: place(),
        ours: Vec::new(),
        theirs: Vec::new(),
        opaque_here: Vec::new(),
        differing: BTreeSet::new(),
        outcome: Outcome::default(),
    };
    for (index, (plan, ours)) in plans.iter().zip(unpacked).enumerate() {
        let layer = trial.layer(index, plan, &tars[index], ours);
        layer.map_err(|why| format!("layer {index}: {why}"))?;
    }
    trial.merged()?;
    Ok(trial.outcome)
}

fn unpack_at_once(tars: &[Vec<u8>]) -> Vec<Result<Layer, UnpackError>> {
    thread::scope(|scope| {
        let lanes: Vec<_> = tars
            .iter()
            .enumerate()
            .map(|(index, tar)| {
                let position = if index == 0 {
                    Position::Bottom
                } else {
                    Position::Upper
                };
                scope.spawn(move || at(tar, position))
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    })
}

/// A sequence under comparison.
struct Trial<'a> {
    applier: &'a Applier,
    started_s: i64,
    place: TempDir,
    /// Layers that both have made, the topmost first.
    ours: Vec<Layer>,
    theirs: Vec<PathBuf>,
    /// Directories that hide what is below here only.
    opaque_here: Vec<Vec<u8>>,
    /// Times that differ in the layers so far.
    differing: BTreeSet<explain::Times>,
    outcome: Outcome,
}

impl Trial<'_> {
    /// Compares one layer. One that is not made by both is as if it had never been.
    fn layer(
        &mut self,
        index: usize,
        plan: &Plan,
        tar: &[u8],
        ours: Result<Layer, UnpackError>,
    ) -> Result<(), String> {
        // The layers below it may have been dropped.
        let is_bottom = self.ours.is_empty();
        let ours = if is_bottom && index > 0 {
            at(tar, Position::Bottom)
        } else {
            ours
        };
        let root = self.place.path().join(index.to_string());
        let theirs = self.applier.apply(tar, &root, &self.theirs);
        let layer = match (ours, theirs) {
            (Ok(layer), Ok(())) => self.link(layer, tar)?,
            (Err(_), Err(_)) => {
                self.outcome.refused += 1;
                return Ok(());
            }
            (Ok(layer), Err(refusal)) => {
                let difference =
                    explain::their_refusal(plan, &layer.tree(), (&root, is_bottom), &refusal)
                        .ok_or_else(|| format!("accepted, containerd says: {refusal}"))?;
                self.outcome.meet([difference]);
                return Ok(());
            }
            (Err(error), Ok(())) => {
                let difference = explain::our_refusal(&error)
                    .ok_or_else(|| format!("refused with: {error}; containerd accepts it"))?;
                self.outcome.meet([difference]);
                return Ok(());
            }
        };
        let (our_tree, their_tree) = (layer.tree(), Tree::read(&root));
        let met = explain::trees(
            plan,
            &our_tree,
            &their_tree,
            self.started_s,
            &mut self.differing,
        )?;
        self.outcome.meet(met);
        if layer.staged.opaque_root {
            self.outcome.meet([Difference::OpaqueRoot]);
        }
        for (path, node) in &our_tree.0 {
            if node.is_opaque() && !their_tree.0.get(path).is_some_and(Node::is_opaque) {
                self.opaque_here.push(path.clone());
            }
        }
        self.outcome.compared += 1;
        self.ours.insert(0, layer);
        self.theirs.insert(0, root);
        Ok(())
    }

    /// Fixes a layer over its parents; unpacked over them at once it must be the same.
    fn link(&mut self, layer: Layer, tar: &[u8]) -> Result<Layer, String> {
        if self.ours.is_empty() {
            return Ok(layer);
        }
        let lowers: Vec<PathBuf> = self.ours.iter().map(Layer::root).collect();
        let over = at(tar, Position::Over(lowers.clone()))
            .map_err(|error| format!("over its parents it is refused with: {error}"))?;
        match layer.staged.fix_implied(&lowers) {
            Ok(()) => {}
            Err(FixError::NeedsParents { .. }) => {
                self.outcome.over_parents += 1;
                return Ok(over);
            }
            Err(error) => return Err(error.to_string()),
        }
        let (linked, over) = (layer.tree(), over.tree());
        if linked == over {
            return Ok(layer);
        }
        Err(format!(
            "linked\n{linked:?}\nbut over its parents\n{over:?}"
        ))
    }

    /// Compares what containers would see, down to the topmost layer whose root is opaque.
    fn merged(&mut self) -> Result<(), String> {
        let opaque = self.ours.iter().position(|layer| layer.staged.opaque_root);
        let height = opaque.map_or(self.ours.len(), |index| index + 1);
        if height < 2 {
            return Ok(());
        }
        let ours: Vec<PathBuf> = self.ours[..height].iter().map(Layer::root).collect();
        let view = |layers: &[PathBuf], name: &str| {
            let mounted = Mounted::overlay(layers, self.place.path().join(name))
                .map_err(|errno| format!("mount {name}: {errno}"))?;
            Ok::<_, String>(Tree::read(mounted.path()))
        };
        let ours = view(&ours, "our-view")?;
        let theirs = view(&self.theirs[..height], "their-view")?;
        let is_explained = |path: &[u8]| {
            self.opaque_here.iter().any(|directory| {
                path.strip_prefix(&directory[..])
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
        };
        let shown = |tree: &Tree| -> BTreeMap<Vec<u8>, Node> {
            let seen = tree.0.iter().filter(|(path, _)| !is_explained(path));
            let timeless = seen.map(|(path, node)| {
                // Times were compared layer by layer; hard links across hidden names cannot be.
                let node = Node {
                    mtime: (0, 0),
                    first: Vec::new(),
                    ..node.clone()
                };
                (path.clone(), node)
            });
            timeless.collect()
        };
        let (ours, theirs) = (Tree(shown(&ours)), Tree(shown(&theirs)));
        if ours != theirs {
            return Err(format!("merged here\n{ours:?}\nby containerd\n{theirs:?}"));
        }
        self.outcome.merged += 1;
        Ok(())
    }
}

fn now_s() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}
