//! Tells code from comments and strings.

/// Returns the text twice, line for line and column for column: once with only code, once with only comments.
/// Contents of strings and characters are in neither.
pub(super) fn separate(text: &str) -> (String, String) {
    let mut scanner = Scanner {
        characters: text.chars().collect(),
        at: 0,
        code: String::with_capacity(text.len()),
        comments: String::with_capacity(text.len()),
    };
    while scanner.at < scanner.characters.len() {
        scanner.step();
    }
    (scanner.code, scanner.comments)
}

/// Where a character belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Content,
}

struct Scanner {
    characters: Vec<char>,
    at: usize,
    code: String,
    comments: String,
}

impl Scanner {
    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            (Some('/'), Some('/')) => self.line_comment(),
            (Some('/'), Some('*')) => self.block_comment(),
            (Some('"'), _) => self.string(),
            (Some('r'), Some('"' | '#')) if self.starts_raw_string() => self.raw_string(),
            (Some('\''), _) => self.quote(),
            _ => self.take(Kind::Code),
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn take(&mut self, kind: Kind) {
        let Some(c) = self.peek(0) else { return };
        self.at += 1;
        let shown = |wanted: Kind| if c == '\n' || kind == wanted { c } else { ' ' };
        self.code.push(shown(Kind::Code));
        self.comments.push(shown(Kind::Comment));
    }

    fn take_many(&mut self, count: usize, kind: Kind) {
        for _ in 0..count {
            self.take(kind);
        }
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.take(Kind::Comment);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.take_many(2, Kind::Comment);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.take_many(2, Kind::Comment);
                    if depth == 0 {
                        return;
                    }
                }
                (None, _) => return,
                _ => self.take(Kind::Comment),
            }
        }
    }

    fn string(&mut self) {
        self.take(Kind::Code);
        loop {
            match self.peek(0) {
                None => return,
                Some('"') => return self.take(Kind::Code),
                Some('\\') => self.take_many(2, Kind::Content),
                Some(_) => self.take(Kind::Content),
            }
        }
    }

    /// `r"` or `r#…#"` that is no tail of an identifier; `br` counts, `r#type` does not.
    fn starts_raw_string(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map(|at| self.characters[at]);
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let prefixed = matches!(before(1), Some('b' | 'c')) && !is_part(before(2));
        (prefixed || !is_part(before(1)))
            && self.characters[self.at + 1..]
                .iter()
                .find(|&&c| c != '#')
                .is_some_and(|&c| c == '"')
    }

    fn raw_string(&mut self) {
        self.take(Kind::Code);
        let mut hashes = 0;
        while self.peek(0) == Some('#') {
            hashes += 1;
            self.take(Kind::Code);
        }
        self.take(Kind::Code);
        while let Some(c) = self.peek(0) {
            let closes = c == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            if closes {
                return self.take_many(hashes + 1, Kind::Code);
            }
            self.take(Kind::Content);
        }
    }

    /// A character, or the tick of a lifetime.
    fn quote(&mut self) {
        let is_character = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.take(Kind::Code);
        if !is_character {
            return;
        }
        while let Some(c) = self.peek(0) {
            match c {
                '\'' => return self.take(Kind::Code),
                '\\' => self.take_many(2, Kind::Content),
                _ => self.take(Kind::Content),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_leave_the_code() {
        let cases = [
            (r#"a("todo!"); b"#, r#"a("     "); b"#),
            (r#"a("\"{"); b"#, r#"a("   "); b"#),
            ("a // {\nb", "a     \nb"),
            ("a /* { /* } */ { */ b", "a                   b"),
            ("r#\"{\"}\"# b", "r#\"   \"# b"),
            ("br\"{\" b", "br\" \" b"),
            ("bar\"{\" b", "bar\" \" b"),
            ("'{' b", "' ' b"),
            ("'\\'' b", "'  ' b"),
            ("&'a str {", "&'a str {"),
            ("r#type {", "r#type {"),
            ("\"é{\" b", "\"  \" b"),
        ];
        for (text, expected) in cases {
            assert_eq!(separate(text).0, expected, "{text}");
        }
    }

    #[test]
    fn comments_keep_their_lines() {
        let (_, comments) = separate("let a = \"// no\"; // yes\n/* and\nthis */ b\n");
        let lines: Vec<&str> = comments.lines().map(str::trim).collect();
        assert_eq!(lines, ["// yes", "/* and", "this */"]);
    }
}
