//! Configuration files and overrides: what loads, and as what.

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
