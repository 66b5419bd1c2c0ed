//! Real pulls side by side: private daemons, tree comparison, measurement, reports.
//!
//! The library starts and stops the processes a comparison needs ([`processes`]), asks them to pull ([`cri`], [`ctr`]),
//! proves that two results are the same tree ([`tree`]), measures ([`measure`], [`limits`], [`unpack`]), asks the
//! simulator for the same ([`simulation`]) and tells people ([`report`], [`compatibility`]). It makes no scheduling decision: every strategy is the engine's.

#![forbid(unsafe_code)]

pub mod compatibility;
pub mod cri;
pub mod ctr;
pub mod layout;
pub mod limits;
pub mod measure;
pub mod processes;
pub mod pulls;
pub mod report;
pub mod rpc_load;
pub mod simulation;
pub mod timeline;
pub mod tree;
pub mod unpack;
