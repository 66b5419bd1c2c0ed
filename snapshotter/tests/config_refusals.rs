//! Configuration files and overrides that are refused, and with which words.

use std::path::Path;

use parapull_snapshotter::config::{Config, ConfigError};

#[test]
fn what_is_wrong_is_told_with_line_key_and_remedy() {
    for (text, expected) in [
        (
            "[parapull]\nwindwo = \"1GiB\"",
            "line 2: parapull.windwo: unknown key; did you mean parapull.window?",
        ),
        (
            "window = \"1GiB\"",
            "line 1: window: unknown key; did you mean parapull.window?",
        ),
        (
            "[parapul]\nwindow = 1",
            "line 1: parapul: unknown table; window belongs in [parapull]",
        ),
        (
            "[parapul]\n",
            "line 1: parapul: unknown table; did you mean [parapull]?",
        ),
        (
            "[pull_modes.paralel_pull_unpack]\n",
            "did you mean [pull_modes.parallel_pull_unpack]?",
        ),
        ("[fus]\n", "did you mean [fuse]?"),
        (
            "[elephants]\na = {b = [1]}",
            "line 1: elephants: unknown table; `parapull-snapshotter config default`",
        ),
        (
            "[parapull]\nmax_concurrent_downloads = 1",
            "did you mean pull_modes.parallel_pull_unpack.max_concurrent_downloads?",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nmax_concurent_unpack = 3",
            "line 2: pull_modes.parallel_pull_unpack.max_concurent_unpack: unknown key; did you mean pull_modes.parallel_pull_unpack.max_concurrent_unpacks?",
        ),
        ("[fuse]\natr_timeout = 3", "did you mean fuse.attr_timeout?"),
        (
            "[plugins.\"io.containerd.snapshotter.v1.soci\".blob]\nmax_concurrent_downloads = 3",
            "plugins: unknown table; max_concurrent_downloads belongs in [pull_modes.parallel_pull_unpack]",
        ),
        (
            "parapull = 3",
            "line 1: parapull: must be a table: write [parapull]",
        ),
        (
            "[parapull]\nwindow = \"lots\"",
            "line 2: parapull.window: must be a size such as \"64MiB\" (up to 1024TiB), or \"auto\", not \"lots\"",
        ),
        ("[parapull]\nwindow = 0", "parapull.window: must be a size"),
        ("[parapull]\nwindow = -1", "parapull.window: must be a size"),
        (
            "[parapull]\nwindow = \"2000TiB\"",
            "parapull.window: must be a size",
        ),
        ("[parapull]\nwindow = [1]", "not an array"),
        ("[parapull.window]\na = 1", "not a table"),
        ("[parapull]\nwindow = 1.5", "not 1.5"),
        (
            "[parapull]\nthreads = 99999999999999999999999",
            "not 99999999999999999999999",
        ),
        (
            "[parapull]\nthreads = \"Auto\"",
            "must be a number from 1 to 65536, or \"auto\", not \"Auto\"",
        ),
        ("[parapull]\nattempts_max = 0", "must be a number from 1"),
        (
            "[parapull]\ncancel_grace = 30",
            "must be a time such as \"30s\"",
        ),
        (
            "[parapull]\nstall_timeout = \"0s\"",
            "from 1s to 1h, not \"0s\"",
        ),
        (
            "[parapull]\nstrategy = \"fast\"",
            "must be \"sequential\" or \"multipart\" or \"store-then-unpack\" or \"streamed\", not \"fast\"",
        ),
        (
            "[parapull]\nsync = true",
            "must be \"background\" or \"layer\" or \"none\", not true",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nenable = 1",
            "must be true or false, not 1",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nmax_concurrent_downloads = 1000000",
            "must be a number up to 65536, -1 for no limit, or \"auto\", not 1000000",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nconcurrent_download_chunk_size = \"8xb\"",
            "must be a size such as \"8MiB\", \"\" for whole layers, or \"auto\", not \"8xb\"",
        ),
        (
            "[parapull]\nwindow = 1\nwindow = 2",
            "line 3: not TOML: duplicate key",
        ),
        ("[parapull\n", "line 1: not TOML: "),
    ] {
        let error = Config::from_toml(text, "file").unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{text}\n  gave {error}\n  not  {expected}"
        );
    }
}

