//! Sequences of layers from a seed: everything that archives of images were seen to hold, and what they should not.

use parapull_snapshotter::unpack::LayerPath;

use super::super::archive::{Member, dir, file, hardlink, record, symlink};
use super::attributes::attributes;
use super::dress::{dress, sparse};
use super::paths::{odd_component, starts, trimmed, without_slashes};
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
        files: Vec::new(),
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
    /// This layer's entries before they are dressed.
    files: Vec<Member>,
    /// Names that this layer's whiteouts hide.
    hidden: Vec<Vec<u8>>,
    /// Names of the layers below.
    below: Vec<Vec<u8>>,
}

impl Generator {
    fn layer(&mut self) -> Plan {
        self.settle();
        self.hidden.clear();
        self.files.clear();
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
            _ if self.taste == Taste::Tame => vec![0; 1024],
            0 => Vec::new(),
            1 => vec![0; 512],
            2 => vec![0; 10_240],
            3 => [vec![0; 1024], b"behind the end".to_vec()].concat(),
            _ => vec![0; 1024],
        };
        Plan { entries, end }
    }

    /// What this layer made is what the next ones find.
    fn settle(&mut self) {
        if self.taste == Taste::Tame {
            let (hidden, made) = (&self.hidden, &self.made);
            self.below.retain(|name| {
                let is_hidden = hidden.iter().any(|hidden| starts(name, hidden));
                let is_replaced = made
                    .iter()
                    .any(|(made, typeflag)| *typeflag != b'5' && starts(name, made));
                !is_hidden && !is_replaced
            });
        }
        self.below.extend(self.made.drain(..).map(|(name, _)| name));
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
            6 | 7 if self.taste == Taste::Tame && self.below.is_empty() => dir(name),
            6 => return self.whiteout(),
            7 => return self.opaque(),
            8 => {
                let is_old = self.taste == Taste::Wild && self.random.once_in(40);
                self.note(&name, b'0');
                self.files.push(file(&name, ""));
                return sparse(&mut self.random, &name, is_old);
            }
            _ => self.unusual(name),
        };
        let member = attributes(&mut self.random, self.taste, member);
        let member = self.as_its_target(member);
        self.note(member.name(), member.typeflag());
        self.files.push(member.clone());
        dress(&mut self.random, member)
    }

    /// A tame hard link says of its inode what the first name said.
    fn as_its_target(&self, member: Member) -> Member {
        if self.taste == Taste::Wild || member.typeflag() != b'1' {
            return member;
        }
        let is_it = |file: &&Member| file.name() == member.link_target();
        match self.files.iter().rfind(is_it) {
            Some(target) => target.clone().linked_as(member.name()),
            None => member,
        }
    }

    fn note(&mut self, name: &[u8], typeflag: u8) {
        self.made.push((name.to_vec(), typeflag));
    }

    /// A name that often meets another one, and seldom leads through something that is no directory.
    fn name(&mut self) -> Vec<u8> {
        let mut name = self.any_name();
        let attempts = if self.taste == Taste::Wild { 8 } else { 30 };
        for _ in 0..attempts {
            if self.may_be_made(&name) || self.taste == Taste::Wild && self.random.once_in(200) {
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
        // Of two entries with one path overlayfs knows the last, and umoci removes what is below for the first.
        let is_repeated = || {
            let mut made = self
                .made
                .iter()
                .filter_map(|(made, _)| LayerPath::clean(made));
            made.any(|made| starts(made.as_bytes(), path))
        };
        if self.taste == Taste::Tame && is_repeated() {
            return false;
        }
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
            Taste::Tame => [b"L", &without_slashes(&name)[..]].concat(),
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
        if self.taste == Taste::Tame {
            // umoci makes no parents for a whiteout, and keeps the attributes of what the layer only implied.
            name = self.random.pick(&self.below).clone();
            let is_met = |(made, typeflag): &(Vec<u8>, u8)| {
                starts(made, &name) || *typeflag != b'5' && starts(&name, made)
            };
            if self.made.iter().any(is_met) {
                return self.opaque();
            }
        }
        // What this layer has itself makes containerd refuse the layer: seldom.
        for _ in 0..if self.taste == Taste::Wild { 4 } else { 0 } {
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
        if hidden.windows(4).any(|part| part == b".wh.") {
            // A whiteout of a whiteout has a name of aufs' own records, which are skipped here.
            return self.opaque();
        }
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
        let name = if name.windows(4).any(|part| part == b".wh.") {
            b"a".to_vec()
        } else {
            name
        };
        let marker = if self.taste == Taste::Wild && self.random.once_in(12) {
            b".wh..wh..opq".to_vec()
        } else {
            [trimmed(&name), b"/.wh..wh..opq"].concat()
        };
        let mut members = Vec::new();
        if self.taste == Taste::Tame {
            // umoci makes no directory for a marker.
            self.note(&name, b'5');
            members = dress(&mut self.random, dir(&name));
        }
        members.extend(dress(&mut self.random, Member::new(b'0', marker)));
        members
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
}
