//! One entry in any of tar's historic dresses: which header dialect, where long names stand, what is repeated.

use super::super::archive::{GNU, Member, USTAR, V7, record};
use super::random::Random;

/// The members that say what `entry` says.
pub fn dress(random: &mut Random, entry: Member) -> Vec<Member> {
    let mut members = Vec::new();
    let name = entry.name().to_vec();
    let link = entry.link_target().to_vec();
    let mut entry = entry;
    match random.below(12) {
        0 if name.len() <= 100 && link.len() <= 100 && !entry.is_device() => {
            entry = entry.magic(V7);
        }
        1 | 2 => entry = entry.magic(GNU),
        _ => entry = entry.magic(USTAR),
    }
    entry = name_of(random, entry, &name, &mut members);
    entry = link_of(random, entry, &link, &mut members);
    if random.once_in(12) {
        // Records that change nothing, and a first header of two, of which the last wins whole.
        let useless = record(b"comment", b"an equals = and a space");
        members.insert(0, Member::new(b'x', "first").data(useless));
    }
    if random.once_in(20) {
        entry = entry
            .pax("LIBARCHIVE.xattr.user.a", "eA==")
            .pax("ctime", "12.5");
    }
    members.push(entry);
    members
}

/// Puts a name where it fits: into the header, its prefix, a record or a member of its own.
fn name_of(random: &mut Random, entry: Member, name: &[u8], before: &mut Vec<Member>) -> Member {
    let fits = name.len() <= 100;
    let slash = name
        .iter()
        .enumerate()
        .filter(|(index, byte)| **byte == b'/' && *index <= 155 && name.len() - index - 1 <= 100)
        .map(|(index, _)| index)
        .find(|index| *index > 0 && *index + 1 < name.len());
    match random.below(10) {
        0 | 1 if !name.is_empty() => entry.named("decoy/in/the/header").pax("path", name),
        2 if !name.is_empty() => {
            before.push(long(b'L', name));
            entry.named("cut")
        }
        3 if entry.is_ustar() && slash.is_some() => {
            let (prefix, rest) = name.split_at(slash.unwrap_or_default());
            entry.named(&rest[1..]).patch(345, prefix)
        }
        _ if fits => entry,
        _ if random.once_in(2) => {
            before.push(long(b'L', name));
            entry
        }
        _ => entry.pax("path", name),
    }
}

fn link_of(random: &mut Random, entry: Member, link: &[u8], before: &mut Vec<Member>) -> Member {
    if link.is_empty() {
        return entry;
    }
    match random.below(10) {
        0 => entry.link("decoy").pax("linkpath", link),
        1 => {
            before.push(long(b'K', link));
            entry.link("cut")
        }
        _ if link.len() <= 100 => entry,
        2..=5 => {
            before.push(long(b'K', link));
            entry
        }
        _ => entry.pax("linkpath", link),
    }
}

fn long(typeflag: u8, text: &[u8]) -> Member {
    Member::new(typeflag, "././@LongLink")
        .magic(GNU)
        .data([text, b"\0"].concat())
}

/// A sparse file of `name` in one of PAX's three forms, or the old GNU one.
pub fn sparse(random: &mut Random, name: &[u8], is_old: bool) -> Vec<Member> {
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut end = 0;
    for _ in 0..random.below(5) {
        let offset = end + random.below(3000);
        let bytes = random.below(900);
        pieces.push((offset, bytes));
        end = offset + bytes;
    }
    let size = end + random.below(5000);
    let stored: u64 = pieces.iter().map(|(_, bytes)| bytes).sum();
    let data: Vec<u8> = (0..stored).map(|n| b'a' + (n % 26) as u8).collect();
    let numbers: Vec<String> = pieces
        .iter()
        .flat_map(|(offset, bytes)| [offset.to_string(), bytes.to_string()])
        .collect();
    if is_old && pieces.len() <= 4 && name.len() <= 100 {
        let slots: String = pieces
            .iter()
            .map(|(offset, bytes)| format!("{offset:011o}\0{bytes:011o}\0"))
            .collect();
        let member = Member::new(b'S', name)
            .magic(GNU)
            .patch(386, slots)
            .patch(483, format!("{size:011o}\0"));
        return vec![member.data(data)];
    }
    let member = Member::new(b'0', "GNUSparseFile.0/decoy");
    let member = match random.below(3) {
        0 => {
            let member = member
                .pax("path", name)
                .pax("GNU.sparse.size", size.to_string())
                .pax("GNU.sparse.numblocks", pieces.len().to_string());
            pieces.iter().fold(member, |member, (offset, bytes)| {
                member
                    .pax("GNU.sparse.offset", offset.to_string())
                    .pax("GNU.sparse.numbytes", bytes.to_string())
            })
        }
        1 => member
            .pax("GNU.sparse.name", name)
            .pax("GNU.sparse.size", size.to_string())
            .pax("GNU.sparse.numblocks", pieces.len().to_string())
            .pax("GNU.sparse.map", numbers.join(",")),
        _ => {
            let mut map = format!("{}\n", pieces.len());
            for number in &numbers {
                map.push_str(number);
                map.push('\n');
            }
            let mut body = map.into_bytes();
            body.resize(body.len().next_multiple_of(512), 0);
            body.extend(&data);
            let member = member
                .pax("GNU.sparse.major", "1")
                .pax("GNU.sparse.minor", "0")
                .pax("GNU.sparse.name", name)
                .pax("GNU.sparse.realsize", size.to_string());
            return vec![member.data(body)];
        }
    };
    vec![member.data(data)]
}
