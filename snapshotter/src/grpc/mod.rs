//! The gRPC face: the snapshots service, and clients of containerd's content store and of CRI.

#[expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated from the vendored protos"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}
