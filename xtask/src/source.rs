//! A Rust source file as the rules read it: code and comments apart, and which lines are tests.
//!
//! This is a scanner, no parser: it knows comments, strings, characters, braces and `use` trees, and nothing of macros
//! or types. What a rule approximates because of that stands at the rule.

mod functions;
mod mask;
mod paths;

pub(crate) use functions::Function;

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path below the root of the project.
    pub(crate) path: String,
    /// The text with comments and the contents of strings blanked; same lines, same columns.
    pub(crate) code: String,
    /// The text with everything but comments blanked.
    pub(crate) comments: String,
    /// For every line, whether it belongs to a test.
    test_lines: Vec<bool>,
    first_line: String,
}

impl Source {
    /// Reads `text` as the file at `path`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = mask::separate(text);
        let test_lines = test_lines(path, &code);
        Self {
            path: path.to_owned(),
            code,
            comments,
            test_lines,
            first_line: text.lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// How many lines it has.
    pub(crate) fn lines(&self) -> usize {
        self.code.lines().count()
    }

    /// Its first line as it is written.
    pub(crate) fn first_line(&self) -> &str {
        &self.first_line
    }

    /// Whether the line, counted from 1, is in a test file or in an item under `#[cfg(test)]`.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// Lines of code with their numbers from 1.
    pub(crate) fn numbered_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        functions::find(&self.code)
    }

    /// Every path named in the code with its line: `use` trees written out, and what stands inline with `::`.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        paths::find(&self.code)
    }
}

/// Whether `code` holds `word` as a whole: no identifier character touches its ends.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let open_start = !word.starts_with(is_part);
    let open_end = !word.ends_with(is_part);
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        (open_start || !before.is_some_and(is_part)) && (open_end || !after.is_some_and(is_part))
    })
}

fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let count = code.lines().count();
    let is_test_file =
        path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs");
    if is_test_file {
        return vec![true; count];
    }
    let mut lines = vec![false; count];
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code, at + "#[cfg(test)]".len());
        let first = line_of(code, at);
        let last = line_of(code, end);
        for line in &mut lines[first - 1..last.min(count)] {
            *line = true;
        }
    }
    lines
}

/// Where the item that starts after `from` ends: at its `;`, or at the brace that closes its first one.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            ';' if depth == 0 => return from + at,
            '{' => depth += 1,
            '}' if depth <= 1 => return from + at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The number, from 1, of the line that byte `at` is in.
fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_only_whole() {
        let cases = [
            ("let e = Engine::new()", "Engine", true),
            ("let e = EngineConfig::new()", "Engine", false),
            ("let e = MyEngine::new()", "Engine", false),
            ("SpoolFile::create(p)", "File::create", false),
            ("fs::File::create(p)", "File::create", true),
            ("std::thread::sleep(d)", "thread::sleep(", true),
            ("dbg!(x)", "dbg!", true),
            ("#[ignore]", "#[ignore", true),
        ];
        for (code, word, expected) in cases {
            assert_eq!(has_word(code, word), expected, "{word} in {code}");
        }
    }

    #[test]
    fn tests_inside_a_file_are_known_by_their_attribute() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { if x { y } }\n}\nfn c() {}\n";
        let source = Source::new("sim/src/a.rs", text);
        let tests: Vec<bool> = (1..=6).map(|line| source.is_test(line)).collect();
        assert_eq!(tests, [false, true, true, true, true, false]);
    }

    #[test]
    fn an_attribute_on_a_declaration_covers_only_it() {
        let source = Source::new(
            "sim/src/a.rs",
            "#[cfg(test)]\nmod tests;\nfn c() { sleep() }\n",
        );
        assert!(source.is_test(2));
        assert!(!source.is_test(3));
    }

    #[test]
    fn files_in_test_folders_are_tests() {
        for path in [
            "sim/tests/a.rs",
            "sim/src/store/tests/a.rs",
            "sim/src/image/tests.rs",
        ] {
            assert!(Source::new(path, "fn a() {}\n").is_test(1), "{path}");
        }
        assert!(!Source::new("sim/src/contests.rs", "fn a() {}\n").is_test(1));
    }
}
