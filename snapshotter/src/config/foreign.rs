//! Keys of SOCI's that are known and have no effect here, and why.
//!
//! They are recognised so that a working file of SOCI's loads, and reported so that nobody waits for an effect.

/// Keys of one table that have no effect for the same reason.
struct Foreign {
    /// The table with a dot at its end; nothing at the top of the file.
    table: &'static str,
    /// Names in the table; `*` is all it holds, further tables included.
    names: &'static [&'static str],
    /// Why they have no effect.
    reason: &'static str,
}

/// Why a key has no effect, if it is one of these.
pub(super) fn reason(path: &str) -> Option<&'static str> {
    TABLE
        .iter()
        .find(|foreign| {
            path.strip_prefix(foreign.table)
                .is_some_and(|name| foreign.names.contains(&name))
                || foreign.names == ["*"] && path == foreign.table.trim_end_matches('.')
        })
        .map(|foreign| foreign.reason)
}

/// Whether some of these keys stand in the table at `path`.
pub(super) fn has_table(path: &str) -> bool {
    TABLE.iter().any(|foreign| {
        foreign
            .table
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// All of their paths, for suggestions.
pub(super) fn paths() -> impl Iterator<Item = String> {
    TABLE.iter().flat_map(|foreign| {
        foreign
            .names
            .iter()
            .filter(|name| **name != "*")
            .map(|name| format!("{}{name}", foreign.table))
    })
}

const LAZY: &str = "it concerns lazy loading only; whole images are pulled here";
const REQUESTS: &str = "SOCI's parallel mode does not follow it either; see attempts_max, backoff_max, connect_timeout, \
     first_byte_timeout and stall_timeout of [parapull]";
const METRICS: &str = "it only shapes metrics, and none are served";
const NO_KEYCHAIN: &str = "it only shapes a keychain that is not enabled";
const UNREAD: &str = "SOCI does not read it either";

static TABLE: &[Foreign] = &[
    Foreign {
        table: "",
        names: &[
            "http_cache_type",
            "filesystem_cache_type",
            "resolve_result_entry",
            "disable_verification",
            "allow_no_verification",
            "max_concurrency",
            "mount_timeout_sec",
            "metadata_store",
            "metadata_db_no_sync",
            "metadata_insertion_chunk_size",
        ],
        reason: LAZY,
    },
    Foreign {
        table: "",
        names: &[
            "no_prometheus",
            "metrics_network",
            "fuse_metrics_emit_wait_duration_sec",
        ],
        reason: METRICS,
    },
    Foreign {
        table: "",
        names: &["debug"],
        reason: "give --log-level to `parapull-snapshotter serve`",
    },
    Foreign {
        table: "",
        names: &["debug_address"],
        reason: "it serves profiles of the Go runtime, which is not used here",
    },
    Foreign {
        table: "",
        names: &["skip_check_snapshotter_supported"],
        reason: "whether overlayfs works is seen when it is mounted",
    },
    Foreign {
        table: "parapull.",
        names: &["slow_chown"],
        reason: "containerd itself copies the owners of what a plugin without the capability remap-ids gives it",
    },
    Foreign {
        table: "parapull.",
        names: &["root_path"],
        reason: "give --root to `parapull-snapshotter serve`",
    },
    Foreign {
        table: "pull_modes.soci_v1.",
        names: &["enable"],
        reason: LAZY,
    },
    Foreign {
        table: "pull_modes.soci_v2.",
        names: &["enable"],
        reason: LAZY,
    },
    Foreign {
        table: "http.",
        names: &[
            "DialTimeoutMsec",
            "ResponseHeaderTimeoutMsec",
            "RequestTimeoutMsec",
            "MaxRetries",
            "MinWaitMsec",
            "MaxWaitMsec",
        ],
        reason: REQUESTS,
    },
    Foreign {
        table: "blob.",
        names: &[
            "valid_interval",
            "check_always",
            "fetching_timeout_sec",
            "force_single_range_mode",
            "max_retries",
            "min_wait_msec",
            "max_wait_msec",
            "max_span_verification_retries",
        ],
        reason: LAZY,
    },
    Foreign {
        table: "directory_cache.",
        names: &["max_lru_cache_entry", "max_cache_fds", "sync_add", "direct"],
        reason: LAZY,
    },
    Foreign {
        table: "fuse.",
        names: &[
            "attr_timeout",
            "entry_timeout",
            "negative_timeout",
            "log_fuse_operations",
        ],
        reason: LAZY,
    },
    Foreign {
        table: "background_fetch.",
        names: &[
            "disable",
            "silence_period_msec",
            "fetch_period_msec",
            "max_queue_size",
            "drop_policy",
            "emit_metric_period_sec",
        ],
        reason: LAZY,
    },
    Foreign {
        table: "prefetch.",
        names: &["enable", "max_concurrency"],
        reason: LAZY,
    },
    Foreign {
        table: "resolver.",
        names: &["auth_client_ttl_sec", "enable_auth_client_sharing"],
        reason: "clients are shared and renew their tokens by themselves",
    },
    Foreign {
        table: "resolver.host.",
        names: &["*"],
        reason: "SOCI's parallel mode does not ask mirrors either",
    },
    Foreign {
        table: "content_store.",
        names: &["type"],
        reason: "no compressed layer is stored",
    },
    Foreign {
        table: "content_store.",
        names: &["namespace"],
        reason: UNREAD,
    },
    Foreign {
        table: "cri_keychain.",
        names: &["image_service_path"],
        reason: NO_KEYCHAIN,
    },
    Foreign {
        table: "kubeconfig_keychain.",
        names: &["kubeconfig_path"],
        reason: NO_KEYCHAIN,
    },
    Foreign {
        table: "snapshotter.",
        names: &["min_layer_size", "allow_invalid_mounts_on_restart"],
        reason: LAZY,
    },
    Foreign {
        table: "registry.",
        names: &["*"],
        reason: UNREAD,
    },
    Foreign {
        table: "Mirror.",
        names: &["*"],
        reason: UNREAD,
    },
    Foreign {
        table: "RegistryConfig.",
        names: &["*"],
        reason: UNREAD,
    },
    Foreign {
        table: "auth.",
        names: &["*"],
        reason: UNREAD,
    },
    Foreign {
        table: "tls.",
        names: &["*"],
        reason: UNREAD,
    },
];
