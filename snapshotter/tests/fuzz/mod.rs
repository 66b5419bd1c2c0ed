//! What the fuzz targets check, for inputs of any kind; `cargo test` replays the committed ones.
//!
//! The targets themselves are in `snapshotter/fuzz`. A check panics if something does not hold.

#[path = "../unpack/archive.rs"]
#[expect(
    dead_code,
    reason = "the fuzz targets build fewer kinds of members than the tests"
)]
mod archive;
#[path = "../unpack/tree.rs"]
#[expect(
    dead_code,
    reason = "trees are compared here as a whole, and looked into by the tests"
)]
mod tree;

mod blocks;
mod choices;
mod entries;
mod framing;
mod laboratory;
mod reference;
mod texts;

/// An archive byte for byte, but for the header checksums, which are made right; the first byte says how it is
/// unpacked. Says whether it was accepted.
pub fn tar_apply(data: &[u8]) -> bool {
    let Some((how, tar)) = split(data) else {
        return false;
    };
    laboratory::check(&blocks::with_checksums(tar), laboratory::How::of(how))
}

/// An archive whose members are chosen by the bytes, so that nearly every input is a layer.
pub fn tar_entries(data: &[u8]) -> bool {
    let Some((how, choices)) = split(data) else {
        return false;
    };
    let members = laboratory::with(|laboratory| entries::members(choices, &laboratory.outside()));
    laboratory::check(&archive::archive(members), laboratory::How::of(how))
}

/// A compressed stream, in slices of all sizes.
pub fn stream_framing(data: &[u8]) -> bool {
    framing::check(data)
}

/// Everything that is parsed from somebody else's text.
pub fn texts(data: &[u8]) -> bool {
    texts::check(data)
}

/// The first byte and the rest, unless there is too much for one input to be quick.
fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    let (how, rest) = data.split_first()?;
    (rest.len() <= ARCHIVE_BYTES_MAX).then_some((*how, rest))
}

const ARCHIVE_BYTES_MAX: usize = 128 << 10;
