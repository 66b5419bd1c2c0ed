//! The Debian packages that tests and demo use: which are missing, and installing them.
//!
//! Nothing is installed unless something is missing, and no daemon that a package brings is started by it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::steps::{is_on_path, succeed};

/// What the demo needs.
pub(crate) const FOR_DEMO: &[&str] = &["containerd", "runc"];

/// Those of `packages` that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect()
}

/// Whether this process may install and mount: whether it is root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Installs what is missing of `packages`.
///
/// # Errors
/// When it cannot be done, with what to do by hand.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("as root: apt-get install {}", missing.join(" "));
    if !is_on_path("apt-get") {
        bail!("{} not installed and this is no Debian", missing.join(", "));
    }
    if !is_root() {
        bail!("{} not installed; {by_hand}", missing.join(", "));
    }
    println!("    installing {}", missing.join(" "));
    let _quiet = NoDaemons::forbid()?;
    if install_now(&missing).is_err() {
        succeed(apt().args(["-qq", "update"])).with_context(|| by_hand.clone())?;
        install_now(&missing).with_context(|| by_hand.clone())?;
    }
    Ok(())
}

fn install_now(packages: &[&str]) -> anyhow::Result<()> {
    succeed(
        apt()
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output();
    match output {
        Ok(output) => output.status.success() && output.stdout == b"installed",
        Err(_) => is_on_path(package),
    }
}

/// While it lives, packages that bring a daemon do not start it (Debian's `policy-rc.d`). A policy that exists is left.
struct NoDaemons {
    is_ours: bool,
}

impl NoDaemons {
    fn forbid() -> anyhow::Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { is_ours: false });
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n"))
            .with_context(|| format!("failed to write {POLICY}"))?;
        Ok(Self { is_ours: true })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("warning: failed to remove {POLICY}: {error}");
        }
    }
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_missing() {
        let missing = missing(&["a-package-that-does-not-exist"]);
        assert_eq!(missing, ["a-package-that-does-not-exist"]);
    }

    #[test]
    fn nothing_missing_needs_neither_root_nor_apt() {
        install(&[]).unwrap();
    }
}
