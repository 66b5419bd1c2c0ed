//! Sequences of layers from a seed: everything that archives of images were seen to hold, and what they should not.

use parapull_snapshotter::unpack::LayerPath;

use super::super::archive::{MTIME, Member, dir, file, hardlink, record, symlink};
use super::super::linking::acl;
use super::dress::{dress, sparse};
use super::random::Random;

/// A layer before it is an archive: entries, each with the extended headers in front of it.
#[derive(Clone)]
pub struct Plan {
    pub entries: Vec<Vec<Member>>,
    /// What follows the last entry.
    pub end: Vec<u8>,
}

impl Plan {
    pub fn tar(&self) -> Vec<u8> {
        let mut tar: Vec<u8> = self.members().flat_map(Member::bytes).collect();
        tar.extend(&self.end);
        tar
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.entries.iter().flatten()
    }
}

/// What a sequence may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taste {
    /// Everything.
    Wild,
    /// What every unpacker that merges layers in one directory takes alike.
    Tame,
}

/// The layers of a seed, the bottom one first.
pub fn sequence(seed: u64, taste: Taste) -> Vec<Plan> {
    let mut random = Random::new(seed);
    let mut components: Vec<Vec<u8>> = [b"a", b"b", b"c"].map(|name| name.to_vec()).to_vec();
    for _ in 0..2 {
        components.push(odd_component(&mut random));
    }
    let mut generator = Generator {
        random,
        taste,
        components,
        made: Vec::new(),
        hidden: Vec::new(),
        below: Vec::new(),
    };
    let layers = 1 + generator.random.below(6);
    (0..layers).map(|_| generator.layer()).collect()
}

struct Generator {
    random: Random,
    taste: Taste,
    components: Vec<Vec<u8>>,
    /// Names of this layer, and what they are.
    made: Vec<(Vec<u8>, u8)>,
    /// Names that this layer's whiteouts hide.
    hidden: Vec<Vec<u8>>,
    /// Names of the layers below.
    below: Vec<Vec<u8>>,
}

