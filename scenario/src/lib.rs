//! The values both worlds exchange, as serde types and nothing else: image, host, registry profile, faults, limits, sizes, pull trace.

#![forbid(unsafe_code)]

pub mod image;
pub mod registry;
mod size;

pub use image::{ImageSpec, LayerShape, LayerSpec, MediaType};
pub use registry::{Fault, Faults, RegistryProfile};
pub use size::{ByteSize, ByteSizeError};
