//! Helpers first, then one module per family of cases.

pub mod applier;
pub mod archive;
pub mod lane;
pub mod tree;

mod audit;
mod breakouts;
mod containerd;
mod damage;
mod decisions;
mod differential;
mod limits;
mod linking;
mod machine;
mod metadata;
mod names;
mod pipeline;
mod sequences;
mod streams;
mod syscalls;
mod threads;
mod types;
mod whiteouts;
mod writers;
