//! The files in `deploy/` say the same as each other: one socket, one root, one name, and nothing known to break pulls.

use super::Violation;
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for path in workspace.files() {
        if path.starts_with("deploy/containerd/") {
            violations.extend(in_fragment(path, &workspace.read(path)?));
        } else if path == "deploy/parapull-snapshotter.socket" {
            let listens = format!("ListenStream={SOCKET}");
            violations.extend(lacking(path, &workspace.read(path)?, &[&listens]));
        } else if path == "deploy/parapull-snapshotter.service" {
            let text = workspace.read(path)?;
            violations.extend(lacking(
                path,
                &text,
                &["Type=notify", "Before=containerd.service"],
            ));
            violations.extend(in_service(path, &text));
        }
    }
    Ok(violations)
}

fn in_fragment(path: &str, text: &str) -> Vec<Violation> {
    let address = format!("address = \"{SOCKET}\"");
    let mut violations = lacking(
        path,
        text,
        &[
            "[proxy_plugins.parapull]",
            "type = \"snapshot\"",
            &address,
            "snapshotter = \"parapull\"",
            "disable_snapshot_annotations = false",
        ],
    );
    if settings(text).any(|line| line.starts_with("capabilities")) {
        let message =
            "no `capabilities`: \"rebase\" makes containerd commit layers without their parents";
        violations.push(Violation::new(path, message));
    }
    violations
}

/// What gives the service a mount namespace or a device policy of its own makes it unable to do its work.
fn in_service(path: &str, text: &str) -> Vec<Violation> {
    settings(text)
        .filter(|line| {
            HIDES_MOUNTS_OR_DEVICES
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| Violation::new(path, format!("`{line}` hides mounts or forbids devices")))
        .collect()
}

fn lacking(path: &str, text: &str, wanted: &[&str]) -> Vec<Violation> {
    wanted
        .iter()
        .filter(|line| !settings(text).any(|other| other == **line))
        .map(|line| Violation::new(path, format!("lacks `{line}`")))
        .collect()
}

fn settings(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The default of `parapull-snapshotter serve --address`.
const SOCKET: &str = "/run/parapull/snapshotter.sock";

const HIDES_MOUNTS_OR_DEVICES: &[&str] = &[
    "DeviceAllow=",
    "DevicePolicy=",
    "PrivateDevices=",
    "PrivateMounts=",
    "PrivateTmp=",
    "ProtectClock=",
    "ProtectControlGroups=",
    "ProtectHome=",
    "ProtectKernel",
    "ProtectSystem=",
    "ReadWritePaths=",
    "RestrictSUIDSGID=",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn a_fragment_must_hand_us_the_labels_and_must_not_rebase() {
        let good = Workspace::find()
            .unwrap()
            .read("deploy/containerd/1.6.toml")
            .unwrap();
        assert_eq!(in_fragment("a", &good), []);
        let silent = good.replace("disable_snapshot_annotations = false", "");
        assert_eq!(in_fragment("a", &silent).len(), 1);
        let rebasing = format!("{good}\ncapabilities = [\"rebase\"]\n");
        assert_eq!(in_fragment("a", &rebasing).len(), 1);
    }

    #[test]
    fn a_namespace_of_its_own_is_told() {
        assert_eq!(
            in_service("a", "ProtectSystem=strict\n# PrivateTmp=yes\n").len(),
            1
        );
    }
}
