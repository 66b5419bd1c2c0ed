//! Configuration files and overrides: what loads, as what, and what is refused with which words.

use std::path::Path;
use std::time::Duration;

use parapull_engine::Strategy;
use parapull_scenario::{ByteSize, Setting};
use parapull_snapshotter::config::{Concurrency, Config, Settings};

/// SOCI's documentation of its parallel mode, as a file (without decompressors).
const SOCI_EXAMPLE: &str = r#"
[pull_modes]
  [pull_modes.soci_v1]
    enable = false
  [pull_modes.soci_v2]
    enable = false
  [pull_modes.parallel_pull_unpack]
    enable = true
    max_concurrent_downloads = 50
    max_concurrent_downloads_per_image = 10
    concurrent_download_chunk_size = "8mb"
    max_concurrent_unpacks = 20
    max_concurrent_unpacks_per_image = 10
    discard_unpacked_layers = true
"#;

#[test]
fn socis_example_means_what_it_means_to_soci() {
    let config = Config::from_toml(SOCI_EXAMPLE, "example").unwrap();
    assert!(config.pulls());
    let ignored: Vec<_> = config
        .ignored
        .iter()
        .map(|each| each.key.as_str())
        .collect();
    assert_eq!(
        ignored,
        ["pull_modes.soci_v1.enable", "pull_modes.soci_v2.enable"]
    );
    assert_eq!(config.ignored[1].line, 6);
    let raw = *config.engine(8, 1).unwrap().limits.raw();
    assert_eq!(
        (
            raw.fetches_max,
            raw.fetches_per_image_max,
            raw.unpacks_max,
            raw.unpacks_per_image_max
        ),
        (50, 10, 20, 10)
    );
    assert_eq!(raw.chunk_bytes_max, 8 << 20);
    assert_eq!(config.settings.strategy, Strategy::Streamed);
}

#[test]
fn absent_keys_of_socis_table_have_socis_defaults() {
    for table in [
        "[pull_modes.parallel_pull_unpack]",
        "pull_modes.parallel_pull_unpack.enable = false",
    ] {
        let config = Config::from_toml(table, "file").unwrap();
        assert_eq!(config.settings, Settings::soci(), "{table}");
        assert!(!config.pulls());
    }
    let text = "[pull_modes.parallel_pull_unpack]\nenable = true\ndiscard_unpacked_layers = true\n";
    let config = Config::from_toml(text, "file").unwrap();
    let limits = config.limits();
    assert_eq!(
        (limits.fetches, limits.fetches_per_image),
        (Setting::Is(256), Setting::Is(3))
    );
    assert_eq!(
        (limits.unpacks, limits.unpacks_per_image),
        (Setting::Is(32), Setting::Is(1))
    );
    assert_eq!(limits.chunk, Setting::Is(ByteSize(0)));
    assert!(config.engine(2, 0).is_ok());
}

#[test]
fn without_socis_table_defaults_are_ours() {
    for text in [
        "",
        "[parapull]\n",
        "[pull_modes]\n",
        "[pull_modes.soci_v2]\nenable = true\n",
    ] {
        let config = Config::from_toml(text, "file").unwrap();
        assert_eq!(config.settings, Settings::default(), "{text:?}");
        assert!(config.pulls());
        assert!(config.engine(2, 0).is_ok());
    }
}

