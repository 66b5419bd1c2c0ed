//! Members of a layer as bytes choose them: few names, so that they meet each other, and every kind of entry.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::archive::{GNU, Member, V7, dir, file, hardlink, symlink};
use super::choices::Choices;

/// The members; links may point into `outside`, which is the way a hostile layer would go.
pub fn members(choices: &[u8], outside: &Path) -> Vec<Member> {
    let mut choices = Choices::new(choices);
    let mut members = Vec::new();
    while !choices.is_empty() && members.len() < MEMBERS_MAX {
        let member = member(&mut choices, outside);
        members.push(dressed(member, &mut choices));
    }
    members
}

fn member(choices: &mut Choices<'_>, outside: &Path) -> Member {
    let kind = choices.byte();
    let name = path(choices);
    match kind % 16 {
        0..=2 => dir(name),
        3..=4 => file(name, content(choices)),
        5 => symlink(name, target(choices, outside)),
        6 => hardlink(name, target(choices, outside)),
        7 => Member::new(b'6', name),
        8 => {
            let typeflag = choices.of(b"34");
            let (major, minor) = (choices.byte() / 64, choices.byte() / 64);
            Member::new(typeflag, name).device(major.into(), minor.into())
        }
        9 => {
            let hidden = choices.of(COMPONENTS);
            let typeflag = choices.of(b"0512");
            Member::new(typeflag, [&name[..], b"/.wh.", hidden].concat())
        }
        10 => Member::new(b'0', [b".wh.".as_slice(), choices.of(COMPONENTS)].concat()),
        11 => Member::new(b'0', [&name[..], b"/.wh..wh..opq"].concat()),
        12 => Member::new(b'g', "global").data(content(choices)),
        13 => sparse(name, choices),
        14 => Member::new(choices.of(b"\x007SLKxgAI"), name).data(content(choices)),
        _ => old_sparse(name, choices),
    }
}

/// Attributes, a dialect, and now and then a byte of the header changed.
fn dressed(member: Member, choices: &mut Choices<'_>) -> Member {
    let dress = choices.byte();
    let mut member = match dress % 4 {
        0 => member,
        1 => member.mode(choices.number().into()),
        2 => {
            let owners = [0, 1, 5, 70_000, u64::from(u32::MAX), 1 << 32];
            let (uid, gid) = (choices.of(&owners), choices.of(&owners[..4]));
            member.owner(uid, gid).mode(choices.number().into())
        }
        _ => member.mtime(choices.of(&[0, 1, 30, 2_000_000_000, 0o77_777_777_777])),
    };
    if dress & 4 != 0 {
        member = with_record(member, choices);
    }
    match dress >> 4 {
        1 => member.magic(GNU),
        2 => member.magic(V7),
        3 => {
            let offset = usize::from(choices.number()) % HEADER_BYTES;
            let byte = choices.byte();
            // The archive makes no checksum where there is one.
            if (148..156).contains(&offset) {
                member
            } else {
                member.patch(offset, [byte])
            }
        }
        _ => member,
    }
}

fn with_record(member: Member, choices: &mut Choices<'_>) -> Member {
    match choices.byte() % 14 {
        0 => member.xattr("user.a", "mine"),
        1 => member.xattr("user.b", content(choices)),
        2 => member.xattr("system.posix_acl_default", default_acl()),
        3 => member.xattr("system.posix_acl_access", default_acl()),
        4 => member.xattr("trusted.overlay.opaque", "y"),
        5 => member.xattr("trusted.overlay.redirect", "/a"),
        6 => member.xattr("security.capability", CAPABILITY),
        7 => member.xattr(
            choices.of(&["user.overlay.opaque", "security.ima", "other", "", "user."]),
            "y",
        ),
        8 => member.pax("path", path(choices)),
        9 => member.pax("linkpath", path(choices)),
        10 => member.pax("size", choices.byte().to_string()),
        11 => member.pax(
            "mtime",
            choices.of(&["1.5", "-1.5", "30.000000001", "99999999999999", "1e3"]),
        ),
        12 => member.pax("uid", choices.of(&["0", "5", "-1", "4294967295", "x"])),
        _ => member.pax(
            choices.of(&["atime", "gid", "GNU.sparse.name", "comment"]),
            content(choices),
        ),
    }
}

