//! Files of at most 500 lines and functions of at most 70: longer ones are split.
//!
//! What was longer when the rule came is listed in `xtask/ratchet.txt` with the length it may not exceed. An entry that
//! fits its limit must go, so the list only gets shorter; `cargo xtask check --tighten` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Violation;
use crate::source::Source;
use crate::workspace::Workspace;

/// Where the list is.
const RATCHET_PATH: &str = "xtask/ratchet.txt";

/// A reader keeps this much of a file in mind; half of it is better.
const FILE_LINES_MAX: usize = 500;

/// What fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let ratchet = Ratchet::read(workspace)?;
    Ok(compare(&lengths(&workspace.sources()?), &ratchet))
}

/// What is allowed to be longer than the limit, and how long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ratchet {
    longest: BTreeMap<String, usize>,
}

impl Ratchet {
    /// Reads the list; an absent one is empty.
    ///
    /// # Errors
    /// When a line is no `length place`.
    pub(crate) fn read(workspace: &Workspace) -> anyhow::Result<Self> {
        if !workspace.root().join(RATCHET_PATH).exists() {
            return Ok(Self::default());
        }
        Self::parse(&workspace.read(RATCHET_PATH)?)
    }

    /// Writes the list again with what is too long in the workspace; what grew keeps its old length and so stays a
    /// violation, and what is new does not enter.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(crate) fn tighten(workspace: &Workspace) -> anyhow::Result<()> {
        let old = Self::read(workspace)?;
        let tightened = old.tightened(&lengths(&workspace.sources()?));
        std::fs::write(workspace.root().join(RATCHET_PATH), tightened.text())?;
        Ok(())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let longest = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let entry = line.split_once(' ').and_then(|(length, place)| {
                    Some((place.trim().to_owned(), length.parse::<usize>().ok()?))
                });
                entry.ok_or_else(|| anyhow::anyhow!("{RATCHET_PATH}: not `length place`: {line}"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { longest })
    }

    fn tightened(&self, lengths: &BTreeMap<String, Length>) -> Self {
        let longest = self
            .longest
            .iter()
            .filter_map(|(place, allowed)| {
                let length = lengths.get(place).filter(|length| length.is_too_long())?;
                Some((place.clone(), length.lines.min(*allowed)))
            })
            .collect();
        Self { longest }
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for (place, length) in &self.longest {
            let _ = writeln!(text, "{length} {place}");
        }
        text
    }
}

const HEADER: &str = "\
# What was longer than the limits (files 500 lines, functions 70) when they came, with the length it may not exceed.
# Nothing is added here. `cargo xtask check --tighten` lowers the numbers and drops what fits.
";

/// A file's or a function's length.
#[derive(Debug)]
struct Length {
    lines: usize,
    max: usize,
}

impl Length {
    const fn is_too_long(&self) -> bool {
        self.lines > self.max
    }
}

/// The lengths of all files (`path`) and functions (`path name`; of several with one name, the longest).
fn lengths(sources: &[Source]) -> BTreeMap<String, Length> {
    let mut lengths = BTreeMap::new();
    for source in sources {
        let file = Length {
            lines: source.lines(),
            max: FILE_LINES_MAX,
        };
        lengths.insert(source.path.clone(), file);
        for function in source.functions() {
            let place = format!("{} {}", source.path, function.name);
            let entry = lengths.entry(place).or_insert(Length {
                lines: 0,
                max: FUNCTION_LINES_MAX,
            });
            entry.lines = entry.lines.max(function.lines);
        }
    }
    lengths
}

fn compare(lengths: &BTreeMap<String, Length>, ratchet: &Ratchet) -> Vec<Violation> {
    let too_long = lengths
        .iter()
        .filter(|(_, length)| length.is_too_long())
        .filter_map(|(place, length)| {
            let allowed = ratchet.longest.get(place).copied().unwrap_or(length.max);
            let message = format!("{} lines, at most {allowed}: split it", length.lines);
            (length.lines > allowed).then(|| Violation::new(place, message))
        });
    let stale = ratchet
        .longest
        .keys()
        .filter(|place| !lengths.get(*place).is_some_and(Length::is_too_long))
        .map(|place| {
            let message = format!(
                "fits its limit: drop it from {RATCHET_PATH} (`cargo xtask check --tighten`)"
            );
            Violation::new(place, message)
        });
    too_long.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    fn file(lines: usize) -> BTreeMap<String, Length> {
        lengths(&[Source::new("a/src/b.rs", &"//\n".repeat(lines))])
    }

    fn allowing(lines: usize) -> Ratchet {
        Ratchet::parse(&format!("# known\n{lines} a/src/b.rs\n")).unwrap()
    }

    #[test]
    fn a_long_file_is_allowed_only_as_long_as_the_list_says() {
        let cases = [
            (500, Ratchet::default(), true),
            (501, Ratchet::default(), false),
            (600, allowing(600), true),
            (590, allowing(600), true),
            (601, allowing(600), false),
            (500, allowing(600), false),
        ];
        for (lines, ratchet, expected) in cases {
            let kept = compare(&file(lines), &ratchet).is_empty();
            assert_eq!(kept, expected, "{lines} lines with {ratchet:?}");
        }
    }

    #[test]
    fn a_long_function_is_told_by_name() {
        let text = format!("fn long() {{\n{}}}\n", "a();\n".repeat(69));
        let found = compare(
            &lengths(&[Source::new("a/src/b.rs", &text)]),
            &Ratchet::default(),
        );
        assert_eq!(found[0].place, "a/src/b.rs long");
        assert_eq!(found[0].message, "71 lines, at most 70: split it");
    }

    #[test]
    fn tightening_never_raises_and_never_adds() {
        for (lines, before, after) in [
            (550, 600, Some(550)),
            (650, 600, Some(600)),
            (400, 600, None),
        ] {
            let tightened = allowing(before).tightened(&file(lines));
            assert_eq!(tightened.longest.get("a/src/b.rs").copied(), after);
        }
        assert_eq!(Ratchet::default().tightened(&file(700)), Ratchet::default());
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(
            Ratchet::parse(&allowing(600).text()).unwrap(),
            allowing(600)
        );
        assert!(Ratchet::parse("many a.rs\n").is_err());
    }
}