#[test]
fn values_are_read_as_they_are_meant() {
    type Check = fn(&Settings) -> bool;
    let soci = |text: &str| format!("[pull_modes.parallel_pull_unpack]\n{text}\n");
    let ours = |text: &str| format!("[parapull]\n{text}\n");
    let cases: Vec<(String, Check)> = vec![
        (soci("max_concurrent_downloads = -1"), |s| {
            s.fetches == Concurrency::Unlimited
        }),
        (soci("max_concurrent_downloads = 0"), |s| {
            s.fetches == Concurrency::Unlimited
        }),
        (soci("max_concurrent_downloads = -7"), |s| {
            s.fetches == Concurrency::Unlimited
        }),
        (soci("max_concurrent_downloads = \"auto\""), |s| {
            s.fetches == Concurrency::Auto
        }),
        (
            soci("max_concurrent_unpacks = 0x10"),
            |s| matches!(s.unpacks, Concurrency::AtMost(number) if number.get() == 16),
        ),
        (soci("concurrent_download_chunk_size = \"\""), |s| {
            s.chunk == Setting::Is(ByteSize(0))
        }),
        (soci("concurrent_download_chunk_size = \"0\""), |s| {
            s.chunk == Setting::Is(ByteSize(0))
        }),
        (soci("concurrent_download_chunk_size = \" 8 MB \""), |s| {
            s.chunk == Setting::Is(ByteSize(8 << 20))
        }),
        (soci("concurrent_download_chunk_size = \"8MiB\""), |s| {
            s.chunk == Setting::Is(ByteSize(8 << 20))
        }),
        (soci("concurrent_download_chunk_size = \"auto\""), |s| {
            s.chunk == Setting::Auto
        }),
        (ours("window = 1048576"), |s| {
            s.window == Setting::Is(ByteSize(1 << 20))
        }),
        (ours("cancel_grace = \"1m 30s\""), |s| {
            s.cancel_grace == Duration::from_secs(90)
        }),
        (ours("strategy = \"store-then-unpack\""), |s| {
            s.strategy == Strategy::StoreThenUnpack
        }),
        (ours("trace_dir = \"/var/log/parapull\""), |s| {
            s.trace_dir.as_deref() == Some(Path::new("/var/log/parapull"))
        }),
        (ours("trace_dir = \"\""), |s| s.trace_dir.is_none()),
        (
            "[content_store]\ncontainerd_address = \"/run/k3s/containerd/containerd.sock\""
                .to_owned(),
            |s| {
                s.containerd_address.as_deref()
                    == Some(Path::new("/run/k3s/containerd/containerd.sock"))
            },
        ),
    ];
    for (text, is_right) in cases {
        let config = Config::from_toml(&text, "file").unwrap();
        assert!(is_right(&config.settings), "{text}: {:?}", config.settings);
    }
}

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
        ("[parapul]\nwindow = 1", "line 1: parapul: unknown key"),
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
            "plugins: unknown key",
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
            "must be \"none\" or \"layer\" or \"background\", not true",
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
            "[parapull]\nsync = \"layer\"",
            "parapull.sync: \"layer\" is not built yet: ",
        ),
        ("[parapull]\nsync = \"background\"", "write sync = \"none\""),
        (
            "[parapull]\nmetrics_address = \"127.0.0.1:9100\"",
            "parapull.metrics_address: \"127.0.0.1:9100\" is not built yet: ",
        ),
        (
            "metrics_address = \"/run/metrics.sock\"",
            "line 1: metrics_address: \"/run/metrics.sock\" is not built yet: ",
        ),
        (
            "[parapull]\nregistry_config_path = \"/etc/containerd/certs.d\"",
            "parapull.registry_config_path: ",
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
fn keys_that_only_concern_lazy_loading_are_ignored_and_told() {
    let text = r#"
no_prometheus = false
mount_timeout_sec = 30
[http]
MaxRetries = 8
[blob]
max_retries = 8
[content_store]
type = "containerd"
[[resolver.host."a.example".mirrors]]
host = "b.example"
[registry]
config_path = ""
mirrors = {}
[cri_keychain]
enable_keychain = false
image_service_path = "/run/containerd/containerd.sock"
"#;
    let config = Config::from_toml(text, "file").unwrap();
    let ignored: Vec<_> = config
        .ignored
        .iter()
        .map(|each| (each.key.as_str(), each.line))
        .collect();
    assert_eq!(
        ignored,
        [
            ("no_prometheus", 2),
            ("mount_timeout_sec", 3),
            ("http.MaxRetries", 5),
            ("blob.max_retries", 7),
            ("content_store.type", 9),
            ("resolver.host", 10),
            ("registry", 12),
            ("cri_keychain.image_service_path", 17),
        ]
    );
    assert!(config.ignored.iter().all(|each| !each.reason.is_empty()));
}

#[test]
fn limits_for_one_image_stay_below_the_total_as_in_soci() {
    let file = |downloads: &str, one: &str, enable: bool| {
        format!(
            "[pull_modes.parallel_pull_unpack]\nenable = {enable}\ndiscard_unpacked_layers = true\n\
             max_concurrent_downloads = {downloads}\nmax_concurrent_downloads_per_image = {one}\n\
             max_concurrent_unpacks = {downloads}\nmax_concurrent_unpacks_per_image = {one}\n"
        )
    };
    for (total, one) in [
        ("-1", "3"),
        ("3", "-1"),
        ("3", "3"),
        ("0", "0"),
        ("\"auto\"", "300"),
        ("2", "\"auto\""),
    ] {
        let config = Config::from_toml(&file(total, one, true), "file").unwrap();
        assert!(
            config.engine(4, 0).is_ok(),
            "{total} {one}: {:?}",
            config.engine(4, 0)
        );
    }
    let error = Config::from_toml(&file("3", "4", true), "file").unwrap_err();
    assert_eq!(error.problems().len(), 2);
    let first = error.problems()[0].to_string();
    assert_eq!(
        first,
        "line 5: pull_modes.parallel_pull_unpack.max_concurrent_downloads_per_image: 4 for one image is more than 3 in \
         total (max_concurrent_downloads): lower it or raise the total"
    );
    assert!(
        Config::from_toml(&file("3", "4", false), "file").is_ok(),
        "off, SOCI does not look either"
    );
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
fn overrides_take_flat_names_and_bare_values() {
    let config = overridden(&[
        "concurrent_download_chunk_size=8mb",
        "max_concurrent_downloads_per_image=-1",
        "window = 1GiB",
        "cancel_grace=5s",
        "strategy=multipart",
        "trace_dir=42",
        "parapull.threads=9",
        "enable=false",
    ])
    .unwrap();
    let settings = &config.settings;
    assert_eq!(settings.chunk, Setting::Is(ByteSize(8 << 20)));
    assert_eq!(settings.fetches_per_image, Concurrency::Unlimited);
    assert_eq!(settings.window, Setting::Is(ByteSize(1 << 30)));
    assert_eq!(settings.cancel_grace, Duration::from_secs(5));
    assert_eq!(settings.strategy, Strategy::Multipart);
    assert_eq!(settings.trace_dir.as_deref(), Some(Path::new("42")));
    assert_eq!(settings.threads, Setting::Is(9));
    assert!(!settings.enable && settings.discard_unpacked_layers);
    assert_eq!(
        settings.unpacks,
        Concurrency::Auto,
        "an override is not SOCI's table"
    );
}

#[test]
fn overrides_that_are_wrong_are_refused() {
    for (text, expected) in [
        ("window", "window: must be key=value"),
        ("windows=1GiB", "windows: unknown key; did you mean window?"),
        ("x=1", "x: unknown key"),
        ("window=many", "parapull.window: must be a size"),
        ("sync=layer", "parapull.sync: \"layer\" is not built yet"),
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
fn an_override_may_mend_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "[pull_modes.parallel_pull_unpack]\nenable = true\n",
    )
    .unwrap();
    assert!(Config::load(Some(file.path())).is_err());
    let mended = Config::load_with(
        Some(file.path()),
        &["discard_unpacked_layers=true".to_owned()],
    );
    assert!(mended.is_ok(), "{mended:?}");
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
fn explanations_tell_sources_and_ceilings() {
    let text = "[pull_modes.parallel_pull_unpack]\nenable = true\ndiscard_unpacked_layers = true\n\
                max_concurrent_unpacks_per_image = -1\n";
    let config = Config::from_toml(text, "file").unwrap();
    let told: Vec<_> = config.explain(2).iter().map(ToString::to_string).collect();
    for expected in [
        "pull_modes.parallel_pull_unpack.enable = true (line 2)",
        "pull_modes.parallel_pull_unpack.max_concurrent_downloads = -1 (SOCI's default, as its table is in the file)\n    \
         no limit = 256: the ceiling, or the limit for one image if that is more",
        "pull_modes.parallel_pull_unpack.max_concurrent_downloads_per_image = 3 (SOCI's default, as its table is in the file)",
        "pull_modes.parallel_pull_unpack.max_concurrent_unpacks_per_image = -1 (line 4)\n    no limit = 32: as many as in total",
        "parapull.threads_per_lane = \"auto\" (default)\n    auto = 2: one inflates, one hashes and writes",
    ] {
        assert!(
            told.iter().any(|line| line == expected),
            "{expected}\n---\n{}",
            told.join("\n")
        );
    }
}

fn overridden(overrides: &[&str]) -> Result<Config, parapull_snapshotter::config::ConfigError> {
    let overrides: Vec<_> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Config::default().with_overrides(&overrides)
}
