//! The registry over real sockets, healthy and with every fault, and on other transports.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod elsewhere;
mod faults;
mod healthy;
mod support;
