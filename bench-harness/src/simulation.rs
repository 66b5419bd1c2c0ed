//! What the simulator says of the pulls that are measured: same layers, same limits, a host made of the rates measured in
//! the same run.
//!
//! It only translates: which pull is which strategy, which rate is which part of a host. The prediction is
//! `parapull_sim`'s. Nothing is fitted to the pulls it is compared with.

use std::collections::BTreeMap;

use parapull_engine::Strategy;
use parapull_scenario::{
    Awaiting, Decoder, Encoding, Host, ImageSource, PlannedLayer, RegistryProfile, Scenario,
};
use parapull_sim::{Bound, Prediction, RunError, predict};
use serde::{Deserialize, Serialize};

use crate::layout::{LayerContents, Layout};
use crate::limits::Limits;
use crate::processes::Decompressor;
use crate::pulls::Subject;

/// One image on one machine, ready to be simulated in every way it is pulled.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    layers: Vec<PlannedLayer>,
    limits: Limits,
    host: Host,
    registry: RegistryProfile,
}

/// What the simulator was given and what it said, as reports carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// The machine as the simulator knows it, with our own decoder.
    pub host: Host,
    /// The registry.
    pub registry: RegistryProfile,
    /// One for each configuration.
    pub pulls: Vec<SimulatedPull>,
}

/// What the simulator says of one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulatedPull {
    /// The configuration's name, as runs carry it.
    pub name: String,
    /// The strategy that stands for it.
    pub strategy: Strategy,
    /// From the request to the unpacked image.
    pub seconds: f64,
    /// What no scheduler could beat under its limits.
    pub lower_bound_seconds: f64,
    /// What most of the time went to.
    pub bound_by: Bound,
}

impl Model {
    /// Describes the image of `layout` as crafted, and the machine by `limits`, which were measured with it.
    pub fn new(
        layout: &Layout,
        contents: &[LayerContents],
        limits: &Limits,
        registry: RegistryProfile,
    ) -> Self {
        let layers = planned(layout, contents);
        let host = host(&layers, limits, &registry);
        Self {
            layers,
            limits: limits.clone(),
            host,
            registry,
        }
    }

    /// Simulates the pull `subject` makes.
    ///
    /// # Errors
    /// When the simulator refuses the scenario or finds a promise broken.
    pub fn predict(&self, subject: &Subject) -> Result<Prediction, RunError> {
        predict(&self.scenario(subject))
    }

    /// Simulates every configuration; one that cannot be simulated is left out with a warning.
    pub fn simulate(&self, subjects: &[Subject]) -> Simulation {
        let simulated = |subject: &Subject| match self.predict(subject) {
            Ok(prediction) => Some(SimulatedPull {
                name: subject.to_string(),
                strategy: prediction.strategy,
                seconds: prediction.seconds,
                lower_bound_seconds: prediction.lower_bound_seconds,
                bound_by: prediction.bound_by,
            }),
            Err(error) => {
                tracing::warn!(%subject, %error, "cannot be simulated");
                None
            }
        };
        Simulation {
            host: self.host.clone(),
            registry: self.registry.clone(),
            pulls: subjects.iter().filter_map(simulated).collect(),
        }
    }

    /// The scenario of the pull `subject` makes.
    ///
    /// Limits are left to `auto`, which simulator and snapshotter resolve with the same function. Through CRI layers are
    /// asked for one by one.
    pub fn scenario(&self, subject: &Subject) -> Scenario {
        let strategy = match subject {
            Subject::Strategy(strategy) => *strategy,
            Subject::Containerd(_) => Strategy::Sequential,
            Subject::Multipart(_) => Strategy::Multipart,
            Subject::Parapull => Strategy::Streamed,
        };
        let host = match subject {
            Subject::Containerd(_) | Subject::Multipart(_) => Host {
                inflate_bytes_per_second: decoder_rate(
                    subject.decompressor(),
                    &self.limits,
                    self.host.inflate_bytes_per_second,
                ),
                ..self.host.clone()
            },
            Subject::Strategy(_) | Subject::Parapull => self.host.clone(),
        };
        let image = ImageSource::Layers(self.layers.clone());
        let mut scenario = Scenario::single(image, host, self.registry.clone(), strategy);
        scenario.name = subject.to_string();
        if subject.needs_containerd() {
            for pull in &mut scenario.pulls {
                pull.awaiting = Awaiting::BottomUp {
                    pause_us: PREPARE_PAUSE_US,
                };
            }
        }
        scenario
    }
}

