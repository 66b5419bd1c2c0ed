//! The scheduler of parapull: it decides what to fetch, unpack and link, and never does any of it.
//!
//! # The law
//! Every input is followed by a complete drain of [`Engine::poll_output`] until it returns [`Output::Idle`], before the
//! next input. The engine never blocks, never reads a clock, draws no entropy it was not given, and does nothing by
//! itself: it says what to do and is told what happened.
//!
//! ```
//! use parapull_engine::{Config, Engine, Input, Instant, Output, Pull, Strategy, Timing};
//! # use parapull_engine::{Limits, RawLimits};
//! # let limits = Limits::try_from(RawLimits {
//! #     fetches_max: 8, fetches_per_image_max: 8, unpacks_max: 2, unpacks_per_image_max: 2,
//! #     chunk_bytes_max: 8 << 20, slice_bytes: 8 << 20, window_bytes_max: 64 << 20,
//! #     layer_window_bytes_max: 32 << 20, spool_bytes_max: 0, threads_max: 2, threads_per_lane_max: 2,
//! #     cores: 2, wide_threads_max: 0, wide_bytes_min: 0,
//! # }).unwrap();
//! let config = Config { seed: 1, limits, scheduling: Strategy::Streamed.scheduling(), timing: Timing::default(), hosts: Default::default(), hedging: Default::default() };
//! let mut engine = Engine::new(config, Instant::ZERO);
//! # let pull = Pull { image: parapull_engine::ImageId(0), layers: vec![], weight: 1 };
//! engine.handle_input(Instant::ZERO, Input::PullRequested(pull));
//! loop {
//!     match engine.poll_output() {
//!         Output::Action(action) => { /* start it; report its end as an input, later */ }
//!         Output::Event(event) => { /* answer whoever waits */ }
//!         Output::Idle { wake } => break, // sleep until an input comes or `wake` is reached
//!     }
//! }
//! ```
//!
//! # The objects
//! A *blob* is fetched in *chunks* (byte ranges of its *span*), a *layer* is unpacked once by a *lane* that reads its
//! blob in order, a *link* puts a layer into one image over its parent. Bytes flow on *credit*: what is fetched but not
//! released by a lane never exceeds the *window*.
//!
//! # Where to read on
//! [`Input`] and [`Output`] are the whole interface; `engine.rs` dispatches; `fetch.rs`, `lanes.rs`, `links.rs` decide;
//! `ending.rs` is how anything stops; `invariants.rs` says what must hold at every step.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[macro_use]
mod mutant;

mod allowance;
mod ascending;
mod blob;
mod budget;
mod callers;
mod chains;
mod changing;
mod config;
mod ending;
mod engine;
mod error;
mod fetch;
mod hedge;
mod host;
mod id;
mod image;
mod input;
mod invariants;
mod lanes;
mod layer;
mod limits;
mod links;
mod op;
mod ops;
mod output;
mod pace;
mod plan;
mod progress;
mod queue;
mod race;
mod ranks;
mod rate;
mod refetch;
mod retry;
mod rng;
mod room;
mod share;
mod sharing;
mod shutdown;
mod snapshot;
mod sorted;
mod sources;
mod starving;
mod table;
mod threads;
mod time;
mod timers;
mod trace;
mod widening;

pub use config::{
    Config, FetchOrder, HedgeRules, HostRules, Scheduling, Strategy, Timing, UnknownStrategy,
    UnpackOrder,
};
pub use engine::Engine;
pub use error::{Class, FetchError, LaneError, LayerError, LinkError};
pub use id::{BlobId, ByteRange, ChainId, HostId, ImageId, LayerId, OpId, SourceId, SpanId};
pub use input::{Have, Input, Pull, PullLayer, Waiting};
pub use limits::{Limits, LimitsError, RawLimits};
#[cfg(feature = "mutants")]
pub use mutant::{Mutant, plant};
pub use output::{Action, Destination, Event, FetchMode, Outcome, Output, Place, PullStats, Tree};
pub use queue::QueueWork;
pub use retry::{Verdict, request_verdict};
pub use snapshot::{BlobSnapshot, HoldReason, ImageSnapshot, LayerPhase, LayerSnapshot, Snapshot};
pub use time::{Instant, Timer, Wake};
pub use trace::TraceHash;
