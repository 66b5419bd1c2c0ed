//! Reads `Range` headers as RFC 9110 has them, for one range. Several ranges are answered with the whole body, as allowed.

use std::ops::Range;

/// What a request asks of a body of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// No range, an invalid one, another unit or several: the whole body.
    Whole,
    /// These bytes, cut to the body's length.
    Bytes(Range<u64>),
    /// A range without a byte in the body: 416.
    Unsatisfiable,
}

impl RangeRequest {
    /// Reads a header's text for a body of `length` bytes.
    #[must_use]
    pub fn parse(header: Option<&str>, length: u64) -> Self {
        let Some(set) = header.and_then(strip_unit) else {
            return Self::Whole;
        };
        let Some((first, last)) = set.trim().split_once('-') else {
            return Self::Whole;
        };
        match (number(first), number(last)) {
            (Ok(Some(first)), Ok(Some(last))) if last < first => Self::Whole,
            (Ok(Some(first)), Ok(last)) if first < length => {
                let end = last.map_or(length, |last| last.saturating_add(1).min(length));
                Self::Bytes(first..end)
            }
            (Ok(Some(_)), Ok(_)) => Self::Unsatisfiable,
            (Ok(None), Ok(Some(suffix))) if suffix > 0 && length > 0 => {
                Self::Bytes(length.saturating_sub(suffix)..length)
            }
            (Ok(None), Ok(Some(_))) => Self::Unsatisfiable,
            _ => Self::Whole,
        }
    }
}

fn strip_unit(header: &str) -> Option<&str> {
    let (unit, set) = header.split_once('=')?;
    (unit.trim().eq_ignore_ascii_case("bytes") && !set.contains(',')).then_some(set)
}

/// An absent, a valid or an invalid number; one beyond 64 bits lies beyond every body.
fn number(text: &str) -> Result<Option<u64>, ()> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_lies_within_the_body(header in "bytes ?= ?[-0-9, ]{0,24}", length: u64) {
            if let RangeRequest::Bytes(range) = RangeRequest::parse(Some(&header), length) {
                assert!(range.start < range.end && range.end <= length, "{header}: {range:?} of {length}");
            }
        }
    }

    #[test]
    fn headers_against_a_body_of_ten_bytes() {
        use RangeRequest::{Bytes, Unsatisfiable, Whole};
        for (header, expected) in [
            ("bytes=0-9", Bytes(0..10)),
            ("bytes=0-0", Bytes(0..1)),
            ("bytes=5-", Bytes(5..10)),
            ("bytes=-5", Bytes(5..10)),
            ("bytes=-50", Bytes(0..10)),
            ("bytes=3-100", Bytes(3..10)),
            ("bytes=3-99999999999999999999999", Bytes(3..10)),
            ("BYTES = 3-4", Bytes(3..5)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-11", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-3", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=a-b", Whole),
            ("bytes=-", Whole),
            ("bytes=5", Whole),
            ("items=0-1", Whole),
            ("nonsense", Whole),
        ] {
            assert_eq!(RangeRequest::parse(Some(header), 10), expected, "{header}");
        }
        assert_eq!(RangeRequest::parse(None, 10), Whole);
        assert_eq!(RangeRequest::parse(Some("bytes=0-0"), 0), Unsatisfiable);
        assert_eq!(RangeRequest::parse(Some("bytes=-1"), 0), Unsatisfiable);
    }
}
