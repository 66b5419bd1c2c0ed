//! From tar entries to OCI operations: what an entry of a layer means, and what a layer must not contain.
//!
//! The rules are containerd's `archive.Apply` where it accepts a layer, and the image specification's where it
//! refuses a legal one. How an operation is carried out is the sink's.

use super::bounds::{Bound, Bounds};
use super::error::{SinkError, UnpackError};
use super::lane::Controls;
use super::overlay::display;
use super::path::LayerPath;
use super::sharing::Sharing;
use super::sink::{Attributes, Node, Sink};
use super::stream::ByteStream;
use super::tar::{Entry, Limits, Reader};

/// Applies every entry of the archive and reads the stream to its end.
pub(super) fn apply(
    stream: &mut dyn ByteStream,
    sink: &mut dyn Sink,
    bounds: &Bounds,
    controls: Controls<'_>,
) -> Result<(), UnpackError> {
    let outcome = apply_all(stream, sink, bounds, controls);
    if matches!(outcome, Err(UnpackError::Cancelled)) {
        return outcome;
    }
    // Whatever ended the archive came after the entries that the sink had accepted.
    sink.settle()?;
    outcome
}

fn apply_all(
    stream: &mut dyn ByteStream,
    sink: &mut dyn Sink,
    bounds: &Bounds,
    controls: Controls<'_>,
) -> Result<(), UnpackError> {
    let limits = Limits {
        metadata_bytes_max: bounds.metadata_bytes_max,
        metadata_headers_max: bounds.metadata_headers_max,
        sparse_pieces_max: bounds.sparse_pieces_max,
    };
    let mut reader = Reader::new(stream, limits);
    let mut name = Vec::new();
    apply_entries(&mut reader, sink, bounds, controls, &mut name)
        .map_err(|error| error.at_entry(&name))?;
    // The diff id covers what stands behind the archive's end.
    loop {
        let rest = stream.available()?.len();
        if rest == 0 {
            return Ok(());
        }
        stream.consume(rest);
    }
}

/// Applies entry after entry; `name` is that of the last one read.
fn apply_entries(
    reader: &mut Reader<'_>,
    sink: &mut dyn Sink,
    bounds: &Bounds,
    controls: Controls<'_>,
    name: &mut Vec<u8>,
) -> Result<(), UnpackError> {
    let mut sharing = Sharing::new(controls);
    let mut entries = 0;
    let mut file_bytes: u64 = 0;
    while let Some(entry) = reader.next()? {
        name.clone_from(&entry.name);
        entries += 1;
        Bound::Entries.check(entries, bounds.entries_max)?;
        file_bytes = file_bytes.saturating_add(entry.file_bytes);
        Bound::FileBytes.check(file_bytes, bounds.uncompressed_bytes_max)?;
        apply_entry(reader, &entry, sink, bounds)?;
        controls.progress.add_entry();
        sharing.after_entry(reader.position(), |threads| sink.share(threads));
    }
    Ok(())
}

fn apply_entry(
    reader: &mut Reader<'_>,
    entry: &Entry,
    sink: &mut dyn Sink,
    bounds: &Bounds,
) -> Result<(), UnpackError> {
    // Entries that resolve to the root itself are ignored: its attributes are the snapshotter's.
    let Some(path) = LayerPath::clean(&entry.name) else {
        return Ok(());
    };
    check_name(&path, &entry.link, bounds)?;
    if is_aufs_metadata(&path) {
        return Ok(());
    }
    let (parent, leaf) = path.split();
    if leaf == OPAQUE_MARKER {
        sink.opaque(LayerPath::clean(parent).as_ref())?;
        return Ok(());
    }
    let judged = || attributes(entry, &path, bounds);
    if let Some(hidden) = leaf.strip_prefix(WHITEOUT_PREFIX) {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(bad(&path, "a whiteout of nothing, or of its own directory"));
        }
        sink.whiteout(&path.sibling(hidden), &judged()?)?;
        return Ok(());
    }
    match entry.typeflag {
        b'0' | b'7' | b'S' => {
            sink.file(&path, &judged()?, entry.file_bytes)?;
            reader.read_data(entry, |offset, bytes| Ok(sink.data(offset, bytes)?))?;
            sink.file_end()?;
        }
        b'1' => sink.hardlink(&path, &entry.link, &judged()?)?,
        b'2' => sink.symlink(&path, &entry.link, &judged()?)?,
        b'3' => {
            let (major, minor) = device(entry, &path)?;
            sink.node(&path, Node::Character { major, minor }, &judged()?)?;
        }
        b'4' => {
            let (major, minor) = device(entry, &path)?;
            sink.node(&path, Node::Block { major, minor }, &judged()?)?;
        }
        b'5' => sink.directory(&path, &judged()?)?,
        b'6' => sink.node(&path, Node::Fifo, &judged()?)?,
        typeflag => {
            let shown = char::from(typeflag).escape_default();
            return Err(bad(
                &path,
                format!("entries of type '{shown}' cannot be unpacked"),
            ));
        }
    }
    Ok(())
}

