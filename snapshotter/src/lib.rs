//! The containerd proxy snapshotter that pulls whole images in parallel.
//!
//! Every scheduling decision is the engine's; this crate has the effects: sockets, threads, files and gRPC.

pub mod client;
pub mod config;
pub mod digest;
pub mod driver;
pub mod grpc;
pub mod image;
pub mod index;
pub mod inflate;
mod kill_points;
pub mod registry;
pub mod remote;
pub mod spool;
pub mod store;
pub mod tree;
pub mod unpack;
pub mod window;
