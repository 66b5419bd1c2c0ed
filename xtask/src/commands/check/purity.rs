//! Proof that the engine uses nothing but `core` and `alloc`.
//!
//! `#![no_std]` is a promise that one `extern crate std` breaks unseen. So the engine is compiled against a sysroot that
//! holds no `std` at all: a folder with links to the installed `core`, `alloc` and `compiler_builtins`. A crate that does
//! ask for `std` is compiled the same way and has to fail, else the proof would be empty.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::steps::succeed;
use crate::workspace::Workspace;

/// Builds the engine, plain and with its `serde` feature, where there is no `std`.
///
/// # Errors
/// When it does not build, or when the sysroot does not do what it is for.
pub(super) fn prove(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = workspace.target().join("without-std");
    let target = host()?;
    let sysroot = bare_sysroot(&folder.join("sysroot"), &target)?;
    refuses_std(&folder, &sysroot)?;
    for features in [&[][..], &["--features", "serde"][..]] {
        let build = ["build", "--quiet", "--locked", "--lib"];
        let mut cargo = workspace.cargo();
        cargo
            .args(build)
            .args(["--package", "parapull-engine", "--target", &target])
            .args(features)
            .arg("--target-dir")
            .arg(&folder)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", format!("--sysroot={}", sysroot.display()));
        succeed(&mut cargo).context("the engine needs more than core and alloc")?;
    }
    Ok(())
}

/// The platform of the compiler.
fn host() -> anyhow::Result<String> {
    let text = rustc(&["--version", "--verbose"])?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(ToOwned::to_owned)
        .context("rustc does not name its host")
}

fn bare_sysroot(to: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let installed = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
    let libraries = |root: &Path| root.join("lib/rustlib").join(target).join("lib");
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let bare = libraries(to);
    fs::create_dir_all(&bare)?;
    let from = libraries(&installed);
    let mut found = 0;
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let is_bare = ["libcore-", "liballoc-", "libcompiler_builtins-"]
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_bare {
            symlink(entry.path(), bare.join(name))?;
            found += 1;
        }
    }
    ensure!(found >= 3, "no core library in {}", from.display());
    Ok(to.to_path_buf())
}

/// Compiles one crate that needs no `std` and one that asks for it: the first has to pass, the second to fail.
fn refuses_std(folder: &Path, sysroot: &Path) -> anyhow::Result<()> {
    for (name, text, is_fine) in [
        ("pure", "#![no_std]\nextern crate alloc;\n", true),
        ("impure", "#![no_std]\nextern crate std;\n", false),
    ] {
        let source = folder.join(format!("{name}.rs"));
        fs::write(&source, text)?;
        let output = Command::new(compiler())
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
            ])
            .arg(format!("--sysroot={}", sysroot.display()))
            .arg("-o")
            .arg(folder.join(format!("lib{name}.rmeta")))
            .arg(&source)
            .output()
            .context("failed to start rustc")?;
        if output.status.success() != is_fine {
            bail!(
                "the sysroot without std proves nothing: the {name} probe {}\n{}",
                if is_fine { "fails" } else { "builds" },
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}

fn rustc(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(compiler())
        .args(arguments)
        .output()
        .context("failed to start rustc")?;
    ensure!(
        output.status.success(),
        "rustc {} failed",
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn compiler() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}
