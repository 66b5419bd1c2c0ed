//! Resolves quoted texts: Go's string syntax, also between slashes and pipes.

/// The text within the quotes with all escapes resolved; none if it is not properly quoted or not UTF-8.
pub(super) fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(rune) = rest.next() {
        match rune {
            '\\' => {
                let escape = rest.next()?;
                let (count, radix) = match escape {
                    'x' => (2, 16),
                    'u' => (4, 16),
                    'U' => (8, 16),
                    '0'..='7' => (2, 8),
                    _ => {
                        bytes.push(simple(escape, quote)?);
                        continue;
                    }
                };
                let first = if radix == 8 { escape.to_digit(8)? } else { 0 };
                let value = digits(&mut rest, first, count, radix)?;
                match escape {
                    'u' | 'U' => push(&mut bytes, char::from_u32(value)?),
                    _ => bytes.push(u8::try_from(value).ok()?),
                }
            }
            _ if rune == quote => return None,
            _ => push(&mut bytes, rune),
        }
    }
    String::from_utf8(bytes).ok()
}

/// An escape of one letter, or the quote itself.
fn simple(escape: char, quote: char) -> Option<u8> {
    let byte = match escape {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        _ if escape == quote => u8::try_from(quote).ok()?,
        _ => return None,
    };
    Some(byte)
}

fn digits(rest: &mut std::str::Chars<'_>, first: u32, count: u32, radix: u32) -> Option<u32> {
    (0..count).try_fold(first, |value, _| {
        let digit = rest.next()?.to_digit(radix)?;
        value.checked_mul(radix)?.checked_add(digit)
    })
}

fn push(bytes: &mut Vec<u8>, rune: char) {
    bytes.extend_from_slice(rune.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::unquote;

    #[test]
    fn resolves_go_s_escapes() {
        let table = [
            (r#""plain""#, Some("plain")),
            (r#""a\\b \" c""#, Some("a\\b \" c")),
            (r"/a\/b/", Some("a/b")),
            (r"|a\|b|", Some("a|b")),
            (r#""\x41\u00e9\U0001F600\101""#, Some("Aé😀A")),
            (r#""\xc3\xa9""#, Some("é")),
            (r#""\n\t\a""#, Some("\n\t\u{7}")),
            (r#""""#, Some("")),
            (r#"""#, None),
            (r#""\/""#, None),
            (r#""\x4""#, None),
            (r#""\ud800""#, None),
            (r#""\777""#, None),
            (r#""\xff""#, None),
            ("", None),
        ];
        for (text, resolved) in table {
            assert_eq!(unquote(text).as_deref(), resolved, "{text}");
        }
    }
}
