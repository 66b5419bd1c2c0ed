//! What can be set, and our and SOCI's defaults.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use parapull_engine::Strategy;
use parapull_scenario::{ByteSize, Setting};

use crate::store::SyncPolicy;

/// Everything that can be set. The meaning of each field is told with its key (`parapull-snapshotter config default`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `strategy`.
    pub strategy: Strategy,
    /// `enable` of SOCI's table; see [`Config::pulls`](super::Config::pulls).
    pub enable: bool,
    /// `experimental_parallel_pull_as_fallback` of SOCI's table; see [`Config::pulls`](super::Config::pulls).
    pub enable_as_fallback: bool,
    /// `max_concurrent_downloads`.
    pub fetches: Concurrency,
    /// `max_concurrent_downloads_per_image`.
    pub fetches_per_image: Concurrency,
    /// `concurrent_download_chunk_size`; 0 is a whole layer.
    pub chunk: Setting<ByteSize>,
    /// `max_concurrent_unpacks`.
    pub unpacks: Concurrency,
    /// `max_concurrent_unpacks_per_image`.
    pub unpacks_per_image: Concurrency,
    /// `discard_unpacked_layers`.
    pub discard_unpacked_layers: bool,
    /// Algorithms that `decompress_streams` names a program for.
    pub decompress_streams: Vec<String>,
    /// `window`.
    pub window: Setting<ByteSize>,
    /// `layer_window`.
    pub layer_window: Setting<ByteSize>,
    /// `slice`.
    pub slice: Setting<ByteSize>,
    /// `spool`.
    pub spool: Setting<ByteSize>,
    /// `threads`.
    pub threads: Setting<u32>,
    /// `threads_per_lane`.
    pub threads_per_lane: Setting<u32>,
    /// `cores`.
    pub cores: Setting<u32>,
    /// `wide_threads`.
    pub wide_threads: Setting<u32>,
    /// `wide_min`.
    pub wide_min: Setting<ByteSize>,
    /// `index_cache`; 0 is off.
    pub index_cache: Setting<ByteSize>,
    /// `max_uncompressed`.
    pub max_uncompressed: ByteSize,
    /// `max_expansion`.
    pub max_expansion: u64,
    /// `max_entries`.
    pub max_entries: u64,
    /// `max_path`.
    pub max_path: ByteSize,
    /// `max_xattrs`.
    pub max_xattrs: ByteSize,
    /// `max_metadata`.
    pub max_metadata: ByteSize,
    /// `max_sparse_pieces`.
    pub max_sparse_pieces: u64,
    /// `attempts_max`.
    pub attempts_max: u32,
    /// `backoff_max`.
    pub backoff_max: Duration,
    /// `retry_after_max`.
    pub retry_after_max: Duration,
    /// `stall_timeout`.
    pub stall_timeout: Duration,
    /// `retries_max`.
    pub retries_max: u32,
    /// `progress_timeout`.
    pub progress_timeout: Duration,
    /// `shutdown_grace`.
    pub shutdown_grace: Duration,
    /// `connections_per_host`.
    pub connections_per_host: Concurrency,
    /// `requests_per_second_per_host`.
    pub requests_per_second_per_host: Concurrency,
    /// `host_cool_down`.
    pub host_cool_down: Duration,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// `first_byte_timeout`.
    pub first_byte_timeout: Duration,
    /// `cancel_grace`.
    pub cancel_grace: Duration,
    /// `staging_ttl`.
    pub staging_ttl: Duration,
    /// `sync`.
    pub sync: SyncPolicy,
    /// `disk_reserve`.
    pub disk_reserve: Setting<ByteSize>,
    /// `mount_options`.
    pub mount_options: Vec<String>,
    /// `upperdir_label`.
    pub upperdir_label: bool,
    /// `sync_remove`.
    pub sync_remove: bool,
    /// `remap_ids`.
    pub remap_ids: bool,
    /// `resume`.
    pub resume: Resume,
    /// `trace_dir`.
    pub trace_dir: Option<PathBuf>,
    /// `registry_config_path`.
    pub registry_config_path: Option<PathBuf>,
    /// `metrics_address`.
    pub metrics_address: Option<String>,
    /// `content_store.containerd_address`.
    pub containerd_address: Option<PathBuf>,
    /// `cri_keychain.enable_keychain`.
    pub cri_keychain: bool,
    /// `kubeconfig_keychain.enable_keychain`.
    pub kubeconfig_keychain: bool,
}

