//! The gRPC face: the snapshots service, and clients of containerd's own services and of CRI.
//!
//! Only this module names protobuf types. What a remote `Prepare` sets in motion is behind [`Remote`].

mod channel;
mod containerd;
mod content;
mod errors;
mod filters;
mod labels;
mod routes;
mod server;
mod snapshots;

pub use containerd::{Blob, Containerd, ContainerdError, ImageTarget, Lease, Prepared};
pub use content::{ContentBody, ContentClient, ContentError};
pub use errors::{RemoteError, RemoteErrorClass};
pub use filters::{Filter, FilterError, Filters};
pub use labels::{LabelError, RemoteRequest, layer_labels, namespace_of};
pub use routes::Routes;
pub use server::{BoundSocket, Listening, ServeError, serve};
pub use snapshots::{NoRemote, Remote, RemoteOutcome, RemotePrepare, SnapshotsService};

/// The largest message containerd sends or takes, in bytes (containerd, `defaults.DefaultMaxRecvMsgSize`).
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated from the vendored protos"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}
