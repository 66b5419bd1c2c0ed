//! A crate's own `clippy.toml` replaces the one at the root, so it has to repeat it.

use super::Violation;
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let root = workspace.read("clippy.toml")?;
    let mut violations = Vec::new();
    for path in workspace.files() {
        if path.ends_with("/clippy.toml") {
            violations.extend(not_repeated(&root, path, &workspace.read(path)?));
        }
    }
    for (member, manifest) in members(workspace)? {
        if !inherits_lints(&manifest) {
            let message = "inherit the lints: `[lints]`, `workspace = true`";
            violations.push(Violation::new(member, message));
        }
    }
    Ok(violations)
}

fn members(workspace: &Workspace) -> anyhow::Result<Vec<(String, String)>> {
    workspace
        .files()
        .iter()
        .filter(|path| path.ends_with("/Cargo.toml") && path.matches('/').count() == 1)
        .map(|path| Ok((path.clone(), workspace.read(path)?)))
        .collect()
}

fn inherits_lints(manifest: &str) -> bool {
    manifest
        .split_once("\n[lints]\n")
        .is_some_and(|(_, rest)| rest.trim_start().starts_with("workspace = true"))
}

fn not_repeated(root: &str, path: &str, own: &str) -> Vec<Violation> {
    root.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter(|line| !own.lines().any(|other| other.trim() == *line))
        .map(|line| Violation::new(path, format!("repeat `{line}` of the root's clippy.toml")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn a_setting_that_is_not_repeated_is_told() {
        let root = "# why\nallow-a = true\nallow-b = false\n";
        assert_eq!(
            not_repeated(
                root,
                "a/clippy.toml",
                "allow-a = true\nallow-b = false\nc = 1\n"
            ),
            []
        );
        assert_eq!(
            not_repeated(root, "a/clippy.toml", "allow-a = true\nallow-b = true\n").len(),
            1
        );
    }

    #[test]
    fn lints_are_inherited_by_the_workspace_key() {
        assert!(inherits_lints("[package]\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\n"));
        assert!(!inherits_lints("[package]\n\n[lints]\nrust.a = \"warn\"\n"));
    }
}
