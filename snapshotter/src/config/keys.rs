//! Every key we honour: what it is called, what it holds, what it means, and whether it is built.

use std::time::Duration;

use super::settings::Settings;
use super::values::Kind;

/// One key.
pub(super) struct Key {
    /// Its tables and its name, such as `parapull.window`.
    pub(super) path: &'static str,
    /// What it may hold, and where that goes.
    pub(super) kind: Kind,
    /// What it means, one line after the other.
    pub(super) doc: &'static str,
    /// The path of the key whose setting this one is another name for.
    pub(super) alias_of: Option<&'static str>,
    /// What is not built about it.
    pub(super) missing: Option<Missing>,
}

/// What is not built about a key: it must hold its one good value, and is refused otherwise.
#[derive(Clone, Copy)]
pub(super) struct Missing {
    /// The value that works, as TOML.
    pub(super) only: &'static str,
    /// What to do instead, to be read after "is not built yet:".
    pub(super) advice: &'static str,
    /// Whether it matters only while images are pulled at all.
    pub(super) while_pulling: bool,
}

impl Key {
    /// Its name without its tables.
    pub(super) fn name(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// Its tables; nothing at the top of the file.
    pub(super) fn table(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// The path its setting is known by.
    pub(super) fn setting(&self) -> &'static str {
        self.alias_of.unwrap_or(self.path)
    }

    /// Whether an override may call it by its name alone.
    pub(super) fn is_flat(&self) -> bool {
        [PARAPULL, SOCI].contains(&self.table())
    }

    /// What an override may call it.
    pub(super) fn override_name(&self) -> &'static str {
        if self.is_flat() {
            self.name()
        } else {
            self.path
        }
    }
}

/// The key at a path.
pub(super) fn at(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The key an override means.
pub(super) fn overridden_by(name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.is_flat() && key.name() == name)
        .or_else(|| at(name))
}

const fn key(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        doc,
        alias_of: None,
        missing: None,
    }
}

impl Key {
    const fn missing(self, only: &'static str, advice: &'static str) -> Self {
        Self {
            missing: Some(Missing {
                only,
                advice,
                while_pulling: false,
            }),
            ..self
        }
    }

    const fn missing_while_pulling(self, only: &'static str, advice: &'static str) -> Self {
        Self {
            missing: Some(Missing {
                only,
                advice,
                while_pulling: true,
            }),
            ..self
        }
    }

    const fn alias_of(self, path: &'static str) -> Self {
        Self {
            alias_of: Some(path),
            ..self
        }
    }
}