/// How many of something may run at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// What suits the node and the strategy.
    #[default]
    Auto,
    /// SOCI's -1 and 0: as many as make sense; see [`Config::limits`](super::Config::limits) for the ceilings.
    Unlimited,
    /// Just this many.
    AtMost(NonZeroU32),
}

/// What of a pull survives the end of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Layers that were linked.
    #[default]
    Layers,
    /// Also bytes of layers that were not finished.
    Bytes,
}

impl Default for Settings {
    /// Ours: remote pulls on, every limit `auto`, nothing kept compressed.
    fn default() -> Self {
        Self {
            strategy: Strategy::Streamed,
            enable: true,
            enable_as_fallback: false,
            fetches: Concurrency::Auto,
            fetches_per_image: Concurrency::Auto,
            chunk: Setting::Auto,
            unpacks: Concurrency::Auto,
            unpacks_per_image: Concurrency::Auto,
            discard_unpacked_layers: true,
            decompress_streams: Vec::new(),
            window: Setting::Auto,
            layer_window: Setting::Auto,
            slice: Setting::Auto,
            spool: Setting::Auto,
            threads: Setting::Auto,
            threads_per_lane: Setting::Auto,
            cores: Setting::Auto,
            wide_threads: Setting::Auto,
            wide_min: Setting::Auto,
            index_cache: Setting::Auto,
            max_uncompressed: ByteSize(1 << 40),
            max_expansion: 40_000,
            max_entries: 10_000_000,
            max_path: ByteSize(4 << 10),
            max_xattrs: ByteSize(64 << 10),
            max_metadata: ByteSize(1 << 20),
            max_sparse_pieces: 1_000_000,
            attempts_max: 8,
            backoff_max: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(20),
            retries_max: 1_000,
            progress_timeout: Duration::from_secs(120),
            shutdown_grace: Duration::from_secs(10),
            connections_per_host: Concurrency::Auto,
            requests_per_second_per_host: Concurrency::Auto,
            host_cool_down: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(30),
            staging_ttl: Duration::from_secs(600),
            sync: SyncPolicy::Background,
            disk_reserve: Setting::Auto,
            mount_options: Vec::new(),
            upperdir_label: false,
            sync_remove: false,
            remap_ids: false,
            resume: Resume::Layers,
            trace_dir: None,
            registry_config_path: None,
            metrics_address: None,
            containerd_address: None,
            cri_keychain: false,
            kubeconfig_keychain: false,
        }
    }
}

impl Settings {
    /// The same with SOCI's defaults for the keys of SOCI's table (`config/defaults.go` there): off, three whole layers
    /// at once for one image, one unpacked, blobs kept.
    #[must_use]
    pub fn soci() -> Self {
        Self {
            enable: false,
            enable_as_fallback: false,
            fetches: Concurrency::Unlimited,
            fetches_per_image: Concurrency::AtMost(THREE),
            chunk: Setting::Is(ByteSize(0)),
            unpacks: Concurrency::Unlimited,
            unpacks_per_image: Concurrency::AtMost(NonZeroU32::MIN),
            discard_unpacked_layers: false,
            decompress_streams: Vec::new(),
            ..Self::default()
        }
    }
}

/// The policies of syncing with their names in the file.
pub(super) const SYNC_NAMES: [(&str, SyncPolicy); 3] = [
    ("background", SyncPolicy::Background),
    ("layer", SyncPolicy::Layer),
    ("none", SyncPolicy::None),
];

impl Resume {
    /// All of them with their names in the file.
    pub(super) const NAMES: [(&'static str, Self); 2] =
        [("layers", Self::Layers), ("bytes", Self::Bytes)];
}

const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