#[test]
fn what_is_not_built_is_refused_with_advice() {
    for (text, expected) in [
        (
            "[parapull]\ndiscard_unpacked_layers = false",
            "line 2: parapull.discard_unpacked_layers: false is not built yet: keeping",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nenable = true\ndiscard_unpacked_layers = false",
            "line 3: pull_modes.parallel_pull_unpack.discard_unpacked_layers: false is not built yet: ",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nenable = true",
            "pull_modes.parallel_pull_unpack.discard_unpacked_layers: false (SOCI's default, as its table is in the file) is not built yet: ",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nexperimental_parallel_pull_as_fallback = true",
            "discard_unpacked_layers: false (SOCI's default",
        ),
        (
            "[parapull]\nresume = \"bytes\"",
            "parapull.resume: \"bytes\" is not built yet: ",
        ),
        (
            "[parapull]\nmetrics_address = \"127.0.0.1:9100\"",
            "parapull.metrics_address: \"127.0.0.1:9100\" is not built yet: ",
        ),
        (
            "metrics_address = \"/run/metrics.sock\"",
            "line 1: metrics_address: \"/run/metrics.sock\" is not built yet: ",
        ),
        (
            "[cri_keychain]\nenable_keychain = true",
            "cri_keychain.enable_keychain: true is not built yet: ",
        ),
        (
            "[kubeconfig_keychain]\nenable_keychain = true",
            "kubeconfig_keychain.enable_keychain: true is not built yet: ",
        ),
        (
            "[pull_modes.parallel_pull_unpack]\nenable = true\ndiscard_unpacked_layers = true\n[pull_modes.parallel_pull_unpack.decompress_streams.gzip]\npath = \"/usr/bin/unpigz\"\nargs = [\"-d\", \"-c\"]",
            "line 4: pull_modes.parallel_pull_unpack.decompress_streams: {\"gzip\" = {}} is not built yet: ",
        ),
        (
            "[[resolver.host.\"a.example\".mirrors]]\nhost = \"b.example\"\ninsecure = true",
            "line 3: resolver.host: insecure = true",
        ),
    ] {
        let error = Config::from_toml(text, "file").unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{text}\n  gave {error}\n  not  {expected}"
        );
    }
}

#[test]
fn two_names_of_one_setting_agree_or_are_refused() {
    let file = |soci: bool| {
        format!(
            "[parapull]\ndiscard_unpacked_layers = true\n[pull_modes.parallel_pull_unpack]\nenable = true\n\
             discard_unpacked_layers = {soci}\n"
        )
    };
    assert!(Config::from_toml(&file(true), "file").is_ok());
    let error = Config::from_toml(&file(false), "file")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(
            "is false, but parapull.discard_unpacked_layers on line 2 is true: remove one"
        ),
        "{error}"
    );
    let ours_alone = "[parapull]\ndiscard_unpacked_layers = true\n[pull_modes.parallel_pull_unpack]\nenable = true\n";
    assert!(Config::from_toml(ours_alone, "file").is_ok());
}

#[test]
fn overrides_that_are_wrong_are_refused() {
    for (text, expected) in [
        ("window", "window: must be key=value"),
        ("windows=1GiB", "windows: unknown key; did you mean window?"),
        ("x=1", "x: unknown key"),
        ("window=many", "parapull.window: must be a size"),
        (
            "resume=bytes",
            "parapull.resume: \"bytes\" is not built yet",
        ),
        ("=", ": unknown key"),
    ] {
        let error = overridden(&[text]).unwrap_err().to_string();
        assert!(
            error.starts_with("use the configuration of defaults: "),
            "{error}"
        );
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = overridden(&["window=many", "threads=0", "x=1"]).unwrap_err();
    assert_eq!(error.problems().len(), 3);
}

#[test]
fn an_explicit_file_must_be_there() {
    let error = Config::load(Some(Path::new("/nowhere/config.toml")))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("read the configuration /nowhere/config.toml: "),
        "{error}"
    );
}

#[test]
fn limits_that_cannot_work_are_told_in_the_operators_words() {
    for (overrides, expected) in [
        (
            vec!["window=8MiB"],
            "parapull.window: must hold a chunk for each of 3 layers unpacked at once: raise it to 24MiB",
        ),
        (
            vec!["layer_window=1MiB"],
            "parapull.layer_window: must hold a chunk: raise it to 8MiB or more",
        ),
        (
            vec!["threads=2"],
            "parapull.threads: every layer unpacked at once needs a thread: raise it to 3",
        ),
    ] {
        let error = overridden(&overrides)
            .unwrap()
            .engine(2, 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn nesting_has_an_end() {
    for text in [
        format!("window = {}", "[".repeat(100_000)),
        format!("window = {}", "{a=".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
    ] {
        assert!(Config::from_toml(&text, "file").is_err());
    }
}

fn overridden(overrides: &[&str]) -> Result<Config, ConfigError> {
    let overrides: Vec<_> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Config::default().with_overrides(&overrides)
}

#[test]
fn mount_options_that_cannot_stand_beside_a_snapshot_s_own_are_refused() {
    for (options, refused) in [
        (r#""volatile""#, true),
        (r#"["volatile", "upperdir=/tmp"]"#, true),
        (r#"["a,b"]"#, true),
        (r#"[""]"#, true),
        ("[1]", true),
        (r#"["volatile", "metacopy=off"]"#, false),
        ("[]", false),
    ] {
        let read = Config::from_toml(&format!("[parapull]\nmount_options = {options}"), "test");
        assert_eq!(read.is_err(), refused, "{options}");
        let said = read
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        let named =
            said.contains("parapull.mount_options: must be an array of texts without commas");
        assert_eq!(named, refused, "{said}");
    }
}
