//! A scenario with ids: which blobs, layers and images there are, and whether it can be simulated at all.

use std::collections::BTreeMap;

use parapull_engine::{BlobId, ChainId, Config, ImageId, LayerId, Limits, LimitsError, Place};
use parapull_scenario::registry::{FaultTarget, RangeSupport};
use parapull_scenario::{ImageSource, PlannedLayer, Scenario};

/// A scenario that cannot be run as it stands.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScenarioError {
    /// Nothing is pulled.
    #[error("the scenario pulls nothing: give it at least one entry under \"pulls\"")]
    NoPulls,
    /// A rate or count of the host is 0.
    #[error("the host's {0} is 0: it must be at least 1")]
    Host(&'static str),
    /// The limits contradict each other.
    #[error("the limits cannot work: {0}")]
    Limits(LimitsError),
    /// Two layers have one number and different sizes.
    #[error("layers numbered {content} differ in size: one number is one blob")]
    Content {
        /// The number.
        content: u32,
    },
    /// A list of layers is empty, or says more of them are linked than there are.
    #[error("pull {pull}: {reason}")]
    Pull {
        /// Index of the pull.
        pull: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something the model has no notion of, which it refuses rather than ignores.
    #[error("the simulator does not model {0}")]
    NotModelled(&'static str),
}

/// A scenario with ids.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) limit_changes: Vec<Limits>,
    /// By `BlobId`.
    pub(crate) blobs: Vec<PlannedLayer>,
    /// By `LayerId`: its blob.
    pub(crate) layers: Vec<BlobId>,
    /// By `ImageId`.
    pub(crate) pulls: Vec<Vec<LayerId>>,
    /// By `ImageId`: the chain each of its layers ends.
    pub(crate) chains: Vec<Vec<ChainId>>,
}

impl Plan {
    pub(crate) fn new(scenario: &Scenario) -> Result<Self, ScenarioError> {
        check(scenario)?;
        let limits = |spec: &parapull_scenario::LimitsSpec| {
            Limits::try_from(spec.resolve(scenario.host.cores, scenario.strategy))
                .map_err(ScenarioError::Limits)
        };
        let mut plan = Self {
            config: Config {
                seed: scenario.seed,
                limits: limits(&scenario.limits)?,
                scheduling: scenario.strategy.scheduling(),
                timing: scenario.timing.unwrap_or_default(),
                hosts: scenario.hosts.unwrap_or_default(),
                hedging: scenario.hedging.unwrap_or_default(),
            },
            limit_changes: Vec::new(),
            blobs: Vec::new(),
            layers: Vec::new(),
            pulls: Vec::new(),
            chains: Vec::new(),
        };
        for change in &scenario.limit_changes {
            plan.limit_changes.push(limits(&change.limits)?);
        }
        plan.number(scenario)?;
        plan.chain();
        Ok(plan)
    }

    /// Numbers chains by the layers they are made of.
    fn chain(&mut self) {
        let mut numbers: BTreeMap<&[LayerId], ChainId> = BTreeMap::new();
        for layers in &self.pulls {
            let chains = (1..=layers.len()).map(|count| {
                let next = ChainId(small(numbers.len()));
                *numbers.entry(&layers[..count]).or_insert(next)
            });
            self.chains.push(chains.collect());
        }
    }

    pub(crate) fn chain_of(&self, place: Place) -> ChainId {
        self.chains[place.image.0 as usize][place.index as usize]
    }

    /// Numbers blobs by content and layers by blob and whether they are the bottom of their image.
    fn number(&mut self, scenario: &Scenario) -> Result<(), ScenarioError> {
        let mut blobs: BTreeMap<(usize, u32), BlobId> = BTreeMap::new();
        let mut layers: BTreeMap<(BlobId, bool), LayerId> = BTreeMap::new();
        for (pull, spec) in scenario.pulls.iter().enumerate() {
            let space = content_space(scenario, pull);
            let mut image = Vec::new();
            let planned = spec.image.layers();
            if planned.is_empty() {
                let reason = "its image has no layers";
                return Err(ScenarioError::Pull { pull, reason });
            }
            if spec.linked as usize > planned.len() {
                let reason = "more layers are linked than there are";
                return Err(ScenarioError::Pull { pull, reason });
            }
            for (index, layer) in planned.iter().enumerate() {
                let next = BlobId(small(self.blobs.len()));
                let blob = *blobs.entry((space, layer.content)).or_insert(next);
                match self.blobs.get(blob.0 as usize) {
                    None => self.blobs.push(*layer),
                    Some(known) if known == layer => {}
                    Some(_) => {
                        let content = layer.content;
                        return Err(ScenarioError::Content { content });
                    }
                }
                let next = LayerId(small(self.layers.len()));
                let id = *layers.entry((blob, index == 0)).or_insert(next);
                if id == next {
                    self.layers.push(blob);
                }
                image.push(id);
            }
            self.pulls.push(image);
        }
        Ok(())
    }

    pub(crate) fn blob(&self, id: BlobId) -> &PlannedLayer {
        &self.blobs[id.0 as usize]
    }

    pub(crate) fn blob_of(&self, id: LayerId) -> BlobId {
        self.layers[id.0 as usize]
    }

    pub(crate) fn layer(&self, id: LayerId) -> &PlannedLayer {
        self.blob(self.blob_of(id))
    }

    /// The index of a layer in the first image that has it.
    pub(crate) fn index_of(&self, id: LayerId) -> u32 {
        let index = self
            .pulls
            .iter()
            .find_map(|layers| layers.iter().position(|layer| *layer == id));
        index.map_or(0, small)
    }

    /// The index of a blob's first layer in the first image that has it.
    pub(crate) fn index_of_blob(&self, id: BlobId) -> u32 {
        let layer = self.layers.iter().position(|blob| *blob == id);
        layer.map_or(0, |layer| self.index_of(LayerId(small(layer))))
    }

    /// Whether a blob is at that index of any image.
    pub(crate) fn is_at(&self, blob: BlobId, index: u32) -> bool {
        self.pulls.iter().any(|layers| {
            layers
                .get(index as usize)
                .is_some_and(|layer| self.blob_of(*layer) == blob)
        })
    }

    /// Pieces in which all blobs together are fetched and unpacked, at most.
    pub(crate) fn portions(&self) -> u64 {
        let piece = self.config.limits.piece_bytes_max().clamp(1, 1 << 20);
        let layers = self.pulls.iter().flatten();
        layers
            .map(|layer| self.layer(*layer).compressed_bytes / piece + 1)
            .sum()
    }

    /// Pieces in which all blobs together are asked for, at most, whatever limits come.
    pub(crate) fn portions_least(&self) -> u64 {
        let limits = std::iter::once(&self.config.limits).chain(&self.limit_changes);
        let least = limits.map(|limits| {
            let raw = limits.raw();
            let chunk = if raw.chunk_bytes_max == 0 {
                u64::MAX
            } else {
                raw.chunk_bytes_max
            };
            chunk.min(raw.slice_bytes)
        });
        let least = least.min().unwrap_or(1).max(1);
        let layers = self.pulls.iter().flatten();
        layers
            .map(|layer| self.layer(*layer).compressed_bytes / least + 1)
            .sum()
    }

    /// The image of a pull.
    pub(crate) fn image(pull: usize) -> ImageId {
        ImageId(small(pull))
    }
}

/// Images given by their layers share one space of numbers; each craft file has its own, equal ones the same.
fn content_space(scenario: &Scenario, pull: usize) -> usize {
    let image = &scenario.pulls[pull].image;
    match image {
        ImageSource::Layers(_) => usize::MAX,
        ImageSource::Spec(_) => scenario
            .pulls
            .iter()
            .position(|other| other.image == *image)
            .unwrap_or(pull),
    }
}

fn check(scenario: &Scenario) -> Result<(), ScenarioError> {
    if scenario.pulls.is_empty() {
        return Err(ScenarioError::NoPulls);
    }
    if let Some(field) = scenario.host.zero_field() {
        return Err(ScenarioError::Host(field));
    }
    if matches!(scenario.registry.ranges, RangeSupport::ShortenedTo { .. }) {
        return Err(ScenarioError::NotModelled(
            "a registry that shortens ranges",
        ));
    }
    for fault in &scenario.faults.faults {
        match fault.target {
            FaultTarget::Layer(_) | FaultTarget::AnyLayer => {}
            FaultTarget::Digest(_) => {
                return Err(ScenarioError::NotModelled(
                    "faults of a digest: it has none",
                ));
            }
            FaultTarget::Config
            | FaultTarget::Manifest
            | FaultTarget::Token
            | FaultTarget::Ping => {
                return Err(ScenarioError::NotModelled(
                    "faults of requests other than for layers",
                ));
            }
        }
    }
    Ok(())
}

fn small(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
