//! PAX extended headers: records of `<length> <key>=<value>\n`.

use super::{Malformed, Moment};

/// The records of one extended header that change an entry; later records of a key replace earlier ones.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) modified: Option<Moment>,
    pub(super) accessed: Option<Moment>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// The `GNU.sparse.*` records, uninterpreted.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Vec<u8>,
    pub(super) minor: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) size: Vec<u8>,
    pub(super) real_size: Vec<u8>,
    pub(super) blocks: Vec<u8>,
    pub(super) map: Vec<u8>,
}

impl Records {
    /// Reads the body of an extended header; one malformed record refuses it all.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self, Malformed> {
        let mut raw = Raw::default();
        while !body.is_empty() {
            let record = Record::split(body)?;
            raw.take(record.key, record.value)?;
            body = record.rest;
        }
        raw.interpret()
    }
}

/// The last value of each key. Numbers are read only in the end: a value that is replaced may be nonsense.
#[derive(Default)]
struct Raw<'a> {
    path: &'a [u8],
    link: &'a [u8],
    size: &'a [u8],
    uid: &'a [u8],
    gid: &'a [u8],
    modified: &'a [u8],
    accessed: &'a [u8],
    changed: &'a [u8],
    xattrs: Vec<(&'a [u8], &'a [u8])>,
    sparse: SparseRecords,
    /// Offsets and sizes of sparse format 0.0, which repeats its keys.
    sparse_pairs: Vec<&'a [u8]>,
}

impl<'a> Raw<'a> {
    fn take(&mut self, key: &'a [u8], value: &'a [u8]) -> Result<(), Malformed> {
        match key {
            b"path" => self.path = value,
            b"linkpath" => self.link = value,
            b"size" => self.size = value,
            b"uid" => self.uid = value,
            b"gid" => self.gid = value,
            b"mtime" => self.modified = value,
            b"atime" => self.accessed = value,
            b"ctime" => self.changed = value,
            b"GNU.sparse.major" => self.sparse.major = value.to_vec(),
            b"GNU.sparse.minor" => self.sparse.minor = value.to_vec(),
            b"GNU.sparse.name" => self.sparse.name = value.to_vec(),
            b"GNU.sparse.size" => self.sparse.size = value.to_vec(),
            b"GNU.sparse.realsize" => self.sparse.real_size = value.to_vec(),
            b"GNU.sparse.numblocks" => self.sparse.blocks = value.to_vec(),
            b"GNU.sparse.map" => self.sparse.map = value.to_vec(),
            b"GNU.sparse.offset" => self.take_sparse(0, value)?,
            b"GNU.sparse.numbytes" => self.take_sparse(1, value)?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.xattrs.retain(|(earlier, _)| *earlier != name);
                    self.xattrs.push((name, value));
                }
            }
        }
        Ok(())
    }

    fn take_sparse(&mut self, turn: usize, value: &'a [u8]) -> Result<(), Malformed> {
        if self.sparse_pairs.len() % 2 != turn || value.contains(&b',') {
            return Err(Malformed::new("sparse map records are out of order"));
        }
        self.sparse_pairs.push(value);
        Ok(())
    }

    /// Empty values leave what the header says; an extended attribute may be empty.
    fn interpret(mut self) -> Result<Records, Malformed> {
        let owned = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        time(self.changed, "ctime")?;
        if !self.sparse_pairs.is_empty() {
            self.sparse.map = self.sparse_pairs.join(&b',');
        }
        let xattrs = self.xattrs.iter();
        Ok(Records {
            path: owned(self.path),
            link: owned(self.link),
            size: decimal_if_any(self.size, "size")?,
            uid: decimal_if_any(self.uid, "uid")?,
            gid: decimal_if_any(self.gid, "gid")?,
            modified: time(self.modified, "mtime")?,
            accessed: time(self.accessed, "atime")?,
            xattrs: xattrs
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            sparse: self.sparse,
        })
    }
}

