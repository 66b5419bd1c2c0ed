//! The values both worlds exchange, as serde types and nothing else: image, host, registry profile, faults, limits, sizes, pull trace.

#![forbid(unsafe_code)]

mod size;
mod trace;

pub use size::{ByteSize, ByteSizeError};
pub use trace::{TraceHead, TraceLine};
