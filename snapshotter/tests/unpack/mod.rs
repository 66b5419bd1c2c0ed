//! Helpers first, then one module per family of cases.

pub mod archive;
pub mod lane;
pub mod tree;

mod breakouts;
mod containerd;
mod decisions;
mod differential;
mod linking;
mod metadata;
mod names;
mod pipeline;
mod streams;
mod threads;
mod types;
mod whiteouts;
