//! The library against the real containerd, docker-registry, skopeo and runc of this machine.
//!
//! Two private containerds pull one image by CRI into roots of their own: their trees must be equal, a changed tree must
//! not be, a container must run, and nothing must be left behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use parapull_bench::layout::Layout;
use parapull_bench::processes::{
    Containerd, ContainerdOptions, Decompressor, DockerRegistry, Workspace, mounts_below,
};
use parapull_bench::tree::{ImageTree, layers_from_snapshots};
use support::{Item, can_run, directory, file, hard_link, hello_program, symlink, write_layout};

fn layers() -> Vec<Vec<Item>> {
    let mut owned = file("srv/owned", 0o640, b"someone's");
    owned.owner = 1234;
    vec![
        vec![
            directory("bin/", 0o755, 1_500_000_000),
            file("bin/hello", 0o755, &hello_program()),
            directory("etc/", 0o750, 1_500_000_001),
            file("etc/one", 0o644, b"one\n"),
            file("etc/gone", 0o644, b"gone\n"),
            directory("var/lib/", 0o1777, 1_500_000_002),
            file("var/lib/old", 0o600, b"old"),
            directory("dev/", 0o755, 1_500_000_003),
            directory("proc/", 0o555, 1_500_000_004),
            directory("sys/", 0o555, 1_500_000_005),
        ],
        vec![
            file("etc/.wh.gone", 0o644, b""),
            file("etc/two", 0o4755, b"two\n"),
            hard_link("etc/two-again", "etc/two"),
            symlink("etc/link", "one"),
            owned,
        ],
        vec![
            file("var/lib/.wh..wh..opq", 0o644, b""),
            file("var/lib/new", 0o600, &vec![7; 300_000]),
            directory("etc/", 0o755, 1_500_000_009),
        ],
    ]
}

struct Pulled {
    containerd: Containerd,
    tree: ImageTree,
}

fn pull(
    workspace: &Workspace,
    name: &str,
    decompressor: Decompressor,
    reference: &str,
    layout: &Layout,
) -> Pulled {
    let folder = workspace.folder(name).unwrap();
    let options = ContainerdOptions {
        decompressor,
        plain_http_hosts: vec![reference.split('/').next().unwrap().to_owned()],
        ..ContainerdOptions::installed().unwrap()
    };
    let containerd = Containerd::start(&folder, &options).unwrap();
    let mut cri = containerd.cri().unwrap();
    assert!(cri.image_status(reference).unwrap().is_none());
    let pulled = cri.pull_image(reference).unwrap();
    let status = cri.image_status(reference).unwrap().unwrap();
    assert_eq!(status.id, pulled.image_id);
    assert!(status.repo_digests[0].ends_with(&layout.digest));
    let diff_ids: Vec<String> = layout
        .layers
        .iter()
        .map(|layer| layer.diff_id.clone())
        .collect();
    let folders = layers_from_snapshots(&containerd.ctr(), "overlayfs", &diff_ids).unwrap();
    let tree = ImageTree::read(
        &folders,
        &layout.contents().unwrap(),
        &folder.join("merged"),
    )
    .unwrap();
    Pulled { containerd, tree }
}

#[test]
fn two_pulls_are_equal_and_a_changed_tree_is_not() {
    if !can_run(
        "containerd",
        &["containerd", "runc", "docker-registry", "skopeo", "unpigz"],
    ) {
        return;
    }
    let workspace = Workspace::new(None).unwrap();
    let path = workspace.path().to_owned();
    let layout_folder = workspace.folder("layout").unwrap();
    write_layout(&layout_folder, &layers(), &["/bin/hello"]);
    let layout = Layout::open(&layout_folder).unwrap();
    let registry = DockerRegistry::start(&workspace.folder("registry").unwrap()).unwrap();
    let reference = registry.load(&layout_folder, "demo:latest").unwrap();

    let one = pull(&workspace, "one", Decompressor::Go, &reference, &layout);
    let two = pull(&workspace, "two", Decompressor::Unpigz, &reference, &layout);

    let differences: Vec<String> = one
        .tree
        .diff(&two.tree)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(one.tree.sha256(), two.tree.sha256());
    assert_merged(&one.tree);

    let output = one
        .containerd
        .ctr()
        .run_container(&reference, "overlayfs", "hello", &[])
        .unwrap();
    assert_eq!(output, "hello from parapull\n");
    assert_a_change_is_seen(&workspace, &two, &layout);

    one.containerd.ctr().remove_image(&reference).unwrap();
    assert!(
        one.containerd
            .cri()
            .unwrap()
            .image_status(&reference)
            .unwrap()
            .is_none()
    );
    drop((one, two, registry, workspace));
    assert_nothing_left(&path);
}

fn assert_merged(tree: &ImageTree) {
    let merged = &tree.merged.entries;
    let has = |path: &str| merged.contains_key(path.as_bytes());
    assert!(has("etc/one") && has("etc/two") && has("var/lib/new"));
    assert!(
        !has("etc/gone") && !has("var/lib/old"),
        "whiteouts hide what is below"
    );
    let etc = &merged[&b"etc"[..]];
    assert_eq!(
        (etc.mode, etc.mtime_ns),
        (0o755, Some(1_500_000_009_000_000_000))
    );
    assert_eq!(
        merged[&b"srv"[..]].mtime_ns,
        None,
        "an implied directory has no time of its own"
    );
    assert_eq!(
        merged[&b"etc/two-again"[..]].hard_link.as_deref(),
        Some(&b"etc/two"[..])
    );
    assert!(
        tree.layers[2].entries[&b"var/lib"[..]]
            .xattrs
            .contains_key(&b"trusted.overlay.opaque"[..])
    );
}

fn assert_a_change_is_seen(workspace: &Workspace, pulled: &Pulled, layout: &Layout) {
    let diff_ids: Vec<String> = layout
        .layers
        .iter()
        .map(|layer| layer.diff_id.clone())
        .collect();
    let folders = layers_from_snapshots(&pulled.containerd.ctr(), "overlayfs", &diff_ids).unwrap();
    fs::write(folders[0].join("etc/one"), b"eno\n").unwrap();
    let point = workspace.folder("changed").unwrap();
    let changed = ImageTree::read(&folders, &layout.contents().unwrap(), &point).unwrap();
    let differences: Vec<String> = pulled
        .tree
        .diff(&changed)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        differences
            .iter()
            .any(|line| line.starts_with("layer 0 /etc/one: content ")),
        "{differences:#?}"
    );
    assert!(
        differences
            .iter()
            .any(|line| line.starts_with("merged /etc/one: mtime ")),
        "{differences:#?}"
    );
    assert_ne!(pulled.tree.sha256(), changed.sha256());
}

fn assert_nothing_left(path: &Path) {
    assert!(!path.exists(), "{} is left", path.display());
    assert!(mounts_below(path).is_empty());
    let processes = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    let left: Vec<&str> = processes
        .lines()
        .filter(|line| line.contains(path.to_str().unwrap()))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}