impl Simulation {
    /// What was said of the configuration `name`.
    pub fn of(&self, name: &str) -> Option<&SimulatedPull> {
        self.pulls.iter().find(|pull| pull.name == name)
    }
}

/// The layers with the sizes they really have; equal blobs get one number.
fn planned(layout: &Layout, contents: &[LayerContents]) -> Vec<PlannedLayer> {
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    layout
        .layers
        .iter()
        .zip(contents)
        .map(|(layer, contents)| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            PlannedLayer {
                content: *numbers.entry(&layer.digest).or_insert(next),
                compressed_bytes: layer.compressed_bytes,
                uncompressed_bytes: contents.uncompressed_bytes,
                entries: contents.entries,
                encoding: contents.encoding,
                sources: 1,
            }
        })
        .collect()
}

/// The measured machine.
///
/// The disk is no limit: on a tmpfs there is none, and elsewhere an image of this size fits the page cache.
fn host(layers: &[PlannedLayer], limits: &Limits, registry: &RegistryProfile) -> Host {
    let auto = Host::default();
    let decoded = whole(
        limits.inflate_bytes_per_second,
        auto.inflate_bytes_per_second,
    );
    let is_zstd = layers.iter().any(|layer| layer.encoding == Encoding::Zstd);
    let link = limits
        .fetch_bytes_per_second
        .filter(|_| registry.connection_bytes_per_second.is_none());
    Host {
        name: "this machine".into(),
        cores: u32::try_from(limits.cores).unwrap_or(u32::MAX).max(1),
        inflate_bytes_per_second: decoded,
        zstd_bytes_per_second: if is_zstd {
            decoded
        } else {
            auto.zstd_bytes_per_second
        },
        sha256_bytes_per_second: whole(
            limits.sha256_bytes_per_second,
            auto.sha256_bytes_per_second,
        ),
        copy_bytes_per_second: whole(limits.write_bytes_per_second, auto.copy_bytes_per_second),
        file_create_ns: whole(1e9 / limits.files_per_second, auto.file_create_ns),
        // Over few connections the fetch rate shows the registry's cap on each, which the profile has already.
        link_bytes_per_second: link.map_or(auto.link_bytes_per_second, |rate| {
            whole(rate, auto.link_bytes_per_second)
        }),
        ..auto
    }
}

/// What containerd's decoder makes of these layers, in uncompressed bytes per second.
///
/// As measured where it is a program of its own. Otherwise as much slower than the nearest measured one as where both
/// were measured: Go's decoder is of zlib's kind, as unpigz is, and as far behind on data that hardly compresses.
fn decoder_rate(decompressor: Decompressor, limits: &Limits, ours: u64) -> u64 {
    let programs = &limits.program_inflate_bytes_per_second;
    let measured = |program: Decompressor| programs.get(program.name()).copied();
    if let Some(rate) = measured(decompressor) {
        return whole(rate, ours);
    }
    let (near, rate) = match measured(Decompressor::Unpigz) {
        Some(rate) => (Decoder::Unpigz, whole(rate, ours)),
        None => (Decoder::ZlibRs, ours),
    };
    let published = |decoder: Decoder| u128::from(decoder.inflate_bytes_per_second());
    let scaled = u128::from(rate) * published(decoder(decompressor)) / published(near);
    u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
}

