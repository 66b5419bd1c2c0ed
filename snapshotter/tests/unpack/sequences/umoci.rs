//! A second judge: `umoci`, which unpacks all layers into one directory.
//!
//! It means the same as the image specification where these stay out, as [`Taste::Tame`](super::Taste) keeps them: paths
//! through symlinks (umoci writes through those of lower layers, overlayfs replaces them), whiteouts in the bottom layer
//! (containerd deletes what the layer wrote before them), default ACLs, setgid bits (there implied directories inherit them), empty extended attributes (umoci loses them), two entries
//! with one path (of the first of them umoci remembers what it removed) and hard links to lower layers. Not compared:
//! directories that only whiteouts need (umoci does not make them), attributes of directories where a marker may hide those
//! that containerd copies (umoci has removed them), times of directories (umoci's are those of the last change below some of them) and those that no file can have. Hard links say
//! what their target said (umoci does not apply their own header).

use std::path::{Path, PathBuf};
use std::process::Command;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{FixError, Position};

use super::super::archive::Member;
use super::super::lane::{Layer, at, place};
use super::super::machine::Mounted;
use super::super::tree::{Node, Tree};
use super::generate::Plan;

/// False, loudly, where there is no umoci.
pub fn is_installed() -> bool {
    let is_installed = Command::new("umoci").arg("--version").output().is_ok();
    if !is_installed {
        eprintln!("SKIPPED comparison with umoci: needs umoci");
        assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
    }
    is_installed
}

/// Compares the merged views; false if there is nothing to compare because one of both refuses the sequence.
///
/// # Errors
/// What differs.
pub fn judge(plans: &[Plan]) -> Result<bool, String> {
    let has_whiteout = |plan: &Plan| plan.members().any(Member::is_whiteout);
    if plans.first().is_none_or(has_whiteout) {
        return Ok(false);
    }
    let place = place();
    let tars: Vec<Vec<u8>> = plans.iter().map(Plan::tar).collect();
    let rootfs = place.path().join("rootfs");
    let theirs = unpack(&tars, place.path(), &rootfs);
    let mut layers: Vec<Layer> = Vec::new();
    for tar in &tars {
        let lowers: Vec<PathBuf> = layers.iter().map(Layer::root).collect();
        let position = if lowers.is_empty() {
            Position::Bottom
        } else {
            Position::Upper
        };
        let layer = match at(tar, position) {
            Ok(layer) => layer,
            Err(_) if theirs.is_err() => return Ok(false),
            Err(error) => return Err(format!("refused with {error}, umoci accepts it")),
        };
        match layer.staged.fix_implied(&lowers) {
            Ok(()) => {}
            Err(FixError::NeedsParents { .. }) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
        layers.insert(0, layer);
    }
    // A file of a lower layer above an implied directory is replaced here and by containerd, and refused by umoci.
    if theirs.is_err() {
        return Ok(false);
    }
    let is_opaque = |member: &Member| member.data_or_name_contains(b".wh..wh..opq");
    let has_opaque = plans.iter().any(|plan| plan.members().any(is_opaque));
    let roots: Vec<PathBuf> = layers.iter().map(Layer::root).collect();
    let ours = if let [root] = &roots[..] {
        comparable(&Tree::read(root), has_opaque)
    } else {
        let opaque = layers.iter().position(|layer| layer.staged.opaque_root);
        let height = opaque.map_or(layers.len(), |index| index + 1).max(2);
        let mounted = Mounted::overlay(&roots[..height], place.path().join("merged"))
            .map_err(|errno| format!("mount: {errno}"))?;
        comparable(&Tree::read(mounted.path()), has_opaque)
    };
    let theirs = comparable(&Tree::read(&rootfs), has_opaque);
    let is_for_a_whiteout = |path: &Vec<u8>, node: &Node| {
        let is_new = node.kind == 'd' && node.mode == 0o755 && node.owner() == (0, 0);
        is_new && !theirs.0.contains_key(path)
    };
    let mut ours = ours;
    ours.0.retain(|path, node| !is_for_a_whiteout(path, node));
    if ours == theirs {
        return Ok(true);
    }
    Err(format!("here\n{ours:?}\nby umoci\n{theirs:?}"))
}

fn comparable(tree: &Tree, has_opaque: bool) -> Tree {
    let nodes = tree.0.iter().map(|(path, node)| {
        let mut node = Node { ..node.clone() };
        let has_no_time = node.mtime.0 <= 0 || node.mtime.0 > LATEST_S;
        if node.kind == 'd' || has_no_time {
            node.mtime = (0, 0);
        }
        if node.kind == 'd' && has_opaque {
            (node.mode, node.uid, node.gid) = (0o755, 0, 0);
            node.xattrs.clear();
        }
        (path.clone(), node)
    });
    Tree(nodes.collect())
}

/// Unpacks an image of these layers.
fn unpack(tars: &[Vec<u8>], place: &Path, rootfs: &Path) -> Result<(), String> {
    let image = place.join("image");
    let blobs = image.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let keep = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes).to_string();
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        let size = bytes.len();
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<String> = tars
        .iter()
        .map(|tar| keep("application/vnd.oci.image.layer.v1.tar", tar))
        .collect();
    let diff_ids: Vec<String> = tars
        .iter()
        .map(|tar| format!("\"{}\"", Digest::of(tar)))
        .collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config = keep(
        "application/vnd.oci.image.config.v1+json",
        config.as_bytes(),
    );
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest_type}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    );
    let manifest = keep(manifest_type, manifest.as_bytes());
    let named = manifest.trim_end_matches('}').to_owned()
        + r#","annotations":{"org.opencontainers.image.ref.name":"t"}}"#;
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{named}]}}"#);
    std::fs::write(image.join("index.json"), index).unwrap();
    std::fs::write(
        image.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    // Another test may have changed the umask of the process.
    let output = Command::new("sh")
        .args([
            "-c",
            "umask 022 && exec umoci raw unpack --image \"$0:t\" \"$1\"",
        ])
        .args([&image, &rootfs.to_path_buf()])
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What fits 63 bits of nanoseconds.
const LATEST_S: i64 = 9_223_372_035;