/// PAX sparse formats 0.1 and 1.0.
fn sparse(name: Vec<u8>, choices: &mut Choices<'_>) -> Member {
    let (hole, bytes) = (u64::from(choices.number()), usize::from(choices.byte()));
    let size = (hole + bytes as u64 + u64::from(choices.byte())).to_string();
    let data = vec![b's'; bytes];
    if choices.byte() & 1 == 0 {
        return file("sparse", data)
            .pax("GNU.sparse.major", "0")
            .pax("GNU.sparse.minor", "1")
            .pax("GNU.sparse.name", name)
            .pax("GNU.sparse.numblocks", "1")
            .pax("GNU.sparse.map", format!("{hole},{bytes}"))
            .pax("GNU.sparse.size", size);
    }
    let mut with_map = format!("1\n{hole}\n{bytes}\n").into_bytes();
    with_map.resize(HEADER_BYTES, 0);
    with_map.extend(data);
    file("sparse", with_map)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", name)
        .pax("GNU.sparse.realsize", size)
}

fn old_sparse(name: Vec<u8>, choices: &mut Choices<'_>) -> Member {
    let (hole, bytes) = (u64::from(choices.number()), usize::from(choices.byte()));
    let octal = |number: u64| format!("{number:011o}\0").into_bytes();
    Member::new(b'S', name)
        .magic(GNU)
        .data(vec![b's'; bytes])
        .patch(386, [octal(hole), octal(bytes as u64)].concat())
        .patch(482, [choices.byte() / 200])
        .patch(483, octal(hole + bytes as u64))
}

fn path(choices: &mut Choices<'_>) -> Vec<u8> {
    let shape = choices.byte();
    let mut path = if shape & 0x10 == 0 {
        Vec::new()
    } else {
        b"/".to_vec()
    };
    for index in 0..=shape % 4 {
        if index > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(choices.of(COMPONENTS));
    }
    if shape & 0xe0 == 0xe0 {
        path.push(b'/');
    }
    path
}

fn target(choices: &mut Choices<'_>, outside: &Path) -> Vec<u8> {
    let rest = path(choices);
    let outside = outside.as_os_str().as_bytes();
    let way: &[u8] = match choices.byte() % 8 {
        0 => outside,
        1 => b"../../outside",
        2 => b"../../../../../../../../..",
        _ => return rest,
    };
    [way, b"/", &rest].concat()
}

fn content(choices: &mut Choices<'_>) -> Vec<u8> {
    let length = usize::from(choices.byte());
    if length > 200 {
        return vec![b'x'; (length - 199) * 256];
    }
    choices.take(length % 32).to_vec()
}

/// A default ACL with an entry of its own for user 1.
fn default_acl() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &permissions.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, 7, none),
        entry(2, 7, 1),
        entry(4, 5, none),
        entry(0x10, 7, none),
        entry(0x20, 5, none),
    ];
    [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

const COMPONENTS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"a",
    b"b",
    b"c",
    b"..",
    b".",
    b"",
    b".wh.a",
    b".wh.b",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b".wh.",
    b".wh...",
    b"outside",
    b"etc",
    b"passwd",
    b"\xff\xfe",
    LONG,
    TOO_LONG,
];
/// As long as a name may be.
const LONG: &[u8] = &[b'l'; 255];
const TOO_LONG: &[u8] = &[b'n'; 256];
/// `cap_net_raw=ep`, revision 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HEADER_BYTES: usize = 512;
const MEMBERS_MAX: usize = 64;