const fn decoder(decompressor: Decompressor) -> Decoder {
    match decompressor {
        Decompressor::Go => Decoder::Go,
        Decompressor::Unpigz => Decoder::Unpigz,
        Decompressor::Igzip => Decoder::Igzip,
    }
}

/// A measured value, or `otherwise` where nothing was measured.
fn whole(measured: f64, otherwise: u64) -> u64 {
    if measured.is_finite() && measured >= 1.0 {
        measured as u64
    } else {
        otherwise
    }
}

/// From `Prepare`'s answer to the next `Prepare`: containerd stats the snapshot and writes its metadata between. Measured
/// with containerd 1.6.20 on tmpfs: staged layers follow each other every 5 ms, of which the link takes 2.
const PREPARE_PAUSE_US: u32 = 3_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn model(encoding: Encoding) -> Model {
        let layer = |digest: &str| crate::layout::LayoutLayer {
            digest: digest.into(),
            diff_id: digest.into(),
            compressed_bytes: 50_000_000,
            blob: "/blob".into(),
        };
        let layout = Layout {
            digest: "m".into(),
            layers: vec![layer("a"), layer("b"), layer("a")],
        };
        let contents = vec![
            LayerContents {
                entries: 10,
                uncompressed_bytes: 120_000_000,
                encoding,
                ..LayerContents::default()
            };
            3
        ];
        let limits = Limits {
            cores: 4,
            fetch_bytes_per_second: Some(2e9),
            sha256_bytes_per_second: 1.5e9,
            inflate_bytes_per_second: 600e6,
            write_bytes_per_second: 3e9,
            files_per_second: 50_000.0,
            ..Limits::default()
        };
        Model::new(&layout, &contents, &limits, RegistryProfile::default())
    }

    #[test]
    fn the_host_is_the_measured_one_and_equal_blobs_are_one() {
        let model = model(Encoding::Gzip);
        let host = &model.host;
        assert_eq!(
            (host.cores, host.inflate_bytes_per_second),
            (4, 600_000_000)
        );
        assert_eq!(host.link_bytes_per_second, 2_000_000_000);
        let contents: Vec<u32> = model.layers.iter().map(|layer| layer.content).collect();
        assert_eq!(contents, [0, 1, 0]);
    }

    #[test]
    fn a_slower_decoder_and_a_lazier_strategy_take_longer() {
        let model = model(Encoding::Gzip);
        let seconds = |name: &str| {
            let subject: Subject = name.parse().unwrap();
            model.predict(&subject).unwrap().seconds
        };
        assert!(seconds("streamed") < seconds("sequential"));
        assert!(seconds("containerd:unpigz") < seconds("containerd:go"));
        assert!(seconds("sequential") < seconds("containerd:unpigz"));
        assert!(seconds("streamed") <= seconds("parapull"));
    }

    #[test]
    fn a_peers_decoder_is_the_measured_one_or_scaled_from_the_nearest() {
        let mut limits = Limits::default();
        let rate = |limits: &Limits, decompressor| decoder_rate(decompressor, limits, 740_000_000);
        assert_eq!(rate(&limits, Decompressor::Go), 164_000_000);
        assert_eq!(rate(&limits, Decompressor::Igzip), 625_000_000);
        let programs = &mut limits.program_inflate_bytes_per_second;
        programs.insert("unpigz".into(), 143e6);
        assert_eq!(rate(&limits, Decompressor::Unpigz), 143_000_000);
        assert_eq!(rate(&limits, Decompressor::Go), 82_000_000);
    }

    #[test]
    fn a_decoder_no_blob_needs_changes_nothing() {
        let model = model(Encoding::Zstd);
        let go = model.scenario(&Subject::Containerd(Some(Decompressor::Go)));
        assert_eq!(go.host.zstd_bytes_per_second, 600_000_000);
        assert_eq!(go.host.inflate_bytes_per_second, 600_000_000 * 164 / 740);
        let simulation = model.simulate(&["streamed".parse().unwrap()]);
        assert!(simulation.of("streamed").is_some() && simulation.of("other").is_none());
    }
}
