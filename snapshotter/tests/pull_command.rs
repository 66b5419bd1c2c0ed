//! `parapull-snapshotter pull` against the project's registry, in health and in every kind of trouble.
//!
//! What is judged is what a user can see: the exit code, standard output and error, the directory, and what the registry
//! was asked for. Trees are made on memory file systems where there is one.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

mod pull;
