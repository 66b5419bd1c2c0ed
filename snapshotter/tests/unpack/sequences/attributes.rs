//! What entries say of themselves: common values, odd ones and impossible ones.

use super::super::archive::{MTIME, Member};
use super::super::linking::acl;
use super::generate::Taste;
use super::random::Random;

/// Owner, mode, times and extended attributes for an entry.
pub fn attributes(random: &mut Random, taste: Taste, member: Member) -> Member {
    let mode = match random.below(6) {
        0 => random.below(0o10000),
        1 => 0,
        2 => 0o4755,
        3 => 0o2775,
        _ => 0o755,
    };
    // umoci lets implied directories inherit the bit, containerd only the group.
    let mode = match taste {
        Taste::Wild => mode,
        Taste::Tame => mode & !0o2000,
    };
    let (uid, gid) = (owner(random), owner(random));
    let member = member.mode(mode).owner(uid, gid);
    let member = times(random, member);
    xattrs(random, taste, member)
}

fn owner(random: &mut Random) -> u64 {
    *random.pick(&[0, 0, 0, 1000, 5, 65_534, 70_000, 2_097_152, 4_294_967_294])
}

fn times(random: &mut Random, member: Member) -> Member {
    let seconds = 1 + random.below(1_500_000_000);
    let member = member.mtime(seconds);
    match random.below(16) {
        0 => member.pax("mtime", format!("{seconds}.123456789")),
        1 => member.pax("mtime", "-17.25"),
        2 => member.pax("mtime", "9223372036.8"),
        3 => member.pax("mtime", "92233720369"),
        4 => member.pax("atime", format!("{}.5", random.below(1_500_000_000))),
        // Binary: -2, and 2^33.
        5 => member.patch(136, [[0xff; 11].as_slice(), &[0xfe]].concat()),
        6 => member.patch(136, [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
        7 => member.mtime(MTIME),
        _ => member,
    }
}

fn xattrs(random: &mut Random, taste: Taste, member: Member) -> Member {
    let member = match random.below(10) {
        0 => member.xattr("user.a", "1"),
        1 if taste == Taste::Wild => member.xattr("user.b", b"bin\0ary\n=").xattr("user.a", ""),
        1 => member.xattr("user.b", b"bin\0ary\n="),
        2 => member.xattr("trusted.overlay.opaque", "y"),
        3 if member.typeflag() == b'0' => member.xattr("security.capability", CAPABILITY),
        _ => member,
    };
    match random.below(24) {
        0 if member.typeflag() == b'5' && taste == Taste::Wild => {
            member.xattr("system.posix_acl_default", acl())
        }
        1 if member.typeflag() != b'2' && taste == Taste::Wild => {
            member.xattr("system.posix_acl_access", acl())
        }
        2 if taste == Taste::Wild => member.xattr("user.c", "x".repeat(3000)),
        _ => member,
    }
}

/// A version 2 file capability: `cap_net_raw+ep`.
const CAPABILITY: &[u8] = &[
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
