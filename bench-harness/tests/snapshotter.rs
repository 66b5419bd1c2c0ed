//! Starting a snapshotter, with a stand-in that keeps only the promise about the command line and the socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use parapull_bench::processes::{Programs, Snapshotter, SnapshotterOptions, Workspace};
use support::can_run;

fn write_program(folder: &Path, script: &str) -> Programs {
    let path = folder.join("parapull-snapshotter");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    Programs::in_directory(folder)
}

#[test]
fn it_is_ready_when_its_socket_accepts_and_gone_when_dropped() {
    if !can_run("snapshotter", &["python3"]) {
        return;
    }
    let workspace = Workspace::new(None).unwrap();
    let script = "#!/usr/bin/env python3
import socket, sys
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == 'serve' and arguments['--containerd-address'] == '/c.sock', sys.argv
assert 'trace_dir = ' in open(arguments['--config']).read()
assert 'window = \"64MiB\"' in open(arguments['--config']).read()
listener = socket.socket(socket.AF_UNIX)
listener.bind(arguments['--address'].removeprefix('unix://'))
listener.listen()
while True:
    listener.accept()
";
    let programs = write_program(&workspace.folder("programs").unwrap(), script);
    let folder = workspace.folder("own").unwrap();
    let options = SnapshotterOptions {
        containerd_socket: "/c.sock".into(),
        settings: vec!["window = \"64MiB\"".into()],
        traces: Some(folder.join("traces")),
        boot_id: None,
    };
    let mut snapshotter = Snapshotter::start(&programs, &folder, &options).unwrap();
    assert_eq!(snapshotter.proxy(), &Snapshotter::announced(&folder));
    assert!(snapshotter.is_running());
    assert!(folder.join("traces").is_dir());
    let process = format!("/proc/{}", snapshotter.id());
    assert!(Path::new(&process).exists());
    drop(snapshotter);
    assert!(!Path::new(&process).exists());
}

#[test]
fn a_refused_configuration_is_shown() {
    if !can_run("snapshotter", &[]) {
        return;
    }
    let workspace = Workspace::new(None).unwrap();
    let script = "#!/bin/sh\necho 'error: unknown key windoww, did you mean window?' >&2; exit 2\n";
    let programs = write_program(&workspace.folder("programs").unwrap(), script);
    let folder = workspace.folder("own").unwrap();
    let error = Snapshotter::start(&programs, &folder, &SnapshotterOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("did you mean window?") && error.contains("exit status: 2"),
        "{error}"
    );
}
