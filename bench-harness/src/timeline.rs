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

#[cfg(test)]
mod tests {
    use parapull_engine::{
        ByteRange, ChainId, Destination, FetchMode, Have, HostId, ImageId, Instant, Outcome,
        PullLayer, SourceId, SpanId, Tree,
    };

    use super::*;

    fn input(at_ms: u64, input: Input) -> TraceLine {
        let at = Instant(at_ms * 1_000_000);
        TraceLine::Input { at, input }
    }

    fn action(action: Action) -> TraceLine {
        let output = Output::Action(action);
        TraceLine::Output { output }
    }

    fn fetch(op: u64, start: u64) -> TraceLine {
        action(Action::FetchRange {
            op: OpId(op),
            blob: BlobId(1),
            span: SpanId(0),
            range: ByteRange::new(start, start + 50),
            mode: FetchMode::Ranged,
            source: SourceId(0),
            attempt: 1,
            credit: 50,
            to: Destination::Window,
            hedge: false,
        })
    }

    fn lines() -> Vec<TraceLine> {
        let (image, layer) = (ImageId(3), LayerId(2));
        let place = Place { image, index: 0 };
        let pull = Pull {
            image,
            layers: vec![PullLayer {
                blob: BlobId(1),
                size: 100,
                layer,
                chain: ChainId(0),
                hosts: vec![HostId(0)],
                have: Have::Nothing,
            }],
            weight: 1,
        };
        let stats = PullStats {
            bytes_fetched: 100,
            ..PullStats::default()
        };
        vec![
            input(1_000, Input::PullRequested(pull)),
            fetch(1, 0),
            action(Action::StartLane {
                op: OpId(2),
                layer,
                blob: BlobId(1),
                threads: 1,
                over: None,
            }),
            input(1_100, Input::RangeFetched { op: OpId(1) }),
            fetch(3, 50),
            input(1_300, Input::RangeFetched { op: OpId(3) }),
            input(
                1_500,
                Input::LaneFinished {
                    op: OpId(2),
                    produced: 200,
                    entries: 1,
                },
            ),
            action(Action::LinkLayer {
                op: OpId(4),
                place,
                layer,
                tree: Tree::Original,
            }),
            input(1_600, Input::Linked { op: OpId(4) }),
            TraceLine::Output {
                output: Output::Event(Event::PullFinished {
                    image,
                    outcome: Outcome::Ready,
                    stats,
                }),
            },
        ]
    }

    #[test]
    fn a_trace_tells_when_each_layer_did_what() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Timeline::from_folder(folder.path()).unwrap().is_none());
        let text: String = lines()
            .iter()
            .map(|line| serde_json::to_string(line).unwrap() + "\n")
            .collect();
        std::fs::write(folder.path().join("1.jsonl"), text).unwrap();
        let timeline = Timeline::from_folder(folder.path()).unwrap().unwrap();
        let layer = timeline.layers[0];
        assert_eq!(layer.fetch, Some((0.0, 0.3)));
        assert_eq!(layer.unpack, Some((0.0, 0.5)));
        assert_eq!(layer.link, Some((0.5, 0.6)));
        assert_eq!((timeline.layers.len(), timeline.seconds), (1, 0.6));
        assert_eq!(timeline.stats.map(|stats| stats.bytes_fetched), Some(100));
    }

    #[test]
    fn a_trace_that_tells_nothing_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, "").unwrap();
        let error = Timeline::from_trace(&path).unwrap_err().to_string();
        assert!(error.contains("find a pull"), "{error}");
        std::fs::write(&path, "{}\n").unwrap();
        let error = Timeline::from_trace(&path).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
