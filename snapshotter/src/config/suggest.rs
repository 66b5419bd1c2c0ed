//! Which known name somebody may have meant.

/// The known name nearest to `unknown`, if one is near enough to be worth a mention.
///
/// A right name in the wrong table is nearer than a wrong one in the right table, as that is the commoner mistake. Of
/// names equally near, the first is meant.
pub(super) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .filter_map(|name| Some((distance(unknown, name)?, name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits between two paths, or `None` if they are too far apart to be meant for each other.
fn distance(unknown: &str, known: &str) -> Option<usize> {
    let (unknown_name, known_name) = (last(unknown), last(known));
    let edits = if unknown_name == known_name {
        0
    } else {
        edits(unknown_name, known_name)
    };
    // A third of the name wrong is a slip; more is another word.
    (edits * 3 <= known_name.chars().count())
        .then_some(2 * edits + usize::from(!same_table(unknown, known)))
}

/// Insertions, deletions, replacements and swaps of neighbours that make one of the other.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from
        .chars()
        .take(NAME_CHARS_MAX)
        .flat_map(char::to_lowercase)
        .collect();
    let to: Vec<char> = to.chars().flat_map(char::to_lowercase).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let mut edits = (last[column] + usize::from(a != b))
                .min(last[column + 1] + 1)
                .min(current[column] + 1);
            if row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b {
                edits = edits.min(before_last[column - 1] + 1);
            }
            current.push(edits);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(from.len())
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn same_table(a: &str, b: &str) -> bool {
    a.rsplit_once('.').map(|(table, _)| table) == b.rsplit_once('.').map(|(table, _)| table)
}

/// No known name is as long; what is longer need not be compared to its end.
const NAME_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (from, to, expected) in [
            ("", "abc", 3),
            ("window", "window", 0),
            ("windwo", "window", 1),
            ("Window", "window", 0),
            ("cancel-grace", "cancel_grace", 1),
            ("thread", "threads", 1),
            ("sync", "window", 5),
        ] {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn prefers_the_same_table_and_the_nearest_name() {
        let known = ["a.window", "b.window", "b.windows", "a.threads"];
        for (unknown, expected) in [
            ("b.window", Some("b.window")),
            ("window", Some("a.window")),
            ("b.widow", Some("b.window")),
            ("c.thread", Some("a.threads")),
            ("a.elephants", None),
        ] {
            assert_eq!(nearest(unknown, known), expected, "{unknown}");
        }
    }
}
