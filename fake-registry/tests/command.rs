//! The command `fake-registry`: what it prints, how it exits, how it stops.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use assert_cmd::assert::OutputAssertExt;
use assert_cmd::cargo::cargo_bin;

fn command() -> Command {
    Command::new(cargo_bin!("fake-registry"))
}

/// A server that has said it serves; killed when a test fails.
struct Server {
    child: Child,
    first_line: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command()
            .arg("serve")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first_line)
            .unwrap();
        Self { child, first_line }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn serves_crafted_files_and_layouts_until_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let craft_file = directory.path().join("craft.yaml");
    std::fs::write(
        &craft_file,
        "seed: 3\nlayers:\n  - {uncompressed_bytes: 64KiB, files: 3}\n  - {duplicate_of: 0}\n",
    )
    .unwrap();
    let layout = directory.path().join("layout");
    command()
        .args(["craft", "tiny", "--out", text(&layout)])
        .assert()
        .success();
    let port_file = directory.path().join("port");
    let mut server = Server::start(&[
        "--image",
        &format!("mine:v1={}", text(&craft_file)),
        "--image",
        &format!("laid/out={}", text(&layout)),
        "--cache-dir",
        text(&directory.path().join("cache")),
        "--port-file",
        text(&port_file),
    ]);
    assert!(
        server.first_line.contains("/mine:v1"),
        "{}",
        server.first_line
    );
    let authority = server.first_line.split(' ').nth(1).unwrap();
    let port: u16 = authority.split(['/', ':']).nth(1).unwrap().parse().unwrap();
    assert!(get(port, "/v2/mine/manifests/v1").starts_with("HTTP/1.1 200"));
    assert!(get(port, "/v2/laid/out/manifests/latest").starts_with("HTTP/1.1 200"));
    assert!(get(port, "/v2/mine/manifests/latest").starts_with("HTTP/1.1 404"));
    assert_eq!(
        std::fs::read_to_string(&port_file).unwrap(),
        format!("{port}\n")
    );
    let terminated = Command::new("kill")
        .arg(server.child.id().to_string())
        .status()
        .unwrap();
    assert!(terminated.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn misuse_exits_2_and_says_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.yaml");
    std::fs::write(&bad, "layer: []\n").unwrap();
    std::fs::write(directory.path().join("precious"), "").unwrap();
    let out = directory.path().join("out");
    for (arguments, said) in [
        (vec!["serve"], "--image NAME[:TAG]=SPEC"),
        (vec!["serve", "--image", "x"], "NAME[:TAG]=SPEC"),
        (vec!["serve", "--image", "x=huge"], "known are tiny"),
        (
            vec!["serve", "--image", "x=tiny", "--profile", "fast"],
            "known are unlimited",
        ),
        (
            vec!["serve", "--image", "x=tiny", "--faults", text(&bad)],
            "bad.yaml",
        ),
        (vec!["craft", text(&bad), "--out", text(&out)], "layer"),
        (
            vec!["craft", "tiny", "--out", text(directory.path())],
            "not empty",
        ),
        (vec!["craft", "tiny"], "--out"),
        (vec!["frobnicate"], "frobnicate"),
    ] {
        let output = command().args(&arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn failure_exits_1() {
    let output = command()
        .args(["craft", "tiny", "--out", "/dev/null/x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: failed to craft tiny"));
}

#[test]
fn help_teaches_with_examples_that_parse() {
    let help = |arguments: &[&str]| {
        let output = command().args(arguments).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help(&[]).contains("fake-registry serve --image"));
    let craft = help(&["craft"]);
    let serve = help(&["serve"]);
    let directory = tempfile::tempdir().unwrap();
    for (number, (text_of_help, first, last)) in [
        (&craft, "  name: zeros", "exact: 9}]"),
        (&craft, "  seed: 7", "duplicate_of: 0}"),
    ]
    .into_iter()
    .enumerate()
    {
        let yaml = excerpt(text_of_help, first, last)
            .replace("GiB", "KiB")
            .replace("MiB", "KiB");
        let yaml = yaml
            .replace("files: 3000", "files: 30")
            .replace("files: 100", "files: 1");
        let file = directory.path().join(format!("{number}.yaml"));
        std::fs::write(&file, &yaml).unwrap();
        let out = directory.path().join(format!("{number}"));
        let output = command()
            .args(["craft", text(&file), "--out", text(&out)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{yaml}\n{output:?}");
    }
    let faults = excerpt(&serve, "  faults:", "retry_after_seconds: 1}}");
    let parsed: parapull_scenario::Faults = serde_saphyr::from_str(&faults).unwrap();
    assert_eq!(parsed.faults.len(), 2);
}

/// The lines from the one that starts with `first` to the one that ends with `last`, without their indentation.
fn excerpt(text: &str, first: &str, last: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines
        .iter()
        .position(|line| line.starts_with(first))
        .unwrap();
    let end = start
        + lines[start..]
            .iter()
            .position(|line| line.trim_end().ends_with(last))
            .unwrap();
    lines[start..=end]
        .iter()
        .map(|line| format!("{}\n", &line[2..]))
        .collect()
}

#[test]
fn presets_are_listed() {
    let output = command().arg("presets").assert().success();
    let listed = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for name in ["ml-like", "metadata", "s3-like"] {
        assert!(listed.contains(name), "{listed}");
    }
}
