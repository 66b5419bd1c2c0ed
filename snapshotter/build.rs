//! Generates the gRPC types from the vendored protos with `protox`, so that no `protoc` is needed.

use std::error::Error;

const PROTOS: [&str; 5] = [
    "github.com/containerd/containerd/api/services/snapshots/v1/snapshots.proto",
    "github.com/containerd/containerd/api/services/content/v1/content.proto",
    "github.com/containerd/containerd/api/services/images/v1/images.proto",
    "github.com/containerd/containerd/api/services/leases/v1/leases.proto",
    "runtime/v1/api.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // Without source information, and so without the protos' comments, which rustdoc would take for tests.
    let descriptors = protox::Compiler::new(["proto"])?
        .include_imports(true)
        .open_files(PROTOS)?
        .file_descriptor_set();
    tonic_prost_build::configure()
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
