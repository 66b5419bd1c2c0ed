//! Tar archives written byte by byte, so that a test can make them wrong.

/// One member: header fields, extended records and data.
#[derive(Clone)]
pub struct Member {
    name: Vec<u8>,
    link: Vec<u8>,
    data: Vec<u8>,
    size: Option<u64>,
    typeflag: u8,
    mode: u64,
    uid: u64,
    gid: u64,
    mtime: u64,
    device: (u64, u64),
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    magic: [u8; 8],
    patches: Vec<(usize, Vec<u8>)>,
}

/// A modification time that no file has by chance.
pub const MTIME: u64 = 1_234_567_890;
pub const USTAR: [u8; 8] = *b"ustar\x0000";
pub const GNU: [u8; 8] = *b"ustar  \0";
pub const V7: [u8; 8] = [0; 8];

impl Member {
    pub fn new(typeflag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            data: Vec::new(),
            size: None,
            typeflag,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: MTIME,
            device: (0, 0),
            pax: Vec::new(),
            magic: USTAR,
            patches: Vec::new(),
        }
    }

    pub fn mode(mut self, mode: u64) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self
    }

    pub fn device(mut self, major: u64, minor: u64) -> Self {
        self.device = (major, minor);
        self
    }

    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    /// What the size field says, whatever the data.
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    pub fn magic(mut self, magic: [u8; 8]) -> Self {
        self.magic = magic;
        self
    }

    /// A record of an extended header in front of the member.
    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax
            .push((key.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Bytes of the header that are overwritten before the checksum is made.
    pub fn patch(mut self, offset: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.patches.push((offset, bytes.as_ref().to_vec()));
        self
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn link_target(&self) -> &[u8] {
        &self.link
    }

    pub fn typeflag(&self) -> u8 {
        self.typeflag
    }

    pub fn is_device(&self) -> bool {
        matches!(self.typeflag, b'3' | b'4')
    }

    pub fn is_ustar(&self) -> bool {
        self.magic == USTAR
    }

    /// A hard link to this member with the same attributes.
    pub fn linked_as(self, name: &[u8]) -> Self {
        Self {
            link: self.name,
            name: name.to_vec(),
            data: Vec::new(),
            typeflag: b'1',
            ..self
        }
    }

    pub fn named(mut self, name: impl AsRef<[u8]>) -> Self {
        self.name = name.as_ref().to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.pax.is_empty() {
            let records: Vec<u8> = self
                .pax
                .iter()
                .flat_map(|(key, value)| record(key, value))
                .collect();
            bytes.extend(Self::new(b'x', "pax").data(records).bytes());
        }
        bytes.extend(self.header());
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    pub fn is_whiteout(&self) -> bool {
        self.data_or_name_contains(b".wh.")
    }

    /// Whether the name, a record or the data, which may be a long name, contains these bytes.
    pub fn data_or_name_contains(&self, bytes: &[u8]) -> bool {
        let contains = |text: &[u8]| text.windows(bytes.len()).any(|part| part == bytes);
        contains(&self.name)
            || contains(&self.data)
            || self.pax.iter().any(|(_, value)| contains(value))
    }

    /// The name that an entry has by the headers in front of it.
    pub fn effective_name(entry: &[Self]) -> Vec<u8> {
        let long = entry.iter().rfind(|member| member.typeflag == b'L');
        let Some(last) = entry.last() else {
            return Vec::new();
        };
        let in_records = || {
            let record = last
                .pax
                .iter()
                .rfind(|(key, _)| key == b"GNU.sparse.name" || key == b"path");
            record.map(|(_, value)| value.clone())
        };
        let in_header = || {
            let prefix = last.patches.iter().find(|(offset, _)| *offset == 345);
            match prefix {
                Some((_, prefix)) => [prefix, &b"/"[..], &last.name].concat(),
                None => last.name.clone(),
            }
        };
        long.map(|long| long.data.strip_suffix(b"\0").unwrap_or(&long.data).to_vec())
            .or_else(in_records)
            .unwrap_or_else(in_header)
    }

    /// Whether the header or a record says this modification time; one of 1970 may stand for any that no file can have.
    pub fn may_have_time(&self, mtime: (i64, i64)) -> bool {
        mtime == (0, 0)
            || mtime == (self.mtime as i64, 0)
            || self.pax.iter().any(|(key, value)| {
                let seconds = mtime.0.to_string();
                key == b"mtime" && value.starts_with(seconds.as_bytes())
            })
            || self.patches.iter().any(|(offset, _)| *offset == 136)
    }

    /// The name, if the member is a directory and no marker.
    pub fn directory_name(&self) -> Option<&[u8]> {
        (self.typeflag == b'5').then_some(self.name.as_slice())
    }

    /// Bytes of the last header and of the data behind it, padding included.
    pub fn parts(&self) -> (usize, usize) {
        (512, self.data.len().next_multiple_of(512))
    }

    fn header(&self) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |offset: usize, bytes: &[u8]| {
            header[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, octal(self.mode, 7).as_bytes());
        put(108, &numeric(self.uid));
        put(116, &numeric(self.gid));
        put(
            124,
            octal(self.size.unwrap_or(self.data.len() as u64), 11).as_bytes(),
        );
        put(136, octal(self.mtime, 11).as_bytes());
        put(156, &[self.typeflag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, &self.magic);
        if self.magic != V7 {
            put(329, octal(self.device.0, 7).as_bytes());
            put(337, octal(self.device.1, 7).as_bytes());
        }
        for (offset, bytes) in &self.patches {
            put(*offset, bytes);
        }
        checksum(&mut header);
        header
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |bytes: &[u8]| bytes[..bytes.len().min(60)].escape_ascii().to_string();
        let Self {
            mode,
            uid,
            gid,
            mtime,
            ..
        } = self;
        write!(
            f,
            "{} {mode:04o} {uid}:{gid} @{mtime}",
            char::from(self.typeflag)
        )?;
        write!(f, " {:?} -> {:?}", short(&self.name), short(&self.link))?;
        write!(f, " {}b {:?}", self.data.len(), short(&self.data))?;
        for (key, value) in &self.pax {
            write!(f, " {}={:?}", short(key), short(value))?;
        }
        for (offset, bytes) in &self.patches {
            write!(f, " at {offset}: {:?}", short(bytes))?;
        }
        Ok(())
    }
}

/// Writes the unsigned checksum, unless a test put its own there.
fn checksum(header: &mut [u8; 512]) {
    if header[148..156] != [0; 8] {
        return;
    }
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// A number in 8 bytes: octal if it fits, else binary.
fn numeric(value: u64) -> Vec<u8> {
    if value < 1 << 21 {
        return octal(value, 7).into_bytes();
    }
    let mut bytes = value.to_be_bytes().to_vec();
    bytes[0] |= 0x80;
    bytes
}

fn octal(value: u64, digits: usize) -> String {
    format!("{value:0digits$o}")
}

/// One record of an extended header, with its own length in front.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Member {
    Member::new(b'0', name).data(data)
}

pub fn dir(name: impl AsRef<[u8]>) -> Member {
    Member::new(b'5', name).mode(0o755)
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(b'2', name).link(target).mode(0o777)
}

pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(b'1', name).link(target)
}

/// Members, closed by two zero blocks.
pub fn archive(members: impl IntoIterator<Item = Member>) -> Vec<u8> {
    let mut bytes = open_archive(members);
    bytes.extend([0; 1024]);
    bytes
}

/// Members without an end.
pub fn open_archive(members: impl IntoIterator<Item = Member>) -> Vec<u8> {
    members
        .into_iter()
        .flat_map(|member| member.bytes())
        .collect()
}