fn check_name(path: &LayerPath, link: &[u8], bounds: &Bounds) -> Result<(), UnpackError> {
    let longest = path.as_bytes().len().max(link.len());
    Bound::PathBytes.check(longest as u64, bounds.path_bytes_max)?;
    if path.as_bytes().contains(&0) || link.contains(&0) {
        return Err(bad(path, "the name or its target contains a zero byte"));
    }
    Ok(())
}

/// Names by which aufs keeps its own records (`.wh..wh.plnk`, `.wh..wh.aufs`, `.wh..wh.orph`) and what is below them.
///
/// Docker skips them; containerd shows them as files.
fn is_aufs_metadata(path: &LayerPath) -> bool {
    let (parent, leaf) = path.split();
    let is_metadata = |component: &[u8]| component.starts_with(AUFS_PREFIX);
    (is_metadata(leaf) && leaf != OPAQUE_MARKER)
        || parent.split(|byte| *byte == b'/').any(is_metadata)
}

fn attributes(entry: &Entry, path: &LayerPath, bounds: &Bounds) -> Result<Attributes, UnpackError> {
    let is_kept = |(name, _): &&(Vec<u8>, Vec<u8>)| !name.starts_with(b"trusted.");
    let xattrs: Vec<_> = entry.xattrs.iter().filter(is_kept).cloned().collect();
    let xattr_bytes: usize = xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    Bound::XattrBytes.check(xattr_bytes as u64, bounds.xattr_bytes_max)?;
    let accessed = entry
        .accessed
        .map_or(entry.modified, |accessed| accessed.max(entry.modified));
    Ok(Attributes {
        mode: (entry.mode & MODE_BITS) as u32,
        uid: owner(entry.uid, path)?,
        gid: owner(entry.gid, path)?,
        accessed: accessed.bounded(),
        modified: entry.modified.bounded(),
        xattrs,
    })
}

/// Owners outside 32 bits are refused, and so is the one that means "no change" to the kernel.
fn owner(id: i64, path: &LayerPath) -> Result<u32, UnpackError> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| bad(path, format!("owner or group {id} cannot be set")))
}

/// Device numbers that the kernel would cut, so that another device appears, are refused.
fn device(entry: &Entry, path: &LayerPath) -> Result<(u32, u32), UnpackError> {
    let number = |value: i64, max: u32| u32::try_from(value).ok().filter(|value| *value <= max);
    number(entry.major, MAJOR_MAX)
        .zip(number(entry.minor, MINOR_MAX))
        .ok_or_else(|| {
            bad(
                path,
                format!("device {}:{} cannot be made", entry.major, entry.minor),
            )
        })
}

fn bad(path: &LayerPath, reason: impl Into<String>) -> UnpackError {
    UnpackError::from(SinkError::BadEntry {
        path: display(path.as_bytes()),
        reason: reason.into(),
    })
}

/// OCI image specification, layer.md, "Whiteouts".
const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const MODE_BITS: i64 = 0o7777;
/// Bits that Linux has for device numbers: 12 and 20.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;
