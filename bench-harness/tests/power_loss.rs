//! What a power failure takes comes back by itself: the daemon makes a real containerd forget what is gone, and the next pull
//! brings it again.
//!
//! The machine goes on, of course: the daemon is killed and told that the kernel was started anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;

use fake_registry::{CraftedImage, HELLO_OUTPUT};
use parapull_scenario::{ImageSpec, RegistryProfile};
use support::node::{Node, Registry, chain_ids, crafted, programs, wait_until};
use tokio::runtime::Builder;

fn model() -> CraftedImage {
    crafted(&ImageSpec::preset("ml-like:30MB").unwrap())
}

/// Layers are synced when their pull has ended; those that are committed before may be hollow after the failure.
#[test]
fn layers_that_were_never_synced_are_pulled_again() {
    let Some(programs) = programs("layers_that_were_never_synced_are_pulled_again") else {
        return;
    };
    let image = model();
    let images = [("app:1", &image)];
    let throttled = RegistryProfile {
        total_bytes_per_second: NonZeroU64::new(3_000_000),
        ..RegistryProfile::default()
    };
    let mut registry = Registry::serve(&images, throttled, Vec::new());
    let mut node = Node::start(&programs, &registry.host, &[]);
    let reference = registry.reference("app:1");
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pull = node.begin_pull(&runtime, &reference);
    let bottom = chain_ids(&image).swap_remove(0);
    wait_until("a committed layer", || node.snapshots().contains(&bottom));
    // Or containerd would collect the layers of a pull that failed, and so forget them unasked.
    let ctr = node.containerd.ctr();
    ctr.prepare("parapull", "holder", &bottom).unwrap();
    node.lose_power(|| {});
    assert!(runtime.block_on(pull).unwrap().is_err());
    assert!(
        !node.snapshots().contains(&bottom),
        "it may be a tree of empty files"
    );
    registry.heal(&images);
    // A pull that comes before containerd has forgotten fails as one does whose daemon is just starting; kubelet comes again.
    wait_until("a pull that succeeds", || node.pull(&reference).is_ok());
    assert!(registry.layer_bytes(&[&image])[&image.layers[0].digest] > 0);
    assert_whole(&node, &image, &reference);
}

/// A whole image with a container's snapshot above it and a second namespace that shares it.
#[test]
fn an_image_whose_bottom_layer_is_lost_is_pulled_again() {
    let Some(programs) = programs("an_image_whose_bottom_layer_is_lost_is_pulled_again") else {
        return;
    };
    let image = model();
    let registry = Registry::healthy(&[("app:1", &image)]);
    let mut node = Node::start(&programs, &registry.host, &[]);
    let reference = registry.reference("app:1");
    let pull_elsewhere = |node: &Node| {
        let output = node.client_pull(&reference, "elsewhere").output();
        output.unwrap().status.success()
    };
    node.pull_well(&reference);
    assert!(pull_elsewhere(&node));
    let before = node.tree(&image).sha256();
    let sent = registry.layer_bytes(&[&image]);
    let top = chain_ids(&image).pop().unwrap();
    let ctr = node.containerd.ctr();
    ctr.prepare("parapull", "container", &top).unwrap();
    let bottom = bottom_directory(&ctr.mounts("parapull", "container").unwrap());

    node.lose_power(|| fs::remove_dir_all(&bottom).unwrap());
    let mut cri = node.containerd.cri().unwrap();
    wait_until("an image that kubelet asks for", || {
        cri.image_status(&reference).unwrap().is_none()
    });
    // The image goes before the last of its layers is forgotten; a pull that comes in between fails, and kubelet comes again.
    wait_until("a pull that succeeds", || node.pull(&reference).is_ok());
    let again = registry.layer_bytes(&[&image]);
    for (digest, bytes) in sent {
        assert!(again[&digest] >= 2 * bytes, "{digest}");
    }
    assert_eq!(node.tree(&image).sha256(), before);
    assert_whole(&node, &image, &reference);
    wait_until("a container's name that is free", || {
        node.containerd
            .ctr()
            .prepare("parapull", "container", &top)
            .is_ok()
    });
    wait_until("a pull elsewhere", || pull_elsewhere(&node));
}

/// The files are those of an image pulled by nobody else, and the image runs.
#[track_caller]
fn assert_whole(node: &Node, image: &CraftedImage, reference: &str) {
    let programs = programs("assert_whole").unwrap();
    let registry = Registry::healthy(&[("alone:1", image)]);
    let other = Node::start(&programs, &registry.host, &[]);
    other.pull_well(&registry.reference("alone:1"));
    assert_eq!(node.tree(image).sha256(), other.tree(image).sha256());
    assert_eq!(node.run_hello(reference), HELLO_OUTPUT);
}

/// The snapshot directory of the lowest layer of an overlay mount.
fn bottom_directory(mounts: &str) -> PathBuf {
    let (_, lowers) = mounts.split_once("lowerdir=").unwrap();
    let lowers = lowers.split([',', ' ']).next().unwrap();
    let bottom = PathBuf::from(lowers.rsplit(':').next().unwrap());
    bottom.parent().unwrap().to_path_buf()
}
