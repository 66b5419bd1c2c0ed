//! Plain use compared with containerd's overlayfs snapshotter: the same image through both must give the same trees, and run.
//!
//! Method: an image with what layers can hold, made by hand, is imported once per snapshotter into one private containerd; then every
//! layer's directory is compared entry by entry.

#[path = "conformance/containerd.rs"]
mod containerd;
#[path = "conformance/image.rs"]
mod image;
#[path = "conformance/served.rs"]
mod served;
#[path = "conformance/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;
use std::process::Command;

use containerd::{Containerd, missing};
use image::archive;
use served::{Served, skip, temporary_directory};
use tree::entries_of;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_image_has_the_same_trees_as_under_overlayfs_and_runs() {
    const TEST: &str = "an_imported_image_has_the_same_trees_as_under_overlayfs_and_runs";
    if let Some(why) = missing() {
        return skip(TEST, why);
    }
    let root = temporary_directory();
    let served = Served::start(root.path()).await;
    let containerd = Containerd::start(root.path(), served.socket());
    let image = root.path().join("image.tar");
    fs::write(&image, archive(Path::new(BUSYBOX))).unwrap();
    for (namespace, snapshotter) in [("theirs", "overlayfs"), ("ours", "parapull")] {
        let path = image.to_str().unwrap();
        containerd
            .ctr(&[
                "-n",
                namespace,
                "images",
                "import",
                "--snapshotter",
                snapshotter,
                path,
            ])
            .unwrap();
    }

    let theirs = root
        .path()
        .join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let ours = served.store.root().join("snapshots");
    for id in 1..=image::LAYERS {
        let (theirs, ours) = (
            theirs.join(format!("{id}/fs")),
            ours.join(format!("{id}/fs")),
        );
        let (expected, found) = (entries_of(&theirs), entries_of(&ours));
        assert!(
            expected.len() > 3,
            "layer {id} is too small to show anything: {expected:#?}"
        );
        assert_eq!(found, expected, "layer {id}");
    }

    let runnable =
        Path::new(BUSYBOX).is_file() && Command::new("runc").arg("--version").output().is_ok();
    if runnable {
        let arguments = [
            "-n",
            "ours",
            "run",
            "--rm",
            "--snapshotter",
            "parapull",
            image::NAME,
            "container",
        ];
        let command = [
            "/bin/busybox",
            "sh",
            "-c",
            "cat /etc/kept; ls /opaque; echo written > /new; cat /new",
        ];
        let output = containerd
            .ctr(&[&arguments[..], &command].concat())
            .unwrap();
        assert_eq!(output, "kept in layer 1\nnew\nwritten\n");
    } else {
        skip(
            TEST,
            "running the image needs runc and a static /bin/busybox",
        );
    }
    served.stop().await;
}

const BUSYBOX: &str = "/bin/busybox";
