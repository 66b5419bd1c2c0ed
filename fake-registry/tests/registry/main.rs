//! The registry over real sockets, first healthy, then with every fault.

mod faults;
mod healthy;
mod support;
