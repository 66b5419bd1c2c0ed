//! Cases 23, 29 and 30: what the kernel makes of finished layers, and what it must allow.

use std::path::{Path, PathBuf};
use std::process::Command;

use parapull_snapshotter::unpack::{Bounds, Class, Encoding, OverlaySink, Position};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::archive::{Member, archive, dir, file};
use super::lane::{Layer, at, bottom, is_root, place, run, spec, upper};
use super::whiteouts::whiteout;

/// A mount that ends with the value.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Layers over each other, the topmost first, at least two.
    pub fn overlay(layers: &[PathBuf], target: PathBuf) -> rustix::io::Result<Self> {
        std::fs::create_dir(&target).unwrap();
        let lowers: Vec<_> = layers
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", lowers.join(":"))).unwrap();
        rustix::mount::mount(
            "overlay",
            &target,
            "overlay",
            MountFlags::RDONLY,
            options.as_c_str(),
        )?;
        Ok(Self(target))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn case_23_whiteouts_hold_when_layers_are_unpacked_apart_and_linked_later() {
    if !is_root("case_23_whiteouts_hold_when_layers_are_unpacked_apart_and_linked_later") {
        return;
    }
    let layers = [
        archive([
            file("gone", "x"),
            dir("d"),
            file("d/gone", "x"),
            file("d/kept", "x"),
            dir("o").mode(0o700).owner(5, 5),
            file("o/hidden", "x"),
        ]),
        archive([
            whiteout(".wh.gone"),
            whiteout("d/.wh.gone"),
            whiteout("o/.wh..wh..opq"),
            file("o/new", "x"),
        ]),
        archive([file("gone", "again"), whiteout(".wh.never")]),
    ];
    // The topmost first: none knows what is below it.
    let top = upper(&layers[2]).unwrap();
    let middle = upper(&layers[1]).unwrap();
    let lowest = bottom(&layers[0]).unwrap();
    middle.staged.fix_implied(&[lowest.root()]).unwrap();
    let chain: Vec<PathBuf> = [&top, &middle, &lowest].map(Layer::root).to_vec();
    let place = place();
    let mounted = Mounted::overlay(&chain, place.path().join("merged")).unwrap();
    let read = |path: &str| std::fs::read_to_string(mounted.path().join(path));
    assert_eq!(read("gone").unwrap(), "again");
    assert_eq!(read("d/kept").unwrap(), "x");
    assert_eq!(read("o/new").unwrap(), "x");
    for path in ["d/gone", "o/hidden", "never"] {
        assert!(read(path).is_err(), "{path}");
    }
    let middle_only = Mounted::overlay(&chain[1..], place.path().join("middle")).unwrap();
    assert!(!middle_only.path().join("gone").exists());
}

#[test]
fn case_29_case_and_unicode_make_different_names() {
    if !is_root("case_29_case_and_unicode_make_different_names") {
        return;
    }
    let names = ["name", "NAME", "n\u{e4}me", "na\u{308}me", "ß", "ss"];
    let members = names.map(|name| file(name, name));
    let layer = upper(&archive(members)).unwrap();
    for name in names {
        let content = std::fs::read_to_string(layer.root().join(name)).unwrap();
        assert_eq!(content, name);
    }
}

#[test]
fn case_29_a_directory_that_ignores_case_is_refused() {
    if !is_root("case_29_a_directory_that_ignores_case_is_refused") {
        return;
    }
    let place = place();
    let folder = place.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let mounted = rustix::mount::mount(
        "tmpfs",
        &folder,
        "tmpfs",
        MountFlags::empty(),
        Some(c"casefold"),
    );
    // A kernel that does not know the option has no such directories; what would be refused is decided in a test of its own.
    if let Err(error) = mounted {
        assert_eq!(error, Errno::INVAL, "no other reason keeps them away");
        return;
    }
    let _mounted = Mounted(folder.clone());
    let ignoring = folder.join("ignoring");
    std::fs::create_dir(&ignoring).unwrap();
    let changed = Command::new("chattr").arg("+F").arg(&ignoring).status();
    assert!(changed.is_ok_and(|status| status.success()), "chattr +F");
    let error = OverlaySink::new(&ignoring.join("layer"), Position::Upper).unwrap_err();
    assert!(error.to_string().contains("not supported"), "{error}");
    assert!(!ignoring.join("layer").exists(), "nothing is left behind");
    OverlaySink::new(&folder.join("layer"), Position::Upper).unwrap();
}

/// Unpacks without some capabilities; they are this thread's alone.
fn without(set: CapabilitySet, member: Member) -> Result<Vec<String>, Class> {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(set);
    set_capabilities(None, sets).unwrap();
    let outcome = at(&archive([member]), Position::Upper);
    sets.effective.insert(set);
    set_capabilities(None, sets).unwrap();
    outcome
        .map(|layer| layer.tree().paths())
        .map_err(|error| error.class())
}

#[test]
fn case_30_devices_need_a_capability_and_whiteouts_do_not() {
    if !is_root("case_30_devices_need_a_capability_and_whiteouts_do_not") {
        return;
    }
    let device = || Member::new(b'3', "null").device(1, 3);
    let opaque = || whiteout("d/.wh..wh..opq");
    let mknod = CapabilitySet::MKNOD;
    let admin = CapabilitySet::SYS_ADMIN;
    assert_eq!(without(mknod, device()), Err(Class::Disk));
    assert_eq!(without(mknod, whiteout(".wh.f")), Ok(vec!["f".to_owned()]));
    assert_eq!(without(admin, opaque()), Err(Class::Disk));
    assert_eq!(without(admin, device()), Ok(vec!["null".to_owned()]));
    // The thread has them back.
    assert!(upper(&archive([device(), opaque()])).is_ok());
}

#[test]
fn case_30_a_missing_capability_is_told_with_the_path() {
    if !is_root("case_30_a_missing_capability_is_told_with_the_path") {
        return;
    }
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::MKNOD);
    set_capabilities(None, sets).unwrap();
    let place = place();
    let tar = archive([Member::new(b'4', "dev/disk").device(8, 0)]);
    let outcome = run(
        &tar[..],
        &spec(&tar, &tar, Encoding::Plain),
        &place.path().join("layer"),
        Position::Upper,
        &Bounds::default(),
        1,
    );
    sets.effective.insert(CapabilitySet::MKNOD);
    set_capabilities(None, sets).unwrap();
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.contains("dev/disk") && message.contains("not permitted"),
        "{message}"
    );
}
