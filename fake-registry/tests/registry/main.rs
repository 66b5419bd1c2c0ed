//! The registry over real sockets, first healthy, then with every fault.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod faults;
mod healthy;
mod support;
