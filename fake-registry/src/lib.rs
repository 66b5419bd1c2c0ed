//! An OCI registry with ranges, throttles and faults, and a deterministic image crafter.

#![forbid(unsafe_code)]

mod craft;
mod layout;

pub use craft::{
    CraftError, CraftedImage, CraftedLayer, Crafter, HELLO_OUTPUT, cache_dir_default, craft,
    hello_elf,
};
pub use layout::{Contents, Document, LayoutError, OciLayout};
