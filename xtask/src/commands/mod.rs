//! One file per command.

mod check;
mod demo;
mod soak;
mod test;

pub(crate) use check::Check;
pub(crate) use demo::Demo;
pub(crate) use soak::Soak;
pub(crate) use test::Test;