/// The first record of a body, and what follows it.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(body: &'a [u8]) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("malformed PAX record");
        let space = body
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(malformed)?;
        let length = decimal(&body[..space], "PAX record length")?;
        let length = usize::try_from(length).map_err(|_| malformed())?;
        if length < 5 || length > body.len() || length <= space + 1 {
            return Err(malformed());
        }
        let (record, rest) = body.split_at(length);
        let pair = record[space + 1..]
            .strip_suffix(b"\n")
            .ok_or_else(malformed)?;
        let equals = pair
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        let without_zeros = match key {
            b"path" | b"linkpath" | b"uname" | b"gname" => value,
            _ => key,
        };
        if key.is_empty() || without_zeros.contains(&0) {
            return Err(malformed());
        }
        Ok(Self { key, value, rest })
    }
}

fn decimal_if_any(value: &[u8], name: &'static str) -> Result<Option<i64>, Malformed> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value, name).map(Some)
}

/// A decimal number with an optional sign, as Go's `ParseInt` takes it.
pub(super) fn decimal(value: &[u8], name: &'static str) -> Result<i64, Malformed> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Malformed::new(format!("{name} is not a decimal number")))
}

/// Seconds with an optional fraction, of which nine digits count.
fn time(value: &[u8], name: &'static str) -> Result<Option<Moment>, Malformed> {
    if value.is_empty() {
        return Ok(None);
    }
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &[][..]),
    };
    let seconds = decimal(whole, name)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::new(format!("{name} is not a time")));
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    if whole.first() == Some(&b'-') && nanoseconds > 0 {
        return Ok(Some(Moment {
            seconds: seconds.saturating_sub(1),
            nanoseconds: 1_000_000_000 - nanoseconds,
        }));
    }
    Ok(Some(Moment {
        seconds,
        nanoseconds,
    }))
}

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_malformed_records() {
        let bodies: [&[u8]; 14] = [
            b"x",
            b"11 path=a",
            b"9 path=ab\n",
            b"12 path=ab\n",
            b"4 =\n",
            b"6 =ab\n",
            b"-5 a=b\n",
            b"99999999999999999999 a=b\n",
            b"12 path=a\0b\n",
            b"8 a\0b=c\n",
            b"10 size=z\n",
            b"13 mtime=1.x\n",
            b"27 GNU.sparse.numbytes=512\n",
            b"6 a=b\nrest",
        ];
        for body in bodies {
            assert!(
                Records::parse(body).is_err(),
                "{:?}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn last_record_of_a_key_wins_and_empty_values_do_not_count() {
        let records = Records::parse(b"10 path=a\n10 path=b\n6 x=1\n8 uid=5\n7 uid=\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(records.uid, None);
    }

    #[test]
    fn keeps_binary_xattrs_and_the_last_duplicate() {
        let records = Records::parse(
            b"25 SCHILY.xattr.user.a=\0\n26 SCHILY.xattr.user.b==\xff\n25 SCHILY.xattr.user.a=c\n",
        )
        .unwrap();
        let expected = vec![
            (b"user.b".to_vec(), b"=\xff".to_vec()),
            (b"user.a".to_vec(), b"c".to_vec()),
        ];
        assert_eq!(records.xattrs, expected);
    }

    #[test]
    fn reads_times_with_nanoseconds_before_and_after_1970() {
        let cases: [(&[u8], i64, u32); 6] = [
            (b"1", 1, 0),
            (b"1.5", 1, 500_000_000),
            (b"1.0000000019", 1, 1),
            (b"-1", -1, 0),
            (b"-1.5", -2, 500_000_000),
            (b"-0.25", -1, 750_000_000),
        ];
        for (value, seconds, nanoseconds) in cases {
            assert_eq!(
                time(value, "mtime"),
                Ok(Some(Moment {
                    seconds,
                    nanoseconds
                })),
                "{value:?}"
            );
        }
    }
}
