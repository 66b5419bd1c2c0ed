//! The containerd proxy snapshotter that pulls whole images in parallel.
