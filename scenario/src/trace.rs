//! A recorded pull: what the engine was told and what it answered, in order.

use parapull_engine::{BlobId, Config, Input, Instant, LayerId, OpId, Output};
use serde::{Deserialize, Serialize};

/// One line of a trace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceLine {
    /// The first line.
    Head(TraceHead),
    /// The digest behind a blob id, before its first use.
    Blob {
        /// The id.
        id: BlobId,
        /// The compressed digest.
        digest: String,
    },
    /// The diffID behind a layer id, before its first use.
    Layer {
        /// The id.
        id: LayerId,
        /// The digest of the uncompressed tar.
        diff_id: String,
    },
    /// A fact, and when it was told.
    Input {
        /// Nanoseconds since the driver started.
        at: Instant,
        /// The fact.
        input: Input,
    },
    /// An answer to the last fact.
    Output {
        /// The answer.
        output: Output,
    },
}

/// What an engine must be made from to give the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceHead {
    /// Seed, limits, strategy, times.
    pub config: Config,
    /// The id of the first op.
    pub next_op: OpId,
}
