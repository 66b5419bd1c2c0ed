//! Helpers first, then one module per family of cases.

#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "../unpack/archive.rs"]
pub mod archive;
pub mod command;
pub mod images;
pub mod served;
#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "../unpack/tree.rs"]
pub mod tree;

mod answers;
mod corruption;
mod directories;
mod disks;
mod hedges;
mod hostile;
mod hosts;
mod output;
mod signals;
mod strategies;
mod traces;
