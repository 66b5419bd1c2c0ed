//! A registry as a value: how fast it answers, what it supports, and what goes wrong.
//!
//! Read by `fake-registry`, which behaves so, and by the simulator, which models it. It opens no socket.

mod fault;
mod profile;

pub use fault::{Fault, FaultKind, FaultTarget, FaultTimes, Faults};
pub use profile::{Auth, PROFILES, ProfileError, RangeSupport, Redirect, RegistryProfile};
