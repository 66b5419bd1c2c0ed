//! `config default`, `dump` and `check`: what they print and how they end.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "../src/cli/config.rs"]
mod command;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use parapull_snapshotter::config::{Config, Settings};
use serde_json::Value;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    config: command::ConfigArgs,
}

#[test]
fn default_prints_a_file_that_gives_the_defaults() {
    let printed = run(&["default"]).unwrap().1;
    let config = Config::from_toml(&printed, "default").unwrap();
    assert_eq!(config.settings, Settings::default());
    assert!(config.ignored.is_empty());
}

#[test]
fn the_example_is_what_default_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/parapull.toml");
    let example = std::fs::read_to_string(&path).unwrap();
    let printed = run(&["default"]).unwrap().1;
    assert!(
        example == printed,
        "{} differs from `parapull-snapshotter config default`; it should be:\n{printed}",
        path.display()
    );
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let printed = run(&["check", &path.display().to_string(), "--cores", "8"]);
            assert!(printed.is_ok(), "{}: {printed:?}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} examples");
}

#[test]
fn dump_prints_a_file_that_gives_the_same_settings() {
    let file = written(
        "[parapull]\nwindow = \"1GiB\"\ntrace_dir = \"/a \\\"b\\\"\"\n[fuse]\nattr_timeout = 1\n",
    );
    let (_, printed) = run(&["dump", "--config", file.name(), "--set", "threads=9"]).unwrap();
    let again = Config::from_toml(&printed, "dump").unwrap();
    let expected = Config::load_with(Some(Path::new(file.name())), &["threads=9".to_owned()]);
    assert_eq!(again.settings, expected.unwrap().settings);
    assert!(
        printed.contains("window = \"1GiB\" # line 2\n"),
        "{printed}"
    );
    assert!(printed.contains("threads = 9 # override\n"), "{printed}");
    assert!(
        printed.contains("# ignored: fuse.attr_timeout: "),
        "{printed}"
    );
}

#[test]
fn check_tells_what_is_ignored_and_explains() {
    let file = written("[parapull]\nlayer_window = \"64MiB\"\n\n[fuse]\nattr_timeout = 1\n");
    let (code, printed) = run(&["check", file.name(), "--explain", "--cores", "2"]).unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    for expected in [
        ": ok\n",
        "line 5: fuse.attr_timeout is known and ignored: it concerns lazy loading only",
        "parapull.layer_window = \"64MiB\" (line 2)\n",
        "max_concurrent_unpacks_per_image = \"auto\" (default)\n    auto = 3: 2 cores + 1",
        "parapull.window = \"auto\" (default)\n    auto = 512MiB: the larger of 512MiB and 2 × 8MiB for each of 3 unpacks = 48MiB",
    ] {
        assert!(printed.contains(expected), "{expected}\n---\n{printed}");
    }
}

#[test]
fn check_tells_that_nothing_is_pulled() {
    let file = written("[pull_modes.parallel_pull_unpack]\nmax_concurrent_downloads = 20\n");
    let (code, printed) = run(&["check", file.name()]).unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(printed.contains("images are not pulled"), "{printed}");
}

#[test]
fn check_fails_with_every_problem() {
    let file = written("[parapull]\nwindwo = 1\nthreads = 0\n");
    let error = run(&["check", file.name()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "use the configuration {}: 2 problems\n  line 2: parapull.windwo: unknown key; did you mean parapull.window?\n  \
             line 3: parapull.threads: must be a number from 1 to 65536, or \"auto\", not 0",
            file.name()
        )
    );
    let (code, printed) = run(&["check", file.name(), "--json"]).unwrap();
    assert_eq!(code, ExitCode::FAILURE);
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["ok"], false);
    assert_eq!(document["problems"][0]["line"], 2);
    assert_eq!(document["problems"][1]["key"], "parapull.threads");
}

#[test]
fn check_fails_for_limits_that_cannot_work_on_the_machine() {
    let file = written("[parapull]\nwindow = \"32MiB\"\n");
    assert!(run(&["check", file.name(), "--cores", "3"]).is_ok());
    let error = run(&["check", file.name(), "--cores", "4"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2: parapull.window: "), "{error}");
    assert!(error.contains("raise it to 40MiB or more"), "{error}");
}

#[test]
fn json_is_one_document() {
    let file = written("[parapull]\nthreads = 9\n[blob]\nmax_retries = 3\n");
    for arguments in [
        vec!["dump", "--config", file.name(), "--json"],
        vec!["check", file.name(), "--json", "--explain"],
    ] {
        let (_, printed) = run(&arguments).unwrap();
        let document: Value = serde_json::from_str(&printed).unwrap();
        let settings = document["settings"].as_array().unwrap();
        let threads = settings
            .iter()
            .find(|each| each["key"] == "parapull.threads")
            .unwrap();
        assert_eq!(threads["value"], "9");
        assert_eq!(threads["source"], "line 2");
        assert_eq!(document["ignored"][0]["key"], "blob.max_retries");
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let error = run(&["check", "/nowhere/config.toml"])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("read the configuration /nowhere/config.toml: "),
        "{error}"
    );
}

fn run(arguments: &[&str]) -> anyhow::Result<(ExitCode, String)> {
    let program = Program::parse_from(["config"].iter().chain(arguments));
    let mut out = Vec::new();
    let code = command::run(&program.config, &mut out)?;
    Ok((code, String::from_utf8(out)?))
}

struct File(tempfile::NamedTempFile);

impl File {
    fn name(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

fn written(text: &str) -> File {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    File(file)
}
