//! Which paths a file names.

use super::line_of;

/// Finds every path with at least two parts: those of `use` declarations with their groups written out, and those that
/// stand inline. Renames (`as`) are left out; a glob ends in `*`.
pub(super) fn find(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut inline = code.to_owned();
    for (at, _) in code.match_indices("use ") {
        let starts_item = code[..at].trim_end().ends_with(['{', '}', ';', ']', ')'])
            || code[..at].trim().is_empty()
            || code[..at].trim_end().ends_with("pub");
        let Some(length) = code[at..].find(';').filter(|_| starts_item) else {
            continue;
        };
        let line = line_of(code, at);
        let mut found = Vec::new();
        expand("", &code[at + 4..at + length], &mut found);
        paths.extend(found.into_iter().map(|path| (line, path)));
        let blank: String = code[at..at + length]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect();
        if blank.len() == length {
            inline.replace_range(at..at + length, &blank);
        }
    }
    for (at, line) in inline.lines().enumerate() {
        paths.extend(inline_paths(line).map(|path| (at + 1, path)));
    }
    paths
}

/// Writes out one tree: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, into: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let prefix = format!("{prefix}{}", head.trim());
        let inner = group.trim_end().strip_suffix('}').unwrap_or(group);
        for part in split_group(inner) {
            expand(&prefix, part, into);
        }
        return;
    }
    let path = tree.split_whitespace().next().unwrap_or_default();
    if !path.is_empty() {
        let whole = format!("{prefix}{path}");
        into.push(
            whole
                .trim_start_matches("::")
                .trim_end_matches("::self")
                .to_owned(),
        );
    }
}

/// Splits at the commas that are in no inner group.
fn split_group(group: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}

fn inline_paths(line: &str) -> impl Iterator<Item = String> + '_ {
    line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        find(code).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn groups_are_written_out() {
        let code = "use std::io;\npub use engine::{\n    Config, Engine as Scheduler,\n    time::{Instant, self},\n};\n";
        let expected = [
            "std::io",
            "engine::Config",
            "engine::Engine",
            "engine::time::Instant",
            "engine::time",
        ];
        assert_eq!(names(code), expected);
    }

    #[test]
    fn paths_in_the_code_count_too() {
        let code = "fn a(b: hyper::Request<c::D>) { e::f::<G>(1) }\nuse h::*;\n";
        assert_eq!(names(code), ["h::*", "hyper::Request", "c::D", "e::f"]);
    }

    #[test]
    fn a_path_has_the_line_of_its_declaration() {
        assert_eq!(find("\nuse a::{\n b,\n};\n"), [(2, "a::b".to_owned())]);
    }
}
