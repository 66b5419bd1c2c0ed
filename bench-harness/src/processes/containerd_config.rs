//! containerd's configuration file, per version, made of what `deploy/containerd/` tells operators to merge into theirs.
//!
//! Nothing here starts anything. A fragment that is wrong is not mended: containerd gets it as it was shipped, with this
//! machine's addresses in place of the node's.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{ContainerdVersion, ProcessError};

/// A proxy snapshotter containerd is told about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySnapshotter {
    /// Its plugin name, the one the fragments in `deploy/` give it.
    pub name: String,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its root directory, which containerd reports as the image file system.
    pub root: PathBuf,
}

/// Who fetches for CRI; before 2.1 it has no choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CriPull {
    /// CRI itself: what the fragments lead to as they are.
    #[default]
    Itself,
    /// The transfer service: containerd's own default from 2.1, and ours there without `disable_snapshot_annotations`.
    TransferService,
    /// CRI itself, each layer in ranges: ten downloads at a time, as containerd's documentation has it for fast networks.
    Multipart,
}

/// Where one private containerd keeps everything.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) root: PathBuf,
    pub(super) state: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) hosts: PathBuf,
    pub(super) empty: PathBuf,
}

/// The whole configuration file: no CNI, nothing outside `paths`, and parapull's fragment merged in where `proxy` is given.
///
/// # Errors
/// [`ProcessError::Fragment`] when the fragment or the result is no TOML.
pub(super) fn configuration(
    version: ContainerdVersion,
    paths: &Paths,
    proxy: Option<&ProxySnapshotter>,
    cri_pull: CriPull,
) -> Result<String, ProcessError> {
    let fragment = Fragment::of(version);
    let failed = |reason: String| ProcessError::Fragment {
        name: fragment.name,
        reason,
    };
    if cri_pull == CriPull::Multipart && version < FIRST_OF_2_1 {
        return Err(ProcessError::NotFound {
            name: "concurrent_layer_fetch_buffer".into(),
            hint: format!("containerd {version} does not fetch in ranges; 2.1 and later do"),
        });
    }
    let mut table = parsed(&private(version, paths)).map_err(failed)?;
    if let Some(proxy) = proxy {
        let mut shipped = parsed(fragment.text).map_err(failed)?;
        if cri_pull == CriPull::TransferService {
            remove(&mut shipped, &["plugins", CRI_IMAGES, ANNOTATIONS]);
        }
        relocate(&mut shipped, &replacements(paths, proxy));
        merge(&mut table, shipped);
    } else if version >= FIRST_OF_2_1 && cri_pull != CriPull::TransferService {
        // Without labels to pass on, CRI has to be told to do without the transfer service.
        let ranges = match cri_pull {
            CriPull::Multipart => MULTIPART,
            _ => "",
        };
        let text = format!("[plugins.\"{CRI_IMAGES}\"]\nuse_local_image_pull = true\n{ranges}");
        merge(&mut table, parsed(&text).map_err(failed)?);
    }
    toml::to_string(&table).map_err(|error| failed(error.to_string()))
}

/// A file of `deploy/containerd/`.
struct Fragment {
    name: &'static str,
    text: &'static str,
}

impl Fragment {
    /// The one an operator takes for `version`.
    const fn of(version: ContainerdVersion) -> Self {
        match (version.major, version.minor) {
            (0, _) | (1, ..=6) => Self {
                name: "1.6.toml",
                text: include_str!("../../../deploy/containerd/1.6.toml"),
            },
            (1, _) => Self {
                name: "1.7.toml",
                text: include_str!("../../../deploy/containerd/1.7.toml"),
            },
            _ => Self {
                name: "2.toml",
                text: include_str!("../../../deploy/containerd/2.toml"),
            },
        }
    }
}

/// What every private containerd has, whichever snapshotter it uses.
///
/// Version 3 of the file belongs to containerd 2.x, which silently drops CRI's `snapshotter` and
/// `disable_snapshot_annotations` from a version 2 file.
fn private(version: ContainerdVersion, paths: &Paths) -> String {
    let (root, state, socket) = (
        quoted(&paths.root),
        quoted(&paths.state),
        quoted(&paths.socket),
    );
    let opt = quoted(&paths.root.join("opt"));
    let (empty, hosts) = (quoted(&paths.empty), quoted(&paths.hosts));
    // 2.1 deprecates the key in favour of a list.
    let programs = if version >= FIRST_OF_2_1 {
        format!("bin_dirs = [{empty}]")
    } else {
        format!("bin_dir = {empty}")
    };
    let (file_version, runtime, images) = if version.major >= 2 {
        (3, "io.containerd.cri.v1.runtime", CRI_IMAGES)
    } else {
        (2, "io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.cri")
    };
    let transfer = if version.major >= 2 {
        format!("[plugins.'io.containerd.transfer.v1.local']\nconfig_path = {hosts}\n")
    } else {
        String::new()
    };
    format!(
        "version = {file_version}\nroot = {root}\nstate = {state}\n[grpc]\naddress = {socket}\n\
         [plugins.'io.containerd.internal.v1.opt']\npath = {opt}\n\
         [plugins.'{runtime}'.cni]\n{programs}\nconf_dir = {empty}\n\
         [plugins.'{images}'.registry]\nconfig_path = {hosts}\n{transfer}"
    )
}