const fn seconds(of: fn(&mut Settings) -> &mut Duration, min: u64, max: u64) -> Kind {
    Kind::Duration {
        of,
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}

/// Our own table.
pub(super) const PARAPULL: &str = "parapull";
/// SOCI's table.
pub(super) const SOCI: &str = "pull_modes.parallel_pull_unpack";

const DISCARD: &str = "parapull.discard_unpacked_layers";
const METRICS: &str = "parapull.metrics_address";
const DISCARD_ADVICE: &str = "keeping compressed layers in the content store; write discard_unpacked_layers = true in \
     [parapull] (an image can be pulled again from its registry)";
const METRICS_ADVICE: &str =
    "metrics; remove the address and use `parapull-snapshotter status --json`";
const KEYCHAIN_ADVICE: &str = "credentials that pass through this socket or come from Kubernetes; set it to false and \
     provide $DOCKER_CONFIG/config.json or a credential helper";

/// All keys, in the order in which they are written.
pub(super) static KEYS: &[Key] = &[
    key(
        "metrics_address",
        Kind::Text(|s| &mut s.metrics_address),
        "SOCI's place for metrics_address of [parapull].",
    )
    .alias_of(METRICS)
    .missing("\"\"", METRICS_ADVICE),
    key(
        "parapull.strategy",
        Kind::Strategy(|s| &mut s.strategy),
        "How images are pulled: \"streamed\" unpacks layers while their bytes arrive. \"store-then-unpack\" (as SOCI),\n\
         \"multipart\" (as containerd 2.1) and \"sequential\" (as containerd) first store them; they are for comparisons.",
    ),
    key(
        DISCARD,
        Kind::Flag(|s| &mut s.discard_unpacked_layers),
        "Whether compressed layers are thrown away once unpacked, so that only files are written to the disk.\n\
         May stand in SOCI's table as well; with that table in the file and the key in neither, it is false as with SOCI.",
    )
    .missing_while_pulling("true", DISCARD_ADVICE),
    key(
        "parapull.window",
        Kind::SizeOrAuto(|s| &mut s.window),
        "Fetched bytes held in memory until they are unpacked: what all pulls together cost in memory.\n\
         \"auto\": 512MiB, or two chunks for every layer unpacked at once if that is more.",
    ),
    key(
        "parapull.layer_window",
        Kind::SizeOrAuto(|s| &mut s.layer_window),
        "The part of the window one layer may take: how far fetching may run ahead of its unpacking.\n\
         \"auto\": 128MiB, at least two chunks, at most the window.",
    ),
    key(
        "parapull.slice",
        Kind::SizeOrAuto(|s| &mut s.slice),
        "Bytes granted at a time to a request that reads a whole layer.\n\
         \"auto\": one chunk, at most 8MiB.",
    ),
    key(
        "parapull.spool",
        Kind::SizeOrAuto(|s| &mut s.spool),
        "Compressed bytes held on disk by strategies that store layers first.\n\
         \"auto\": no bound; \"streamed\" holds none.",
    ),
    key(
        "parapull.threads",
        Kind::Count(|s| &mut s.threads),
        "Threads that unpack, in total; each layer unpacked at once needs one.\n\
         \"auto\": two for every core, since inflating and writing alternate.",
    ),
    key(
        "parapull.threads_per_lane",
        Kind::Count(|s| &mut s.threads_per_lane),
        "Threads that unpack one layer at most.\n\
         \"auto\": 2 when streamed, one inflates while the other hashes and writes.",
    ),
    key(
        "parapull.cores",
        Kind::Count(|s| &mut s.cores),
        "Cores to count on; what is \"auto\" follows them.\n\
         \"auto\": those this process may run on.",
    ),
    key(
        "parapull.wide_threads",
        Kind::Count(|s| &mut s.wide_threads),
        "Threads that unpack the layer a pull waits for, while cores would be idle; 1 never gives it more than others.\n\
         \"auto\": one more than cores, at most 6; 1 on two cores or without SHA instructions, where it does not pay.",
    ),
    key(
        "parapull.wide_min",
        Kind::SizeOrAuto(|s| &mut s.wide_min),
        "Compressed bytes a layer must still have for that.\n\
         \"auto\": 32MiB; less is unpacked in a fifth of a second.",
    ),
    key(
        "parapull.index_cache",
        Kind::SizeOrOff(|s| &mut s.index_cache),
        "How much disk the indexes of layers may take: where each can be entered, noted while it is unpacked, so that\n\
         several threads inflate it without guessing when the daemon unpacks it again.\n\
         \"auto\": 256MiB where threads_per_lane is three or more, otherwise \"off\", since noting costs every unpack some time.",
    ),
    key(
        "parapull.max_uncompressed",
        Kind::Size(|s| &mut s.max_uncompressed),
        "The most bytes one layer may unpack to; a larger one fails its pull.",
    ),
    key(
        "parapull.max_expansion",
        Kind::Amount(|s| &mut s.max_expansion),
        "The most uncompressed bytes for one compressed byte, once a layer has 64MiB. gzip cannot exceed 1032, zstd 32000.",
    ),
    key(
        "parapull.max_entries",
        Kind::Amount(|s| &mut s.max_entries),
        "The most files, directories, links and whiteouts in one layer.",
    ),
    key(
        "parapull.max_path",
        Kind::Size(|s| &mut s.max_path),
        "The longest path of an entry, and the longest target of a link. Linux takes less than 4KiB in any case.",
    ),
    key(
        "parapull.max_xattrs",
        Kind::Size(|s| &mut s.max_xattrs),
        "The most bytes in the names and values of one entry's extended attributes.",
    ),
    key(
        "parapull.max_metadata",
        Kind::Size(|s| &mut s.max_metadata),
        "The longest extended header, long name or sparse map of one entry; it is held in memory. containerd takes 1MiB.",
    ),
    key(
        "parapull.max_sparse_pieces",
        Kind::Amount(|s| &mut s.max_sparse_pieces),
        "The most pieces of one sparse file.",
    ),
    key(
        "parapull.attempts_max",
        Kind::Number(|s| &mut s.attempts_max),
        "Attempts for one range of one source, the first included.",
    ),
    key(
        "parapull.backoff_max",
        seconds(|s| &mut s.backoff_max, 1, 3_600),
        "The longest wait before another attempt; waits double from 200ms, each shortened at random.",
    ),
    key(
        "parapull.retry_after_max",
        seconds(|s| &mut s.retry_after_max, 0, 3_600),
        "The longest Retry-After that is obeyed; a longer one fails the pull.",
    ),
    key(
        "parapull.stall_timeout",
        seconds(|s| &mut s.stall_timeout, 1, 3_600),
        "How long a request may stay below 10 KiB/s before the rest of its range is asked for again.",
    ),
    key(
        "parapull.retries_max",
        Kind::Number(|s| &mut s.retries_max),
        "Requests for layers that one pull may repeat in all; the next one that fails then fails the pull.",
    ),
    key(
        "parapull.progress_timeout",
        seconds(|s| &mut s.progress_timeout, 1, 86_400),
        "How long a pull may go without a single byte while it waits for one. Waiting for a free request, for memory, for\n\
         Retry-After or for containerd does not count.",
    ),
    key(
        "parapull.shutdown_grace",
        seconds(|s| &mut s.shutdown_grace, 0, 3_600),
        "How long layers whose bytes are all here may finish unpacking when the daemon is told to stop.",
    ),
    key(
        "parapull.connections_per_host",
        Kind::Concurrency(|s| &mut s.connections_per_host),
        "Connections to one registry or mirror at most. \"auto\" and -1: as many as there are requests, fewer where a host\n\
         is seen to serve fewer; a host that asks to slow down gets half as many, then more again one by one.",
    ),
    key(
        "parapull.requests_per_second_per_host",
        Kind::Concurrency(|s| &mut s.requests_per_second_per_host),
        "Requests for layers to one registry or mirror in a second at most. \"auto\" and -1: no limit but the host's own.",
    ),
    key(
        "parapull.host_cool_down",
        seconds(|s| &mut s.host_cool_down, 0, 86_400),
        "How long a registry or mirror that failed five times in a row is avoided while there is another one.",
    ),
    key(
        "parapull.connect_timeout",
        seconds(|s| &mut s.connect_timeout, 1, 3_600),
        "The longest time until a connection stands, name resolution and TLS included.",
    ),
    key(
        "parapull.first_byte_timeout",
        seconds(|s| &mut s.first_byte_timeout, 1, 3_600),
        "The longest wait for the head of an answer.",
    ),
    key(
        "parapull.cancel_grace",
        seconds(|s| &mut s.cancel_grace, 0, 86_400),
        "How long a pull goes on while nobody waits for it, so that a repeated request finds its work.",
    ),
    key(
        "parapull.staging_ttl",
        seconds(|s| &mut s.staging_ttl, 0, 604_800),
        "How long an unpacked layer that nobody asked for is kept, counted anew from a restart of the daemon; \"0s\" keeps none.",
    ),
    key(
        "parapull.sync",
        Kind::Sync(|s| &mut s.sync),
        "When the files of unpacked layers are written to the disk for certain: \"background\", once after each pull, so that\n\
         a power failure takes the images of the last pulls and the next start says which; \"layer\", before each layer is\n\
         answered for; \"none\", when the kernel does, so that a power failure may leave empty files behind, as with\n\
         containerd's own snapshotters.",
    ),
    key(
        "parapull.disk_reserve",
        Kind::SizeOrAuto(|s| &mut s.disk_reserve),
        "Free space that layers leave on the file system they are unpacked to. \"auto\": a hundredth of it, at most 1GiB.",
    ),
    key(
        "parapull.mount_options",
        Kind::Options(|s| &mut s.mount_options),
        "Further options of every overlay mount, as containerd's overlayfs snapshotter takes them.",
    ),
    key(
        "parapull.upperdir_label",
        Kind::Flag(|s| &mut s.upperdir_label),
        "Whether the label containerd.io/snapshot/overlay.upperdir of a snapshot says where its own files lie, as with\n\
         containerd's overlayfs snapshotter.",
    ),
    key(
        "parapull.sync_remove",
        Kind::Flag(|s| &mut s.sync_remove),
        "Whether the removal of a snapshot is answered only when its files are gone; else they go in the background.",
    ),
    key(
        "parapull.remap_ids",
        Kind::Flag(|s| &mut s.remap_ids),
        "Whether user namespaces are mapped by the mounts. It needs idmapped overlays (Linux 5.19) and\n\
         capabilities = [\"remap-ids\"] with this plugin in containerd's configuration.",
    ),
    key(
        "parapull.resume",
        Kind::Resume(|s| &mut s.resume),
        "What of an unfinished pull survives a restart of the daemon: \"layers\" that were unpacked and verified. \"bytes\" of\n\
         unfinished layers is not built yet.",
    )
    .missing(
        "\"layers\"",
        "a journal of fetched bytes; write resume = \"layers\"",
    ),
    key(
        "parapull.trace_dir",
        Kind::Path(|s| &mut s.trace_dir),
        "A directory for traces of pulls that `parapull-sim replay` can repeat; \"\" writes none.",
    ),
    key(
        "parapull.registry_config_path",
        Kind::Path(|s| &mut s.registry_config_path),
        "A directory like containerd's certs.d, with a hosts.toml for each registry: mirrors, certificates, plain HTTP.\n\
         \"\": registries are asked directly.",
    ),
    key(
        METRICS,
        Kind::Text(|s| &mut s.metrics_address),
        "Where metrics are served for Prometheus. Not built yet: must be \"\".",
    )
    .missing("\"\"", METRICS_ADVICE),
    key(
        "pull_modes.parallel_pull_unpack.enable",
        Kind::Flag(|s| &mut s.enable),
        "Whether images are pulled at all; without, this is an ordinary overlay snapshotter.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.experimental_parallel_pull_as_fallback",
        Kind::Flag(|s| &mut s.enable_as_fallback),
        "The same as enable: there is no lazy loading here that could come first.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.max_concurrent_downloads",
        Kind::Concurrency(|s| &mut s.fetches),
        "Requests at once in total; each is a connection. \"auto\": four images' worth. -1: 256, or the limit for one\n\
         image if that is more.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.max_concurrent_downloads_per_image",
        Kind::Concurrency(|s| &mut s.fetches_per_image),
        "Requests at once for one image. \"auto\": 16 (10 or 3 with strategies that store). -1: as many as in total.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.concurrent_download_chunk_size",
        Kind::Chunk(|s| &mut s.chunk),
        "The largest range asked for at once; \"\" asks for whole layers. \"auto\": 8MiB (whole layers with\n\
         \"sequential\"). Units are 1024-based: 8mb = 8MB = 8MiB.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.max_concurrent_unpacks",
        Kind::Concurrency(|s| &mut s.unpacks),
        "Layers unpacked at once in total. \"auto\": as for one image with \"streamed\", else four images' worth.\n\
         -1: 32, or the limit for one image if that is more.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.max_concurrent_unpacks_per_image",
        Kind::Concurrency(|s| &mut s.unpacks_per_image),
        "Layers unpacked at once for one image. \"auto\": one more than cores (10 or 1 with strategies that store).\n\
         -1: as many as in total.",
    ),
    key(
        "pull_modes.parallel_pull_unpack.discard_unpacked_layers",
        Kind::Flag(|s| &mut s.discard_unpacked_layers),
        "SOCI's place for discard_unpacked_layers of [parapull].",
    )
    .alias_of(DISCARD)
    .missing_while_pulling("true", DISCARD_ADVICE),
    key(
        "pull_modes.parallel_pull_unpack.decompress_streams",
        Kind::Streams(|s| &mut s.decompress_streams),
        "Programs that decompress, by algorithm. Not built yet: must be empty.",
    )
    .missing_while_pulling(
        "{}",
        "running external decompressors; remove the entries, layers are then inflated by the snapshotter itself",
    ),
    key(
        "content_store.containerd_address",
        Kind::Path(|s| &mut s.containerd_address),
        "containerd's socket, unless the command line names one; \"\" is /run/containerd/containerd.sock.",
    ),
    key(
        "cri_keychain.enable_keychain",
        Kind::Flag(|s| &mut s.cri_keychain),
        "Whether credentials are taken from CRI requests that pass through. Not built yet: must be false.",
    )
    .missing("false", KEYCHAIN_ADVICE),
    key(
        "kubeconfig_keychain.enable_keychain",
        Kind::Flag(|s| &mut s.kubeconfig_keychain),
        "Whether credentials are taken from Kubernetes secrets. Not built yet: must be false.",
    )
    .missing("false", KEYCHAIN_ADVICE),
];

#[cfg(test)]
mod tests;
