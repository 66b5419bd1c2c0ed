//! Layers against the rules by which containerd and the image specification unpack them.
//!
//! Each test makes a small archive byte by byte, unpacks it and looks at the tree. Devices, owners and trusted
//! attributes need root: without it the tests say so and pass, unless `PARAPULL_REQUIRE_ALL=1`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

mod unpack;
