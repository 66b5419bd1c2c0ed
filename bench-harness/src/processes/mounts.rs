//! Mounts below a directory: found in `/proc/self/mountinfo`, taken away deepest first.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// The mount points at or below `directory`, in the order they must be unmounted.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|point| point.starts_with(directory))
        .collect();
    // Later lines were mounted later, so the reverse order frees nested and stacked mounts.
    points.reverse();
    points
}

/// Unmounts everything at or below `directory`, lazily where it is busy; what cannot be unmounted is logged.
pub fn unmount_below(directory: &Path) {
    for point in mounts_below(directory) {
        if let Err(error) = unmount(&point, UnmountFlags::DETACH) {
            tracing::warn!(point = %point.display(), %error, "cannot unmount");
        }
    }
}

/// Undoes the octal escapes of spaces, tabs, newlines and backslashes (proc_pid_mountinfo(5)).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| {
            first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        if let Some(digits) = octal {
            let value = digits
                .iter()
                .fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            bytes.push(u8::try_from(value & 0xff).unwrap_or_default());
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_the_escapes_of_mountinfo() {
        for (field, path) in [
            (&b"/a"[..], &b"/a"[..]),
            (b"/with\\040space", b"/with space"),
            (b"/back\\134slash\\011", b"/back\\slash\t"),
            (b"/cut\\04", b"/cut\\04"),
        ] {
            assert_eq!(unescape(field), path);
        }
    }
}
