//! The header of a gzip member (RFC 1952, section 2.3).

use super::raw::Checksum;

/// A header that is read byte by byte, and of which nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Header {
    part: Part,
    /// Bytes of the part that were read.
    have: usize,
    flags: u8,
    extra_bytes: usize,
    checksum: Checksum,
    told: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Fixed,
    ExtraLength,
    Extra,
    Name,
    Comment,
    Checksum,
    Whole,
}

impl Header {
    /// What every header begins with.
    pub(super) const FIRST_BYTE: u8 = 0x1f;

    /// Reads some of `input`: how many bytes, and whether the header ends with them.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<(usize, bool), String> {
        for (taken, byte) in input.iter().enumerate() {
            self.enter();
            if self.part == Part::Whole {
                return Ok((taken, true));
            }
            if self.part != Part::Checksum {
                self.checksum.add(&[*byte]);
            }
            self.take(*byte)?;
        }
        self.enter();
        Ok((input.len(), self.part == Part::Whole))
    }

    /// Skips parts that the flags leave out.
    fn enter(&mut self) {
        loop {
            let is_there = match self.part {
                Part::Fixed | Part::Whole => true,
                Part::ExtraLength | Part::Extra => self.flags & HAS_EXTRA != 0,
                Part::Name => self.flags & HAS_NAME != 0,
                Part::Comment => self.flags & HAS_COMMENT != 0,
                Part::Checksum => self.flags & HAS_CHECKSUM != 0,
            };
            let is_empty = self.part == Part::Extra && self.extra_bytes == 0;
            if is_there && !is_empty {
                return;
            }
            self.next();
        }
    }

    fn next(&mut self) {
        self.have = 0;
        self.part = match self.part {
            Part::Fixed => Part::ExtraLength,
            Part::ExtraLength => Part::Extra,
            Part::Extra => Part::Name,
            Part::Name => Part::Comment,
            Part::Comment => Part::Checksum,
            Part::Checksum | Part::Whole => Part::Whole,
        };
    }

    fn take(&mut self, byte: u8) -> Result<(), String> {
        let at = self.have;
        self.have += 1;
        let ends = match self.part {
            Part::Fixed => {
                if at < MAGIC.len() && byte != MAGIC[at] {
                    return Err("not a gzip header".into());
                }
                if at == FLAGS_AT {
                    self.flags = byte;
                }
                if at == FLAGS_AT && byte & RESERVED != 0 {
                    return Err("unknown flags in a gzip header".into());
                }
                self.have == FIXED_BYTES
            }
            Part::ExtraLength => {
                self.extra_bytes |= usize::from(byte) << (8 * at);
                self.have == 2
            }
            Part::Extra => self.have == self.extra_bytes,
            Part::Name | Part::Comment => byte == 0,
            Part::Checksum => {
                self.told |= u16::from(byte) << (8 * at);
                if at == 1 && self.told != self.checksum.crc() as u16 {
                    return Err("checksum of a gzip header is wrong".into());
                }
                self.have == 2
            }
            Part::Whole => true,
        };
        if ends {
            self.next();
        }
        Ok(())
    }
}

/// Identification and method 8, DEFLATE.
const MAGIC: [u8; 3] = [Header::FIRST_BYTE, 0x8b, 8];
const FLAGS_AT: usize = 3;
const FIXED_BYTES: usize = 10;
const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

#[cfg(test)]
mod tests {
    use flate2::{Compression, GzBuilder};
    use std::io::Write as _;

    use super::*;

    #[test]
    fn ends_where_the_data_begins_however_it_is_cut() {
        let mut encoder = GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(vec![1, 2, 3])
            .write(Vec::new(), Compression::fast());
        encoder.write_all(b"data").unwrap();
        let bytes = encoder.finish().unwrap();
        let header_bytes = FIXED_BYTES + 2 + 3 + 5 + 8;
        for cut in 0..header_bytes {
            let mut header = Header::default();
            assert_eq!(header.read(&bytes[..cut]), Ok((cut, false)), "at {cut}");
            assert_eq!(header.read(&bytes[cut..]), Ok((header_bytes - cut, true)));
        }
    }

    #[test]
    fn knows_a_wrong_header() {
        for (what, bytes) in [
            ("method", vec![0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 3]),
            ("flags", vec![0x1f, 0x8b, 8, 0x20, 0, 0, 0, 0, 0, 3]),
            ("checksum", vec![0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 3, 0, 0]),
        ] {
            assert!(Header::default().read(&bytes).is_err(), "{what}");
        }
    }
}
