//! Names as bytes: odd ones, and how they lie to each other.

use super::random::Random;

/// A name that programs stumble over.
pub fn odd_component(random: &mut Random) -> Vec<u8> {
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

/// Whether a path is another or below it.
pub fn starts(path: &[u8], with: &[u8]) -> bool {
    path.strip_prefix(with)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Without slashes and dots at the ends.
pub fn trimmed(mut name: &[u8]) -> &[u8] {
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

/// One component of them all.
pub fn without_slashes(name: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|byte| if *byte == b'/' { b'_' } else { *byte })
        .collect()
}
