//! The daemon as a process: what it records, how it stops, what the next one finds.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/archive.rs"]
mod archive;
#[path = "serve/caller.rs"]
mod caller;
#[path = "conformance/containerd.rs"]
mod containerd;
#[path = "serve/daemon.rs"]
mod daemon;
#[expect(dead_code, reason = "shared with the tests of the command")]
#[path = "pull/images.rs"]
mod images;
#[path = "serve/local_blobs.rs"]
mod local_blobs;
#[path = "serve/overlay_keys.rs"]
mod overlay_keys;
#[path = "serve/recorded.rs"]
mod recorded;
#[path = "serve/registry.rs"]
mod registry;
#[path = "serve/restart.rs"]
mod restart;
#[path = "conformance/served.rs"]
mod served;
#[path = "serve/stopping.rs"]
mod stopping;
