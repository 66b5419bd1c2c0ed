//! The hand-written layers of the preset `metadata`: tar entries that real images have seldom and unpackers get wrong.
//!
//! Only entries on which the overlayfs snapshotter of containerd 1.6 and parapull agree. Left out are: a whiteout of what
//! the same layer brings, a whiteout before a directory of that name, a directory replaced by a file within one layer,
//! whiteouts of what does not exist, global PAX headers, sparse files, device 0:0, numbers beyond 32 bits, times before
//! 1970 and opaque roots.

mod entry;
mod overrides;
mod repeats;
mod types;

use std::io::{self, Write};

use parapull_scenario::image::OddEntries;

use super::layer::EntryCounts;
use entry::OddTar;

/// Appends the entries of one odd layer.
pub(super) fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    odd_entries: OddEntries,
) -> io::Result<EntryCounts> {
    let mut tar = OddTar::new(builder);
    match odd_entries {
        OddEntries::Types => types::append(&mut tar)?,
        OddEntries::Overrides => overrides::append(&mut tar)?,
        OddEntries::Repeats => repeats::append(&mut tar)?,
    }
    Ok(tar.counts())
}
