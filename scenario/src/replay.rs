//! A recorded trace, told to a fresh engine: it must answer what was recorded, byte for byte.

use std::collections::BTreeSet;
use std::io::BufRead;

use parapull_engine::{BlobId, Engine, Event, Input, Instant, LayerId, OpId, Output, Pull};

use crate::trace::TraceLine;

/// What a trace held that replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Facts.
    pub inputs: u64,
    /// Answers, the idle ones included.
    pub outputs: u64,
    /// Pulls that were asked for.
    pub pulls: u64,
    /// Pulls that ended.
    pub ended: u64,
    /// The most pulls under way at once.
    pub pulls_at_once: u64,
    /// Whether nothing was under way at its end; else the trace was cut off.
    pub is_idle: bool,
}

/// Why a trace does not replay. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("line {line} cannot be read: {source}")]
    Read {
        /// The line.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// A line is none of a trace of this version.
    #[error("line {line} is no line of a trace: {source}")]
    Parse {
        /// The line.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// It does not begin with its head, or has a second one.
    #[error("line {line}: a trace begins with its head, and has one")]
    Head {
        /// The line.
        line: u64,
    },
    /// The first op has another number.
    #[error("the trace's first op is {recorded:?}, a fresh engine's is {fresh:?}")]
    FirstOp {
        /// In the head.
        recorded: OpId,
        /// Of a fresh engine.
        fresh: OpId,
    },
    /// A fact comes before the answers to the one before were all taken.
    #[error("line {line}: a fact comes before the last answer to the one before")]
    NotDrained {
        /// The line.
        line: u64,
    },
    /// A blob or layer is used before its digest was told.
    #[error("line {line}: a blob or layer is used before its digest was told")]
    Unnamed {
        /// The line.
        line: u64,
    },
    /// The engine answers something else.
    #[error("line {line}: recorded was {recorded}, the engine says {said}")]
    Differs {
        /// The line.
        line: u64,
        /// As it stands in the trace.
        recorded: String,
        /// As the engine answers, written the same way.
        said: String,
    },
}

/// Tells a recorded trace to a fresh engine and compares every answer; checks the engine's invariants after each fact.
///
/// # Errors
/// When the text is no trace, or at the first answer that differs.
///
/// # Panics
/// When the trace leads the engine to break an invariant.
pub fn replay(trace: impl BufRead) -> Result<Replayed, ReplayError> {
    let mut replay: Option<Replay> = None;
    for (line, text) in (1..).zip(trace.lines()) {
        let text = text.map_err(|source| ReplayError::Read { line, source })?;
        let parsed: TraceLine =
            serde_json::from_str(&text).map_err(|source| ReplayError::Parse { line, source })?;
        match (&mut replay, parsed) {
            (None, TraceLine::Head(head)) => {
                let engine = Engine::new(head.config, Instant::ZERO);
                if engine.next_op() != head.next_op {
                    return Err(ReplayError::FirstOp {
                        recorded: head.next_op,
                        fresh: engine.next_op(),
                    });
                }
                replay = Some(Replay::new(engine));
            }
            (Some(replay), parsed) => replay.tell(line, &text, parsed)?,
            (None, _) => return Err(ReplayError::Head { line }),
        }
    }
    let mut replay = replay.ok_or(ReplayError::Head { line: 1 })?;
    replay.seen.is_idle = replay.is_drained && replay.engine.is_idle();
    Ok(replay.seen)
}

/// A replay under way.
struct Replay {
    engine: Engine,
    blobs: BTreeSet<BlobId>,
    layers: BTreeSet<LayerId>,
    is_drained: bool,
    seen: Replayed,
}

impl Replay {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            blobs: BTreeSet::new(),
            layers: BTreeSet::new(),
            is_drained: true,
            seen: Replayed::default(),
        }
    }

    fn tell(&mut self, line: u64, text: &str, parsed: TraceLine) -> Result<(), ReplayError> {
        match parsed {
            TraceLine::Head(_) => return Err(ReplayError::Head { line }),
            TraceLine::Blob { id, .. } => drop(self.blobs.insert(id)),
            TraceLine::Layer { id, .. } => drop(self.layers.insert(id)),
            TraceLine::Input { at, input } => {
                if !self.is_drained {
                    return Err(ReplayError::NotDrained { line });
                }
                if let Input::PullRequested(pull) = &input {
                    self.ask(line, pull)?;
                }
                self.seen.inputs += 1;
                self.is_drained = false;
                self.engine.handle_input(at, input);
            }
            TraceLine::Output { .. } => self.compare(line, text)?,
        }
        Ok(())
    }

    fn ask(&mut self, line: u64, pull: &Pull) -> Result<(), ReplayError> {
        let named = pull
            .layers
            .iter()
            .all(|layer| self.blobs.contains(&layer.blob) && self.layers.contains(&layer.layer));
        if !named {
            return Err(ReplayError::Unnamed { line });
        }
        self.seen.pulls += 1;
        let at_once = self.seen.pulls - self.seen.ended;
        self.seen.pulls_at_once = self.seen.pulls_at_once.max(at_once);
        Ok(())
    }

    fn compare(&mut self, line: u64, recorded: &str) -> Result<(), ReplayError> {
        let output = self.engine.poll_output();
        let said = TraceLine::Output {
            output: output.clone(),
        };
        let said =
            serde_json::to_string(&said).map_err(|source| ReplayError::Parse { line, source })?;
        if said != recorded {
            return Err(ReplayError::Differs {
                line,
                recorded: recorded.to_owned(),
                said,
            });
        }
        self.seen.outputs += 1;
        match output {
            Output::Idle { .. } => {
                self.is_drained = true;
                self.engine.check_invariants();
            }
            Output::Event(Event::PullFinished { .. }) => self.seen.ended += 1,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parapull_engine::{Config, HedgeRules, HostRules, Limits, Strategy, Timing};

    use crate::trace::TraceHead;

    /// A trace of one request, recorded from an engine.
    fn recorded() -> Vec<String> {
        let limits = Limits::try_from(crate::resolve_auto(2, Strategy::Streamed)).unwrap();
        let config = Config {
            seed: 1,
            limits,
            scheduling: Strategy::Streamed.scheduling(),
            timing: Timing::default(),
            hosts: HostRules::default(),
            hedging: HedgeRules::default(),
        };
        let mut engine = Engine::new(config, Instant::ZERO);
        let head = TraceHead {
            config,
            next_op: engine.next_op(),
        };
        let digest = "sha256:00".to_owned();
        let id = BlobId(0);
        let mut lines = vec![
            TraceLine::Head(head),
            TraceLine::Blob {
                id,
                digest: digest.clone(),
            },
            TraceLine::Layer {
                id: LayerId(0),
                diff_id: digest,
            },
        ];
        let input = Input::ShutdownRequested;
        let at = Instant(5);
        lines.push(TraceLine::Input {
            at,
            input: input.clone(),
        });
        engine.handle_input(at, input);
        let output = engine.poll_output();
        lines.push(TraceLine::Output { output });
        let lines = lines
            .iter()
            .map(|line| serde_json::to_string(line).unwrap());
        lines.collect()
    }

    fn of(lines: &[String]) -> Result<Replayed, ReplayError> {
        replay(lines.join("\n").as_bytes())
    }

    #[test]
    fn what_was_recorded_replays() {
        let replayed = of(&recorded()).unwrap();
        assert_eq!((replayed.inputs, replayed.outputs), (1, 1));
        assert!(replayed.is_idle);
    }

    #[test]
    fn what_was_changed_is_told_with_its_line() {
        let lines = recorded();
        let mut other = lines.clone();
        other[4] = other[4].replace("null", r#"{"at":9,"why":"StallCheck"}"#);
        let error = of(&other).unwrap_err().to_string();
        assert!(error.starts_with("line 5: recorded was"), "{error}");
        for (lines, said) in [
            (lines[1..].to_vec(), "line 1: a trace begins"),
            ([&lines[..], &lines[..1]].concat(), "line 6: a trace begins"),
            (
                [&lines[..4], &lines[3..]].concat(),
                "line 5: a fact comes before",
            ),
            (vec![lines[0].clone(), "{}".to_owned()], "line 2 is no line"),
        ] {
            let error = of(&lines).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
