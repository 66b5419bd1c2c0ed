//! Tar entries field by field, without a path being cleaned or a name being understood on the way.

use std::io::{self, Write};

use tar::EntryType;

use crate::craft::layer::{EntryCounts, MTIME_SECONDS, entry_header};

/// Bytes of a name or link target that a header itself can hold.
const HEADER_NAME_BYTES: usize = 100;

/// One entry; start from a constructor and change fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odd<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
    pub(super) mtime_seconds: u64,
    pub(super) target: &'a [u8],
    pub(super) device: (u32, u32),
    pub(super) pax: &'a [(&'a str, &'a [u8])],
    pub(super) data: &'a [u8],
}

impl<'a> Odd<'a> {
    pub(super) fn file(name: &'a str, data: &'a [u8]) -> Self {
        Self {
            name: name.as_bytes(),
            kind: EntryType::Regular,
            mode: 0o644,
            owner: (0, 0),
            mtime_seconds: MTIME_SECONDS,
            target: b"",
            device: (0, 0),
            pax: &[],
            data,
        }
    }

    pub(super) fn directory(name: &'a str, mode: u32) -> Self {
        Self {
            kind: EntryType::Directory,
            mode,
            ..Self::file(name, b"")
        }
    }

    pub(super) fn symlink(name: &'a str, target: &'a str) -> Self {
        Self {
            kind: EntryType::Symlink,
            mode: 0o777,
            target: target.as_bytes(),
            ..Self::file(name, b"")
        }
    }

    pub(super) fn hard_link(name: &'a str, target: &'a str) -> Self {
        Self {
            kind: EntryType::Link,
            target: target.as_bytes(),
            ..Self::file(name, b"")
        }
    }

    pub(super) fn special(name: &'a str, kind: EntryType, device: (u32, u32)) -> Self {
        Self {
            kind,
            device,
            ..Self::file(name, b"")
        }
    }

    /// A whiteout or an opaque marker: an empty file.
    pub(super) fn marker(name: &'a str) -> Self {
        Self::file(name, b"")
    }
}

/// A tar that takes such entries and counts them.
pub(super) struct OddTar<'a, W: Write> {
    builder: &'a mut tar::Builder<W>,
    counts: EntryCounts,
}

impl<'a, W: Write> OddTar<'a, W> {
    pub(super) fn new(builder: &'a mut tar::Builder<W>) -> Self {
        Self {
            builder,
            counts: EntryCounts::default(),
        }
    }

    /// Directory entries, and regular files other than markers.
    pub(super) fn counts(&self) -> EntryCounts {
        self.counts
    }

    /// Appends an entry; what a header cannot hold goes before it in GNU form, PAX records in PAX form.
    pub(super) fn add(&mut self, entry: Odd<'_>) -> io::Result<()> {
        self.count(&entry);
        if !entry.pax.is_empty() {
            self.builder
                .append_pax_extensions(entry.pax.iter().copied())?;
        }
        for (kind, text) in [
            (EntryType::GNULongName, entry.name),
            (EntryType::GNULongLink, entry.target),
        ] {
            if text.len() > HEADER_NAME_BYTES {
                self.add_long(kind, text)?;
            }
        }
        let mut header = entry_header(entry.kind, entry.mode, entry.data.len() as u64);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.mtime_seconds);
        if entry.kind.is_character_special() || entry.kind.is_block_special() {
            header.set_device_major(entry.device.0)?;
            header.set_device_minor(entry.device.1)?;
        }
        let old = header.as_old_mut();
        copy_front(&mut old.name, entry.name);
        copy_front(&mut old.linkname, entry.target);
        header.set_cksum();
        self.builder.append(&header, entry.data)
    }

    fn add_long(&mut self, kind: EntryType, text: &[u8]) -> io::Result<()> {
        let mut data = text.to_vec();
        data.push(0);
        let mut header = entry_header(kind, 0, data.len() as u64);
        copy_front(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_cksum();
        self.builder.append(&header, data.as_slice())
    }

    fn count(&mut self, entry: &Odd<'_>) {
        let name = entry
            .name
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default();
        if entry.kind.is_dir() {
            self.counts.directories += 1;
        } else if entry.kind.is_file() && !name.starts_with(b".wh.") {
            self.counts.files += 1;
        }
    }
}

fn copy_front(field: &mut [u8], text: &[u8]) {
    for (slot, byte) in field.iter_mut().zip(text) {
        *slot = *byte;
    }
}
