//! One image pulled by different pullers under equal conditions.
//!
//! A [`Stage`] crafts and serves the image; a [`Subject`] names a puller; every pull starts from nothing, is measured and
//! its trees are read. Which pulls are made, and what their differences mean, is the commands' business.

mod by_command;
mod by_cri;
mod error;
mod stage;
mod subject;

pub use by_cri::PulledByCri;
pub use error::PullError;
pub use stage::{RegistryKind, Stage, StageOptions};
pub use subject::Subject;

use crate::report::Run;
use crate::timeline::Timeline;
use crate::tree::ImageTree;

/// A finished pull: its figures and what it made.
#[derive(Debug)]
pub struct Pulled {
    /// The figures.
    pub run: Run,
    /// The trees.
    pub tree: ImageTree,
    /// When its layers did what, where the puller recorded it.
    pub timeline: Option<Timeline>,
}
