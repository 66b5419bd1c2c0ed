//! Layers against the rules by which containerd and the image specification unpack them.
//!
//! Each test makes a small archive byte by byte, unpacks it and looks at the tree. Devices, owners and trusted
//! attributes need root: without it the tests say so and pass, unless `PARAPULL_REQUIRE_ALL=1`.

#[expect(unreachable_pub, reason = "helpers of one test binary")]
mod unpack;
