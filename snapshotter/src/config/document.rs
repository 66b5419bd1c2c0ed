//! From a TOML text to keys and values with their lines, each known, ignored or wrong.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::IgnoredKey;
use super::error::Problem;
use super::keys::{self, KEYS, Key};
use super::values::{Found, quoted};
use super::{foreign, suggest};

/// What stands in a file.
#[derive(Default)]
pub(super) struct Document {
    /// Keys we honour.
    pub(super) entries: Vec<Entry>,
    /// Keys without effect.
    pub(super) ignored: Vec<IgnoredKey>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// Whether SOCI's table is there, however empty.
    pub(super) has_soci_table: bool,
}

/// A key we honour, and what it holds.
pub(super) struct Entry {
    pub(super) key: &'static Key,
    pub(super) line: usize,
    pub(super) found: Found,
}

impl Document {
    /// Reads a text. If it is no TOML, only that is told.
    pub(super) fn read(text: &str) -> Self {
        let mut document = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            document.walk(table.get_ref(), "", text);
            // A map yields its keys by name; people read a file from the top.
            document.entries.sort_by_key(|entry| entry.line);
            document.ignored.sort_by_key(|ignored| ignored.line);
        }
        for error in errors.iter().take(SYNTAX_PROBLEMS_MAX) {
            document.problems.push(Problem {
                line: error.span().map(|span| line_at(text, span.start)),
                key: None,
                message: format!("not TOML: {}", error.message()),
            });
        }
        document
    }

    fn walk(&mut self, table: &DeTable<'_>, prefix: &str, text: &str) {
        for (name, value) in table {
            let path = joined(prefix, name.get_ref());
            let line = line_at(text, name.span().start);
            self.visit(&path, line, value, text);
        }
    }

    fn visit(&mut self, path: &str, line: usize, value: &Spanned<DeValue<'_>>, text: &str) {
        if let Some(key) = keys::at(path) {
            let found = Found::in_file(value.get_ref());
            self.entries.push(Entry { key, line, found });
        } else if let Some(reason) = foreign::reason(path) {
            self.refuse_insecure_mirrors(path, value, text);
            let key = path.to_owned();
            self.ignored.push(IgnoredKey { key, line, reason });
        } else if !is_table(path) {
            self.problem(line, path, unknown(path, value));
        } else if let DeValue::Table(table) = value.get_ref() {
            self.has_soci_table |= path == keys::SOCI;
            self.walk(table, path, text);
        } else {
            self.problem(line, path, format!("must be a table: write [{path}]"));
        }
    }

    /// A mirror marked so switches SOCI's parallel mode to plain HTTP, so it must not be passed over.
    fn refuse_insecure_mirrors(&mut self, path: &str, value: &Spanned<DeValue<'_>>, text: &str) {
        if path != MIRRORS {
            return;
        }
        let mut waiting = vec![value];
        while let Some(value) = waiting.pop() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    for (name, value) in table {
                        if *name.get_ref() == "insecure"
                            && matches!(value.get_ref(), DeValue::Boolean(true))
                        {
                            let line = line_at(text, name.span().start);
                            self.problem(line, path, INSECURE.to_owned());
                        }
                        waiting.push(value);
                    }
                }
                DeValue::Array(values) => waiting.extend(values.iter()),
                _ => {}
            }
        }
    }

    fn problem(&mut self, line: usize, path: &str, message: String) {
        self.problems.push(Problem {
            line: Some(line),
            key: Some(path.to_owned()),
            message,
        });
    }
}

/// Whether a table at `path` may hold something.
fn is_table(path: &str) -> bool {
    let holds = |key: &Key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    KEYS.iter().any(holds) || foreign::has_table(path)
}

fn unknown(path: &str, value: &Spanned<DeValue<'_>>) -> String {
    if let DeValue::Table(_) = value.get_ref() {
        return unknown_table(path, value);
    }
    let foreign: Vec<_> = foreign::paths().collect();
    // What has an effect comes first, for it is meant more often than what has none.
    let honoured = KEYS.iter().map(|key| key.path);
    let nearest = suggest::nearest(path, honoured.chain(foreign.iter().map(String::as_str)));
    match nearest {
        Some(nearest) => format!("unknown key; did you mean {nearest}?"),
        None => format!("unknown key; {SHOWS_ALL}"),
    }
}

/// A table is known by what it holds (such as our keys in containerd's own configuration), or else by its name.
fn unknown_table(path: &str, value: &Spanned<DeValue<'_>>) -> String {
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        let DeValue::Table(table) = value.get_ref() else {
            continue;
        };
        for (name, value) in table {
            let meant = KEYS
                .iter()
                .find(|key| key.is_flat() && key.name() == *name.get_ref());
            if let Some(key) = meant {
                return format!("unknown table; {} belongs in [{}]", key.name(), key.table());
            }
            waiting.push(value);
        }
    }
    let foreign: Vec<_> = foreign::paths().collect();
    let mut tables: Vec<&str> = KEYS.iter().map(Key::table).collect();
    tables.extend(
        foreign
            .iter()
            .filter_map(|path| Some(path.rsplit_once('.')?.0)),
    );
    tables.retain(|table| !table.is_empty());
    match suggest::nearest(path, tables) {
        Some(nearest) => format!("unknown table; did you mean [{nearest}]?"),
        None => format!("unknown table; {SHOWS_ALL}"),
    }
}

/// A path with one more name, which is quoted if it would look like several.
fn joined(prefix: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let name = if bare { name.to_owned() } else { quoted(name) };
    if prefix.is_empty() {
        name
    } else {
        format!("{prefix}.{name}")
    }
}

/// The line a byte is on, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

const SHOWS_ALL: &str = "`parapull-snapshotter config default` shows all there are";
const MIRRORS: &str = "resolver.host";
const INSECURE: &str = "insecure = true would make every registry be spoken to without TLS; it is not built yet: remove \
     it (registries on this machine are spoken to without TLS anyway)";
/// What follows the first few syntax errors is seldom of interest.
const SYNTAX_PROBLEMS_MAX: usize = 5;