/// What stands in the fragments, and what it is on this machine.
fn replacements(paths: &Paths, proxy: &ProxySnapshotter) -> [(&'static str, String); 4] {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    [
        ("/run/parapull/snapshotter.sock", text(&proxy.socket)),
        ("/var/lib/parapull", text(&proxy.root)),
        ("/etc/containerd/certs.d", text(&paths.hosts)),
        ("linux/amd64", platform()),
    ]
}

fn parsed(text: &str) -> Result<Table, String> {
    text.parse()
        .map_err(|error: toml::de::Error| error.to_string())
}

/// Replaces every value that is exactly one of `replacements`.
fn relocate(table: &mut Table, replacements: &[(&str, String)]) {
    for (_, value) in table.iter_mut() {
        relocate_value(value, replacements);
    }
}

fn relocate_value(value: &mut Value, replacements: &[(&str, String)]) {
    match value {
        Value::String(text) => {
            if let Some((_, here)) = replacements.iter().find(|(there, _)| text == there) {
                here.clone_into(text);
            }
        }
        Value::Array(values) => {
            for value in values {
                relocate_value(value, replacements);
            }
        }
        Value::Table(table) => relocate(table, replacements),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// Merges as an operator does: tables into tables, everything else in place of what was there.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn remove(table: &mut Table, path: &[&str]) {
    match path {
        [key] => {
            table.remove(*key);
        }
        [key, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(*key) {
                remove(inner, rest);
            }
        }
        [] => {}
    }
}

/// containerd's name of this machine's platform.
fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// A TOML string; JSON's escapes are a subset of a basic string's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

const CRI_IMAGES: &str = "io.containerd.cri.v1.images";
/// Pieces of 8 MiB.
const MULTIPART: &str = "max_concurrent_downloads = 10\nconcurrent_layer_fetch_buffer = 8388608\n";
const ANNOTATIONS: &str = "disable_snapshot_annotations";

/// Before it CRI pulls by itself, from here on only where it is told to.
const FIRST_OF_2_1: ContainerdVersion = ContainerdVersion {
    major: 2,
    minor: 1,
    patch: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(version: &str, with_proxy: bool, cri_pull: CriPull) -> Table {
        let paths = Paths {
            root: "/w/root".into(),
            state: "/w/state".into(),
            socket: "/w/c.sock".into(),
            hosts: "/w/hosts".into(),
            empty: "/w/empty".into(),
        };
        let proxy = ProxySnapshotter {
            name: "parapull".into(),
            socket: "/w/p.sock".into(),
            root: "/w/p".into(),
        };
        let proxy = with_proxy.then_some(&proxy);
        let text = configuration(version.parse().unwrap(), &paths, proxy, cri_pull).unwrap();
        parsed(&text).unwrap()
    }

    #[test]
    fn the_shipped_fragment_is_merged_with_this_machine_s_addresses() {
        for (version, file_version, images) in [
            (
                "1.6.20",
                2,
                ["io.containerd.grpc.v1.cri", "containerd"].as_slice(),
            ),
            ("1.7.24", 2, &["io.containerd.grpc.v1.cri", "containerd"]),
            ("2.0.11", 3, &[CRI_IMAGES]),
            ("2.3.0", 3, &[CRI_IMAGES]),
        ] {
            let table = configured(version, true, CriPull::Itself);
            assert_eq!(table["version"], Value::Integer(file_version), "{version}");
            let mut cri = &table["plugins"];
            for name in images {
                cri = &cri[*name];
            }
            assert_eq!(cri["snapshotter"].as_str(), Some("parapull"), "{version}");
            assert_eq!(cri[ANNOTATIONS].as_bool(), Some(false), "{version}");
            let plugin = &table["proxy_plugins"]["parapull"];
            assert_eq!(plugin["address"].as_str(), Some("/w/p.sock"), "{version}");
            let text = toml::to_string(&table).unwrap();
            for absent in ["/run/parapull", "/var/lib/parapull", "/etc/containerd"] {
                assert!(!text.contains(absent), "{version}: {text}");
            }
            assert!(text.contains("/w/empty") && text.contains("/w/hosts"));
        }
    }

    #[test]
    fn who_fetches_for_cri_is_told_by_the_key_of_its_side() {
        let images = |with_proxy, cri_pull| {
            let table = configured("2.1.9", with_proxy, cri_pull);
            table["plugins"][CRI_IMAGES].as_table().unwrap().clone()
        };
        assert!(images(true, CriPull::Itself).contains_key(ANNOTATIONS));
        assert!(!images(true, CriPull::TransferService).contains_key(ANNOTATIONS));
        let local = "use_local_image_pull";
        assert!(images(false, CriPull::Itself).contains_key(local));
        assert!(!images(false, CriPull::TransferService).contains_key(local));
        let multipart = images(false, CriPull::Multipart);
        assert!(multipart.contains_key(local));
        assert!(multipart.contains_key("concurrent_layer_fetch_buffer"));
    }
}
