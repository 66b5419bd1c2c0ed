//! How long functions are.
//!
//! A function counts from the line with `fn` to the line that closes its body; a function inside another counts in both.
//! Bodies that a macro writes are not seen.

use super::line_of;

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its bare name.
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    /// From that line to its closing brace, both counted.
    pub(crate) lines: usize,
}

/// Finds them in code without comments and strings.
pub(super) fn find(code: &str) -> Vec<Function> {
    code.match_indices("fn ")
        .filter(|&(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .filter_map(|(at, _)| {
            let name = name_at(&code[at + 3..])?;
            let open = body_start(code, at)?;
            let close = super::item_end(code, open);
            let line = line_of(code, at);
            Some(Function {
                name: name.to_owned(),
                line,
                lines: line_of(code, close) - line + 1,
            })
        })
        .collect()
}

fn name_at(rest: &str) -> Option<&str> {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (end > 0).then_some(&rest[..end])
}

/// The `{` of the body, unless a `;` says there is none.
fn body_start(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(from + at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(code: &str) -> Vec<(String, usize, usize)> {
        find(code)
            .into_iter()
            .map(|function| (function.name, function.line, function.lines))
            .collect()
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let code = "impl A {\n    fn a(&self) -> u8 {\n        if b { c }\n        1\n    }\n    fn d() {}\n}\n";
        assert_eq!(lengths(code), [("a".into(), 2, 4), ("d".into(), 6, 1)]);
    }

    #[test]
    fn declarations_and_pointers_are_no_functions() {
        let code = "trait A { fn a(&self, b: [u8; 4]) -> [u8; 2]; }\ntype B = fn (u8) -> u8;\n";
        assert_eq!(lengths(code), []);
    }

    #[test]
    fn arrays_in_a_signature_do_not_end_it() {
        assert_eq!(lengths("fn a(b: [u8; 4])\n{\n}\n"), [("a".into(), 1, 3)]);
    }
}
