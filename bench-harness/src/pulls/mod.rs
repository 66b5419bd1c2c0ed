//! One image pulled by different pullers under equal conditions.
//!
//! A [`Stage`] crafts and serves the image; a [`Subject`] names a puller; every pull starts from nothing, is measured and
//! its trees are read. Which pulls are made, and what their differences mean, is the commands' business.

mod by_command;
mod by_containerd;
mod clients;
mod error;
mod observe;
mod stage;
mod subject;
mod way;

pub use by_containerd::PulledByContainerd;
pub use error::{Logs, PullError};
pub use observe::Observed;
pub use stage::{RegistryKind, Stage, StageOptions};
pub use subject::Subject;
pub use way::{Fetcher, Way};

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
