//! When each layer of a pull was fetched, unpacked and linked: read from a pull trace, or taken from a prediction.
//!
//! Both come in the same form, so that a measured pull and a simulated one can be drawn under one axis.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use parapull_engine::{
    Action, BlobId, Event, Input, LayerId, OpId, Output, Place, Pull, PullStats,
};
use parapull_scenario::TraceLine;
use parapull_sim::Prediction;

/// A pull, layer by layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    /// Its layers, bottom first.
    pub layers: Vec<LayerTimes>,
    /// When the pull ended, in seconds from its request.
    pub seconds: f64,
    /// Requests and bytes, where the pull told them.
    pub stats: Option<PullStats>,
}

/// What happened to one layer, in seconds from the pull's request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerTimes {
    /// Compressed bytes.
    pub compressed_bytes: u64,
    /// From the first request to the last byte.
    pub fetch: Option<(f64, f64)>,
    /// From the lane's start to its end.
    pub unpack: Option<(f64, f64)>,
    /// From the order to link to its end.
    pub link: Option<(f64, f64)>,
}

/// Why a trace tells no timeline; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    /// The file cannot be read.
    #[error("read the trace {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is no trace line.
    #[error("understand line {line} of the trace {path}: {source}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// No pull is recorded in it.
    #[error("find a pull in the trace {path}", path = path.display())]
    NoPull {
        /// The file.
        path: PathBuf,
    },
}

impl Timeline {
    /// Reads the first pull recorded in the trace at `path`.
    ///
    /// # Errors
    /// [`TimelineError`].
    pub fn from_trace(path: &Path) -> Result<Self, TimelineError> {
        let failed = |source| TimelineError::File {
            path: path.into(),
            source,
        };
        let reader = BufReader::new(File::open(path).map_err(failed)?);
        let mut seen = Seen::default();
        for (number, line) in reader.lines().enumerate() {
            let line = line.map_err(failed)?;
            let line: TraceLine =
                serde_json::from_str(&line).map_err(|source| TimelineError::Line {
                    path: path.into(),
                    line: number + 1,
                    source,
                })?;
            seen.take(&line);
        }
        seen.timeline()
            .ok_or_else(|| TimelineError::NoPull { path: path.into() })
    }

    /// Reads the first pull of the only trace in `folder`; `None` where there is none.
    ///
    /// # Errors
    /// [`TimelineError`].
    pub fn from_folder(folder: &Path) -> Result<Option<Self>, TimelineError> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(TimelineError::File {
                    path: folder.into(),
                    source,
                });
            }
        };
        let traces = entries.flatten().map(|entry| entry.path());
        let trace = traces.into_iter().find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        });
        trace.map(|path| Self::from_trace(&path)).transpose()
    }

    /// The first pull of a prediction.
    pub fn of_prediction(prediction: &Prediction) -> Self {
        let Some(pull) = prediction.pulls.first() else {
            return Self::default();
        };
        let times = |layer: &parapull_sim::LayerPrediction| LayerTimes {
            compressed_bytes: layer.compressed_bytes,
            fetch: layer.fetch,
            unpack: layer.unpack,
            link: layer.link,
        };
        Self {
            layers: pull.layers.iter().map(times).collect(),
            seconds: prediction.seconds,
            stats: None,
        }
    }
}

/// A stretch of engine time in nanoseconds.
type Span = (u64, u64);

/// What was read of a trace so far.
#[derive(Debug, Default)]
struct Seen {
    /// Time of the input last read: what the engine says next, it says then.
    now: u64,
    pull: Option<(u64, Pull)>,
    /// What is under way.
    ops: BTreeMap<OpId, (u64, Work)>,
    fetches: BTreeMap<BlobId, Span>,
    unpacks: BTreeMap<LayerId, Span>,
    links: BTreeMap<u32, Span>,
    finished: Option<(u64, PullStats)>,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Fetch(BlobId),
    Unpack(LayerId),
    Link(Place),
}

impl Seen {
    fn take(&mut self, line: &TraceLine) {
        match line {
            TraceLine::Head(_) | TraceLine::Blob { .. } | TraceLine::Layer { .. } => {}
            TraceLine::Input { at, input } => {
                self.now = at.0;
                self.input(input);
            }
            TraceLine::Output { output } => self.output(output),
        }
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::PullRequested(pull) if self.pull.is_none() => {
                self.pull = Some((self.now, pull.clone()));
            }
            Input::RangeFetched { op }
            | Input::LaneFinished { op, .. }
            | Input::Linked { op }
            | Input::Cloned { op } => self.end(*op),
            Input::RangeFailed { op, .. }
            | Input::LaneFailed { op, .. }
            | Input::OpCancelled { op, .. } => drop(self.ops.remove(op)),
            _ => {}
        }
    }

    fn output(&mut self, output: &Output) {
        let (op, work) = match *output {
            Output::Action(Action::FetchRange { op, blob, .. }) => {
                self.fetches.entry(blob).or_insert((self.now, self.now));
                (op, Work::Fetch(blob))
            }
            Output::Action(Action::StartLane { op, layer, .. }) => (op, Work::Unpack(layer)),
            Output::Action(
                Action::LinkLayer { op, place, .. } | Action::CloneLayer { op, place, .. },
            ) => (op, Work::Link(place)),
            Output::Event(Event::PullFinished { image, stats, .. }) => {
                if self.is_ours(image) {
                    self.finished.get_or_insert((self.now, stats));
                }
                return;
            }
            _ => return,
        };
        self.ops.insert(op, (self.now, work));
    }

    fn end(&mut self, op: OpId) {
        let Some((began, work)) = self.ops.remove(&op) else {
            return;
        };
        let span = (began, self.now);
        match work {
            Work::Fetch(blob) => self.fetches.entry(blob).or_insert(span).1 = self.now,
            Work::Unpack(layer) => drop(self.unpacks.insert(layer, span)),
            Work::Link(place) if self.is_ours(place.image) => {
                self.links.entry(place.index).or_insert(span).1 = self.now;
            }
            Work::Link(_) => {}
        }
    }

    fn is_ours(&self, image: parapull_engine::ImageId) -> bool {
        self.pull
            .as_ref()
            .is_some_and(|(_, pull)| pull.image == image)
    }

    fn timeline(&self) -> Option<Timeline> {
        let (begin, pull) = self.pull.as_ref()?;
        let seconds = |at: u64| at.saturating_sub(*begin) as f64 / 1e9;
        let both = |span: &Span| (seconds(span.0), seconds(span.1));
        let layers = (0..).zip(&pull.layers).map(|(index, layer)| LayerTimes {
            compressed_bytes: layer.size,
            fetch: self.fetches.get(&layer.blob).map(both),
            unpack: self.unpacks.get(&layer.layer).map(both),
            link: self.links.get(&index).map(both),
        });
        Some(Timeline {
            layers: layers.collect(),
            seconds: seconds(self.finished.map_or(self.now, |(at, _)| at)),
            stats: self.finished.map(|(_, stats)| stats),
        })
    }
}
