//! The values both worlds exchange, as serde types: image, host, registry profile, faults, limits, sizes, pull trace.
//!
//! And [`replay`], which holds a recorded trace against the engine: both worlds are judged by it.

#![forbid(unsafe_code)]

mod host;
pub mod image;
mod limits;
mod mishaps;
mod pull;
pub mod registry;
mod replay;
mod size;
mod trace;

pub use host::{Decoder, HOSTS, Host, HostError};
pub use image::{ImageSpec, LayerShape, LayerSpec, MediaType};
pub use limits::{LimitsSpec, Setting, resolve_auto};
pub use mishaps::{
    Absence, Canary, Clog, ConnectionFault, ConnectionFaultKind, Delivery, Mishaps, Pause, Paused,
    Sleep,
};
pub use pull::{
    Awaiting, Cancel, Encoding, ImageSource, LimitChange, LocalBytes, LocalFault, LocalFaultKind,
    PlannedLayer, PullSpec, Scenario,
};
pub use registry::{Fault, Faults, RegistryProfile};
pub use replay::{ReplayError, Replayed, replay};
pub use size::{ByteSize, ByteSizeError};
pub use trace::{TraceHead, TraceLine};
