//! What a bench or a test starts, and stops for sure.
//!
//! Every process runs in a process group of its own with its output in a file below one [`Workspace`]; dropping the
//! value kills the group and reaps it, dropping the workspace unmounts and removes what is left. Nothing here retries a
//! pull or decides anything about one.

mod containerd;
mod containerd_config;
mod containerd_version;
pub mod debian;
mod decompressor;
mod docker_registry;
mod error;
mod fake_registry;
mod generation;
mod http;
pub mod interrupt;
mod mounts;
mod process;
mod programs;
mod snapshotter;
mod workspace;

pub use containerd::{Containerd, ContainerdOptions};
pub use containerd_config::{CriPull, ProxySnapshotter};
pub use containerd_version::ContainerdVersion;
pub use decompressor::Decompressor;
pub use docker_registry::DockerRegistry;
pub use error::ProcessError;
pub use fake_registry::{FakeRegistry, FakeRegistryOptions};
pub use generation::{Generation, ObtainedContainerd};
pub use http::{HttpError, Response as HttpResponse, get as http_get};
pub use mounts::{mounts_below, unmount_below};
pub use process::{Finished, Process, run};
pub use programs::{Programs, find_program};
pub use snapshotter::{Snapshotter, SnapshotterOptions};
pub use workspace::Workspace;
