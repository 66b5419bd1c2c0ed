//! Every strategy, in ranges and whole, makes the same trees of the same image.

use super::command::{Pull, is_root};
use super::images::TestImage;
use super::served::Served;
use super::tree::Tree;

#[test]
fn every_strategy_makes_the_same_trees_of_odd_entries() {
    compare("metadata");
}

#[test]
fn every_strategy_makes_the_same_trees_of_a_tiny_image() {
    compare("tiny");
}

#[test]
fn every_strategy_makes_the_same_trees_of_a_model_image() {
    compare("ml-like:30MB");
}

#[test]
fn every_strategy_makes_the_same_trees_of_125_layers() {
    compare("many-layers");
}

#[test]
fn duplicate_and_empty_layers_have_a_folder_each_and_are_fetched_once() {
    if !is_root("duplicate_and_empty_layers") {
        return;
    }
    let image = TestImage::of_yaml(
        r#"{"name": "repeats", "seed": 3, "layers": [
            {"uncompressed_bytes": "100kb", "files": 4}, {"files": 0}, {"duplicate_of": 1}, {"duplicate_of": 0},
            {"uncompressed_bytes": "300kb", "files": 2, "media_type": "zstd:3"},
            {"uncompressed_bytes": "90kb", "files": 2, "media_type": "uncompressed"},
            {"duplicate_of": 4}, {"duplicate_of": 0}, {"duplicate_of": 1}]}"#,
    );
    let served = Served::healthy(image);
    for strategy in STRATEGIES {
        let before = served.layer_bytes_sent();
        let pull = Pull::of(&served).with(&["--strategy", strategy]);
        let figures = pull.run().figures();
        let trees = pull.trees(&served.image);
        assert_files(&served.image, &trees);
        // The bottom layer is applied by rules of its own, so its blob may be read once more for its upper places.
        let bottom = served.image.layers[0].compressed_bytes;
        let sent = served.layer_bytes_sent() - before;
        assert_eq!(sent, served.image.compressed_bytes() + bottom, "{strategy}");
        assert_eq!(figures["bytes_fetched"], sent, "{strategy}");
        assert_eq!(figures["layers"].as_array().unwrap().len(), 9);
    }
}

fn compare(preset: &str) {
    if !is_root(preset) {
        return;
    }
    let served = Served::healthy(TestImage::preset(preset));
    let mut first: Option<Vec<Tree>> = None;
    for strategy in STRATEGIES {
        for chunk in ["0", "64kb"] {
            let pull = Pull::of(&served)
                .with(&["--strategy", strategy])
                .set(&format!("concurrent_download_chunk_size={chunk}"));
            let figures = pull.run().figures();
            assert_eq!(figures["strategy"], strategy);
            assert_eq!(figures["bytes_fetched"], served.image.compressed_bytes());
            assert_eq!(
                (&figures["bytes_retried"], &figures["retries"]),
                (&0.into(), &0.into())
            );
            let trees = pull.trees(&served.image);
            match &first {
                Some(first) => assert_eq!(&trees, first, "{strategy} in chunks of {chunk}"),
                None => {
                    assert_files(&served.image, &trees);
                    first = Some(trees);
                }
            }
        }
    }
}

/// Every regular file of every archive is there with its content, unless a later entry of the archive replaced it.
fn assert_files(image: &TestImage, trees: &[Tree]) {
    for (index, tree) in trees.iter().enumerate() {
        let (_, files) = image.entries(index);
        let last: std::collections::BTreeMap<_, _> = files.into_iter().collect();
        for (path, content) in last {
            let name = String::from_utf8_lossy(&path).into_owned();
            if name.contains(".wh.") {
                continue;
            }
            let node = tree.0.get(&path);
            let found = node.and_then(|node| node.content);
            let replaced = node.is_some_and(|node| node.kind != 'f');
            assert!(
                replaced || found == Some(content),
                "layer {index} {name}: {found:?}"
            );
        }
    }
}

pub const STRATEGIES: [&str; 4] = ["sequential", "multipart", "store-then-unpack", "streamed"];
