//! Whatever a configuration file says, it loads or is refused: nothing panics, and what loads can be written and read again.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use parapull_snapshotter::config::Config;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_text_loads_or_is_refused(text in any::<String>()) {
        outcome_is_sound(&text);
    }

    #[test]
    fn any_toml_loads_or_is_refused(text in toml_like()) {
        outcome_is_sound(&text);
    }

    #[test]
    fn any_override_is_taken_or_refused(name in prop::sample::select(vec!["window", "threads", "trace_dir", "max_concurrent_downloads", "staging_ttl", "decompress_streams", ""]), value in any::<String>()) {
        if let Ok(config) = Config::default().with_overrides(&[format!("{name}={value}")]) {
            let _ = config.engine(4, 0);
        }
    }
}

/// Text that is TOML more often than not, with keys and values from and beside the real ones.
fn toml_like() -> impl Strategy<Value = String> {
    let table = prop::sample::select(vec![
        "",
        "[parapull]",
        "[pull_modes.parallel_pull_unpack]",
        "[pull_modes]",
        "[fuse]",
        "[[resolver.host.x.mirrors]]",
        "[pull_modes.parallel_pull_unpack.decompress_streams.gzip]",
        "[content_store]",
        "[\"a.b\".c]",
    ]);
    let key = prop_oneof![
        prop::sample::select(vec![
            "window",
            "layer_window",
            "threads",
            "strategy",
            "sync",
            "enable",
            "max_concurrent_downloads",
            "max_concurrent_unpacks_per_image",
            "concurrent_download_chunk_size",
            "cancel_grace",
            "insecure",
            "discard_unpacked_layers",
            "trace_dir",
            "attr_timeout",
            "parapull.window",
            "\"\"",
            "\"a.b\"",
        ])
        .prop_map(str::to_owned),
        "[a-z_]{1,12}",
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-2_i64..40).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        "\"[ -!#-\\[\\]-~]{0,12}\"",
        prop::sample::select(vec![
            "true",
            "false",
            "\"auto\"",
            "\"8mb\"",
            "\"1.5GiB\"",
            "\"30s\"",
            "\"99999999999999 years\"",
            "[]",
            "{}",
            "[{insecure = true}]",
            "1979-05-27",
            "{a = {b = [1]}}",
            "\"streamed\"",
            "0xffffffffffffffff",
            "99999999999999999999",
            "\"\"",
        ])
        .prop_map(str::to_owned),
    ];
    let line = (key, value).prop_map(|(key, value)| format!("{key} = {value}"));
    prop::collection::vec(
        prop_oneof![1 => table.prop_map(str::to_owned), 4 => line],
        0..12,
    )
    .prop_map(|lines| lines.join("\n"))
}

/// Whatever loads can be written, read again as the same settings, explained and resolved; nothing panics.
fn outcome_is_sound(text: &str) {
    let config = match Config::from_toml(text, "file") {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.problems().is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let again = Config::from_toml(&config.to_toml(), "dump").unwrap();
    assert_eq!(again.settings, config.settings, "{}", config.to_toml());
    for cores in [0, 1, 64, u32::MAX] {
        let _ = config.explain(cores);
        let _ = config.engine(cores, 0).map_err(|error| error.to_string());
    }
}
