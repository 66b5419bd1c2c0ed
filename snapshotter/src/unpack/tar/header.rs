//! One header block: its checksum, its dialect and its fields, read as Go reads them.

use tar_core::{HEADER_SIZE, Header};

use super::{Malformed, Moment};

/// Bytes of a tar block.
pub(super) const BLOCK_BYTES: usize = HEADER_SIZE;

/// What one header block says, before extended headers are applied.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) typeflag: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) modified: Moment,
    pub(super) accessed: Option<Moment>,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) dialect: Dialect,
}

/// Which of the historic layouts a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// Reads a header block whose bytes are not all zero.
pub(super) fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Fields, Malformed> {
    verify_checksum(block)?;
    let header = Header::from_bytes(block);
    let ustar = header.as_ustar();
    let dialect = dialect(block);
    let mut fields = Fields {
        typeflag: ustar.typeflag[0],
        name: text(&ustar.name).to_vec(),
        link: text(&ustar.linkname).to_vec(),
        size: number(&ustar.size, "size")?,
        mode: number(&ustar.mode, "mode")?,
        uid: number(&ustar.uid, "uid")?,
        gid: number(&ustar.gid, "gid")?,
        modified: Moment::at(number(&ustar.mtime, "mtime")?),
        accessed: None,
        major: 0,
        minor: 0,
        dialect,
    };
    if dialect == Dialect::V7 {
        return Ok(fields);
    }
    fields.major = number(&ustar.dev_major, "device major")?;
    fields.minor = number(&ustar.dev_minor, "device minor")?;
    let prefix = match dialect {
        Dialect::V7 => &[],
        Dialect::Ustar => text(&ustar.prefix),
        Dialect::Star => {
            fields.accessed = Some(Moment::at(number(&block[STAR_ATIME], "atime")?));
            number(&block[STAR_CTIME], "ctime")?;
            text(&block[STAR_PREFIX])
        }
        Dialect::Gnu => gnu_times_or_prefix(header, &mut fields),
    };
    if !prefix.is_empty() {
        fields.name = [prefix, b"/", &fields.name].concat();
    }
    Ok(fields)
}

/// Reads the times of a GNU header; where they are not numbers the field is a prefix, as Go wrote it before 1.8.
fn gnu_times_or_prefix<'a>(header: &'a Header, fields: &mut Fields) -> &'a [u8] {
    let gnu = header.as_gnu();
    let time = |field: &[u8], name| match field[0] {
        0 => Ok(None),
        _ => number(field, name).map(|seconds| Some(Moment::at(seconds))),
    };
    match (time(&gnu.atime, "atime"), time(&gnu.ctime, "ctime")) {
        (Ok(accessed), Ok(_)) => {
            fields.accessed = accessed;
            &[]
        }
        _ => {
            let prefix = text(&header.as_ustar().prefix);
            if prefix.is_ascii() { prefix } else { &[] }
        }
    }
}

fn verify_checksum(block: &[u8; BLOCK_BYTES]) -> Result<(), Malformed> {
    let stored = octal(&block[CHECKSUM], "checksum")?;
    let rest = block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]);
    let spaces = i64::from(b' ') * CHECKSUM.len() as i64;
    let (unsigned, signed) = rest.fold((spaces, spaces), |(unsigned, signed), byte| {
        (
            unsigned + i64::from(*byte),
            signed + i64::from(byte.cast_signed()),
        )
    });
    if stored == unsigned || stored == signed {
        Ok(())
    } else {
        Err(Malformed::new(format!(
            "header checksum is {unsigned:o}, the header says {stored:o}"
        )))
    }
}

fn dialect(block: &[u8; BLOCK_BYTES]) -> Dialect {
    let magic = &block[MAGIC];
    if magic == b"ustar\0" {
        if &block[STAR_TRAILER] == b"tar\0" {
            Dialect::Star
        } else {
            Dialect::Ustar
        }
    } else if magic == b"ustar " && &block[VERSION] == b" \0" {
        Dialect::Gnu
    } else {
        Dialect::V7
    }
}

/// A field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// A number in octal digits or, with the first bit set, in big-endian two's complement.
pub(super) fn number(field: &[u8], name: &'static str) -> Result<i64, Malformed> {
    let Some(first) = field.first().filter(|first| *first & 0x80 != 0) else {
        return octal(field, name);
    };
    let negative = first & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (index, byte) in field.iter().enumerate() {
        let byte = (byte ^ invert) & if index == 0 { 0x7f } else { 0xff };
        if value >> 56 != 0 {
            return Err(out_of_range(name));
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| out_of_range(name))?;
    Ok(if negative { !value } else { value })
}

fn octal(field: &[u8], name: &'static str) -> Result<i64, Malformed> {
    let padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field
        .iter()
        .position(|byte| !padding(byte))
        .unwrap_or(field.len());
    let end = field
        .iter()
        .rposition(|byte| !padding(byte))
        .map_or(start, |last| last + 1);
    let mut value: u64 = 0;
    for byte in text(&field[start..end]) {
        if !matches!(byte, b'0'..=b'7') {
            return Err(Malformed::new(format!("{name} is not an octal number")));
        }
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(u64::from(byte - b'0')))
            .ok_or_else(|| out_of_range(name))?;
    }
    i64::try_from(value).map_err(|_| out_of_range(name))
}

fn out_of_range(name: &'static str) -> Malformed {
    Malformed::new(format!("{name} is out of range"))
}

const CHECKSUM: std::ops::Range<usize> = 148..156;
const MAGIC: std::ops::Range<usize> = 257..263;
const VERSION: std::ops::Range<usize> = 263..265;
const STAR_PREFIX: std::ops::Range<usize> = 345..476;
const STAR_ATIME: std::ops::Range<usize> = 476..488;
const STAR_CTIME: std::ops::Range<usize> = 488..500;
const STAR_TRAILER: std::ops::Range<usize> = 508..512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_go_does() {
        let mut minus_one = [0xff_u8; 12];
        let mut huge = [0_u8; 12];
        huge[0] = 0x80;
        huge[3] = 1;
        let mut five_billion = [0_u8; 8];
        five_billion[0] = 0x80;
        five_billion[3..].copy_from_slice(&5_000_000_000_u64.to_be_bytes()[3..]);
        let cases: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"  123 \0 ", Some(0o123)),
            (b"\0\0 7\0\0", Some(7)),
            (b"", Some(0)),
            (b"\0\0\0\0", Some(0)),
            (b"7\x006", Some(7)),
            (b"8", None),
            (b"-1", None),
            (b"77777777777777777777777", None),
            (&minus_one.clone(), Some(-1)),
            (&huge, None),
            (&five_billion, Some(5_000_000_000)),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field, "field").ok(), expected, "{field:?}");
        }
        minus_one[11] = 0xfe;
        assert_eq!(number(&minus_one, "field"), Ok(-2));
    }
}