impl Generator {
    fn layer(&mut self) -> Plan {
        self.below.extend(self.made.drain(..).map(|(name, _)| name));
        self.hidden.clear();
        let count = match self.random.below(20) {
            0 => 0,
            1 => 30 + self.random.below(20),
            _ => 1 + self.random.below(12),
        };
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.entry());
        }
        if self.taste == Taste::Wild && self.random.once_in(6) {
            let at = self.random.index(entries.len() + 1);
            let global = Member::new(b'g', "global-header").data(record(b"comment", b"any"));
            entries.insert(at, vec![global]);
        }
        let end = match self.random.below(8) {
            0 => Vec::new(),
            1 => vec![0; 512],
            2 => vec![0; 10_240],
            3 => [vec![0; 1024], b"behind the end".to_vec()].concat(),
            _ => vec![0; 1024],
        };
        Plan { entries, end }
    }

    fn entry(&mut self) -> Vec<Member> {
        let kinds: [u64; 10] = match self.taste {
            Taste::Wild => [72, 90, 36, 27, 12, 9, 42, 18, 12, 1],
            Taste::Tame => [24, 30, 8, 5, 3, 2, 10, 5, 3, 0],
        };
        let name = self.name();
        let member = match self.random.weighted(&kinds) {
            0 => dir(name),
            1 => {
                let bytes = self.file_bytes();
                file(name, bytes)
            }
            2 => {
                let (name, target) = (self.link_name(name), self.symlink_target());
                symlink(name, target)
            }
            3 => match self.hardlink_target() {
                Some(target) => hardlink(name, target),
                None => file(name, "instead of a hard link"),
            },
            4 => Member::new(b'6', name),
            5 => self.device(name),
            6 => return self.whiteout(),
            7 => return self.opaque(),
            8 => {
                let is_old = self.taste == Taste::Wild && self.random.once_in(40);
                self.note(&name, b'0');
                return sparse(&mut self.random, &name, is_old);
            }
            _ => self.unusual(name),
        };
        let member = self.attributes(member);
        self.note(member.name(), member.typeflag());
        dress(&mut self.random, member)
    }

    fn note(&mut self, name: &[u8], typeflag: u8) {
        self.made.push((name.to_vec(), typeflag));
    }

    /// A name that often meets another one, and seldom leads through something that is no directory.
    fn name(&mut self) -> Vec<u8> {
        let mut name = self.any_name();
        for _ in 0..8 {
            if self.may_be_made(&name) || self.random.once_in(200) {
                break;
            }
            name = self.any_name();
        }
        name
    }

    fn may_be_made(&mut self, name: &[u8]) -> bool {
        let path = LayerPath::clean(name);
        let Some(path) = path.as_ref().map(LayerPath::as_bytes) else {
            return true;
        };
        let above = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(slash, _)| &path[..slash]);
        for above in above {
            let is_it =
                |made: &[u8]| LayerPath::clean(made).is_some_and(|made| made.as_bytes() == above);
            let made = self.made.iter().rfind(|(made, _)| is_it(made));
            match made {
                Some((_, b'2')) if self.random.once_in(2) => {}
                Some((_, b'5')) | None => {}
                Some(_) => return false,
            }
        }
        true
    }

    fn any_name(&mut self) -> Vec<u8> {
        let mut name = match self.random.below(10) {
            0..=2 if !self.made.is_empty() => {
                let index = self.random.index(self.made.len());
                self.made[index].0.clone()
            }
            3 | 4 if !self.below.is_empty() => {
                let index = self.random.index(self.below.len());
                self.below[index].clone()
            }
            _ => Vec::new(),
        };
        if self.taste == Taste::Tame {
            name.retain(|byte| *byte != b'L');
        }
        if name.is_empty() || self.random.once_in(3) {
            for _ in 0..self.depth() {
                if !name.is_empty() && !name.ends_with(b"/") {
                    name.push(b'/');
                }
                name.extend(self.component());
            }
        }
        if self.taste == Taste::Wild {
            self.spelled(name)
        } else {
            name
        }
    }

    /// Another spelling of the same path.
    fn spelled(&mut self, name: Vec<u8>) -> Vec<u8> {
        match self.random.below(20) {
            0 => [b"/", &name[..]].concat(),
            1 => [b"./", &name[..]].concat(),
            2 => [b"../../", &name[..]].concat(),
            3 => [&name[..], b"/"].concat(),
            4 => [&name[..], b"/."].concat(),
            5 => [b"b/..//", &name[..]].concat(),
            _ => name,
        }
    }

    fn depth(&mut self) -> u64 {
        match self.random.below(40) {
            0 => 12 + self.random.below(30),
            1..=3 => 4,
            4..=11 => 3,
            12..=25 => 2,
            _ => 1,
        }
    }

    fn component(&mut self) -> Vec<u8> {
        let is_wild = self.taste == Taste::Wild;
        match self.random.below(40) {
            0 if is_wild => b"..".to_vec(),
            1 if is_wild => b".".to_vec(),
            2 => odd_component(&mut self.random),
            _ => self.random.pick(&self.components).clone(),
        }
    }

    fn file_bytes(&mut self) -> Vec<u8> {
        let bytes = match self.random.below(30) {
            0 => 200_000 + self.random.below(200_000),
            1..=6 => 0,
            7..=9 => 512 * self.random.below(4),
            _ => self.random.below(3000),
        };
        let salt = self.random.below(200) as u8;
        (0..bytes)
            .map(|n| (n as u8).wrapping_mul(31) ^ salt)
            .collect()
    }

    /// Tame symlinks have names of their own, so that no path leads through them.
    fn link_name(&mut self, name: Vec<u8>) -> Vec<u8> {
        match self.taste {
            Taste::Wild => name,
            Taste::Tame => [b"L", &name[..].replace_slashes()[..]].concat(),
        }
    }

    /// Without `..` behind a name: containerd takes it back by letters, the kernel by where it leads.
    fn symlink_target(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => b"/".to_vec(),
            1 => b".".to_vec(),
            2 => b"../../..".to_vec(),
            3 => b"../../../../etc".to_vec(),
            4 => b"a".repeat(150),
            _ => {
                let names = 1 + self.random.below(3);
                let names: Vec<_> = (0..names)
                    .map(|_| self.random.pick(&self.components).clone())
                    .collect();
                let target = names.join(&b'/');
                match self.random.below(4) {
                    0 => [b"/", &target[..]].concat(),
                    1 => [&target[..], b"/"].concat(),
                    _ => target,
                }
            }
        }
    }

    fn hardlink_target(&mut self) -> Option<Vec<u8>> {
        let is_bold = self.taste == Taste::Wild && self.random.once_in(10);
        let files: Vec<Vec<u8>> = self
            .made
            .iter()
            .filter(|(_, typeflag)| *typeflag == b'0' || is_bold && *typeflag != b'5')
            .map(|(name, _)| name.clone())
            .collect();
        let target = match self.random.below(8) {
            0 if is_bold => self.symlink_target(),
            1 if is_bold && !self.hidden.is_empty() => {
                let index = self.random.index(self.hidden.len());
                self.hidden[index].clone()
            }
            _ if files.is_empty() => return None,
            _ => self.random.pick(&files).clone(),
        };
        if self.taste == Taste::Wild {
            let spelled = self.spelled(target);
            return Some(if self.random.once_in(10) {
                spelled
            } else {
                trimmed(&spelled).to_vec()
            });
        }
        Some(target)
    }

    fn device(&mut self, name: Vec<u8>) -> Member {
        let typeflag = *self.random.pick(b"34");
        let (major, minor) =
            *self
                .random
                .pick(&[(1, 3), (0, 5), (8, 0), (4095, 1_048_575), (0, 0)]);
        let is_whiteout = typeflag == b'3' && (major, minor) == (0, 0);
        if is_whiteout && self.taste == Taste::Tame {
            return Member::new(typeflag, name).device(1, 3);
        }
        Member::new(typeflag, name).device(major, minor)
    }

    fn whiteout(&mut self) -> Vec<Member> {
        let mut name = self.name();
        // What this layer has itself makes containerd refuse the layer: seldom.
        for _ in 0..4 {
            let is_met = |name: &[u8]| {
                let path = trimmed(name);
                self.made
                    .iter()
                    .any(|(made, _)| starts(trimmed(made), path))
                    || self
                        .hidden
                        .iter()
                        .any(|hidden| starts(path, hidden) || starts(hidden, path))
            };
            if !is_met(&name) || self.random.once_in(12) {
                break;
            }
            name = self.name();
        }
        let hidden = trimmed(&name).to_vec();
        let marker = match hidden.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => [&hidden[..=slash], b".wh.", &hidden[slash + 1..]].concat(),
            None => [b".wh.", &hidden[..]].concat(),
        };
        self.hidden.push(hidden);
        let typeflag = *self.random.pick(b"00000012");
        let member = Member::new(typeflag, marker).owner(self.random.below(4), 0);
        dress(&mut self.random, member.link("anything"))
    }

    fn opaque(&mut self) -> Vec<Member> {
        let name = self.name();
        let marker = if self.taste == Taste::Wild && self.random.once_in(12) {
            b".wh..wh..opq".to_vec()
        } else {
            [trimmed(&name), b"/.wh..wh..opq"].concat()
        };
        dress(&mut self.random, Member::new(b'0', marker))
    }

    /// Entries that are mostly refused.
    fn unusual(&mut self, name: Vec<u8>) -> Member {
        match self.random.below(6) {
            0 => Member::new(b'7', name).data("contiguous"),
            1 => Member::new(b'V', name),
            2 => file(name, "").owner((1 << 32) - 1, 0),
            3 => file(name, "").owner(0, (1 << 32) + 5),
            4 => Member::new(b'3', name).device(4096, 0),
            _ => Member::new(b'0', ".wh."),
        }
    }

    fn attributes(&mut self, member: Member) -> Member {
        let mode = match self.random.below(6) {
            0 => self.random.below(0o10000),
            1 => 0,
            2 => 0o4755,
            3 => 0o2775,
            _ => 0o755,
        };
        let (uid, gid) = (self.owner(), self.owner());
        let member = member.mode(mode).owner(uid, gid);
        let member = self.times(member);
        self.xattrs(member)
    }

    fn owner(&mut self) -> u64 {
        *self
            .random
            .pick(&[0, 0, 0, 1000, 5, 65_534, 70_000, 2_097_152, 4_294_967_294])
    }

    fn times(&mut self, member: Member) -> Member {
        let seconds = 1 + self.random.below(1_500_000_000);
        let member = member.mtime(seconds);
        match self.random.below(16) {
            0 => member.pax("mtime", format!("{seconds}.123456789")),
            1 => member.pax("mtime", "-17.25"),
            2 => member.pax("mtime", "9223372036.8"),
            3 => member.pax("mtime", "92233720369"),
            4 => member.pax("atime", format!("{}.5", self.random.below(1_500_000_000))),
            // Binary: -2, and 2^33.
            5 => member.patch(136, [[0xff; 11].as_slice(), &[0xfe]].concat()),
            6 => member.patch(136, [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
            7 => member.mtime(MTIME),
            _ => member,
        }
    }

    fn xattrs(&mut self, member: Member) -> Member {
        let member = match self.random.below(10) {
            0 => member.xattr("user.a", "1"),
            1 => member.xattr("user.b", b"bin\0ary\n=").xattr("user.a", ""),
            2 => member.xattr("trusted.overlay.opaque", "y"),
            3 if member.typeflag() == b'0' => member.xattr("security.capability", CAPABILITY),
            _ => member,
        };
        match self.random.below(24) {
            0 if member.typeflag() == b'5' && self.taste == Taste::Wild => {
                member.xattr("system.posix_acl_default", acl())
            }
            1 if member.typeflag() != b'2' && self.taste == Taste::Wild => {
                member.xattr("system.posix_acl_access", acl())
            }
            2 if self.taste == Taste::Wild => member.xattr("user.c", "x".repeat(3000)),
            _ => member,
        }
    }
}

/// A name that programs stumble over.
fn odd_component(random: &mut Random) -> Vec<u8> {
    let odd: [&[u8]; 14] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe",
        "\u{e4}".as_bytes(),
        "a\u{308}".as_bytes(),
        b"A",
        b"...",
        b"dot.",
        b"-rf",
        b".wh",
        b"tab\tand\\backslash",
        b"quote'\"",
        b"%s$HOME",
        b"#",
    ];
    match random.below(16) {
        0 => b"long".repeat(50),
        1 => b"x".repeat(255),
        _ => random.pick(&odd).to_vec(),
    }
}

fn starts(path: &[u8], with: &[u8]) -> bool {
    path.strip_prefix(with)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Without slashes and dots at the ends.
fn trimmed(mut name: &[u8]) -> &[u8] {
    loop {
        let shorter = name
            .strip_suffix(b"/")
            .or_else(|| name.strip_suffix(b"/."))
            .or_else(|| name.strip_prefix(b"/"))
            .or_else(|| name.strip_prefix(b"./"));
        match shorter {
            Some(shorter) => name = shorter,
            None => return name,
        }
    }
}

trait ReplaceSlashes {
    fn replace_slashes(&self) -> Vec<u8>;
}

impl ReplaceSlashes for [u8] {
    fn replace_slashes(&self) -> Vec<u8> {
        self.iter()
            .map(|byte| if *byte == b'/' { b'_' } else { *byte })
            .collect()
    }
}

/// A version 2 file capability: `cap_net_raw+ep`.
const CAPABILITY: &[u8] = &[
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
