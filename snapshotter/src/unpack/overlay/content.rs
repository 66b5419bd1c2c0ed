//! What is put into an open regular file, and what makes it complete.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::super::error::SinkError;
use super::super::sink::Attributes;
use super::attributes::set_new;

/// Writes all of `bytes` at `offset`.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    path: &[u8],
    offset: u64,
    bytes: &[u8],
) -> Result<(), SinkError> {
    write_all(fd, offset, bytes).map_err(|errno| SinkError::disk("write", path, errno))
}

/// Makes a new file, whose data ends at `end`, one of `size` bytes with these attributes.
pub(super) fn complete(
    fd: BorrowedFd<'_>,
    path: &[u8],
    attributes: &Attributes,
    size: u64,
    end: u64,
) -> Result<(), SinkError> {
    if size > end {
        rustix::fs::ftruncate(fd, size)
            .map_err(|errno| SinkError::disk("set the size of", path, errno))?;
    }
    set_new(fd, path, attributes, true)
}

fn write_all(fd: BorrowedFd<'_>, mut offset: u64, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
