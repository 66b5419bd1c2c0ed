//! What a driver decides once: seed, limits, strategy, times.

use core::fmt;
use core::str::FromStr;

use crate::limits::Limits;
use crate::output::Destination;

/// Everything an engine is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// Where all randomness comes from; the shell draws it and writes it down.
    pub seed: u64,
    /// What may run at once.
    pub limits: Limits,
    /// In which order and form.
    pub scheduling: Scheduling,
    /// How long to wait, how often to try.
    pub timing: Timing,
    /// How hosts are treated.
    #[cfg_attr(feature = "serde", serde(default))]
    pub hosts: HostRules,
    /// Which slow ranges are asked for a second time; none where it is not said.
    #[cfg_attr(feature = "serde", serde(default = "HedgeRules::off"))]
    pub hedging: HedgeRules,
}

/// The ways of pulling that everything of ours compares under the same names.
///
/// A strategy sets scheduling only: what a decoder costs belongs to the host, and peers' bugs are not imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Strategy {
    /// containerd's default: three whole layers at once into a store, unpacked one after another, bottom up.
    Sequential,
    /// containerd 2.1: the same, each layer fetched in chunks.
    Multipart,
    /// SOCI's parallel mode: chunks of all layers in turn into files, each layer unpacked when it is complete.
    StoreThenUnpack,
    /// Ours: unpacked while its bytes arrive, longest remaining layer first, nothing stored compressed.
    Streamed,
}

/// What a strategy means to the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Scheduling {
    /// Where fetched bytes wait.
    pub destination: Destination,
    /// Which blob is read next.
    pub fetch_order: FetchOrder,
    /// Which layer is unpacked next.
    pub unpack_order: UnpackOrder,
}

/// Which blob gets the next permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum FetchOrder {
    /// Running lanes are fed first; then the layer someone waits for; then the longest remaining one.
    LongestPath,
    /// Every blob in turn, as SOCI's FIFO semaphores do.
    RoundRobin,
    /// Bottom layer first, as containerd does.
    BottomUp,
}

/// Which layer gets the next lane, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum UnpackOrder {
    /// At once, the layer someone waits for first, then the longest.
    LongestPath,
    /// At once, the bottom layer first.
    BottomUp,
    /// When the blob is complete, in the order of completion.
    Completion,
    /// When the blob is complete and every layer below is linked.
    Chain,
}

impl Strategy {
    /// All of them, slowest first.
    pub const ALL: [Self; 4] = [
        Self::Sequential,
        Self::Multipart,
        Self::StoreThenUnpack,
        Self::Streamed,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Multipart => "multipart",
            Self::StoreThenUnpack => "store-then-unpack",
            Self::Streamed => "streamed",
        }
    }

    /// What it means to the scheduler.
    pub const fn scheduling(self) -> Scheduling {
        match self {
            Self::Sequential | Self::Multipart => Scheduling {
                destination: Destination::Spool,
                fetch_order: FetchOrder::BottomUp,
                unpack_order: UnpackOrder::Chain,
            },
            Self::StoreThenUnpack => Scheduling {
                destination: Destination::Spool,
                fetch_order: FetchOrder::RoundRobin,
                unpack_order: UnpackOrder::Completion,
            },
            Self::Streamed => Scheduling {
                destination: Destination::Window,
                fetch_order: FetchOrder::LongestPath,
                unpack_order: UnpackOrder::LongestPath,
            },
        }
    }
}

impl FetchOrder {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LongestPath, Self::RoundRobin, Self::BottomUp];

    /// Its name in settings and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LongestPath => "longest-path",
            Self::RoundRobin => "round-robin",
            Self::BottomUp => "bottom-up",
        }
    }
}

impl UnpackOrder {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::LongestPath,
        Self::BottomUp,
        Self::Completion,
        Self::Chain,
    ];

    /// Its name in settings and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LongestPath => "longest-path",
            Self::BottomUp => "bottom-up",
            Self::Completion => "completion",
            Self::Chain => "chain",
        }
    }

    /// Whether layers are unpacked while their bytes arrive.
    pub const fn is_at_once(self) -> bool {
        matches!(self, Self::LongestPath | Self::BottomUp)
    }
}

impl Scheduling {
    /// The same with other orders, where they are given.
    ///
    /// # Errors
    /// The order of unpacking does not go with where the bytes wait: a window may be smaller than a layer, so what goes
    /// there is unpacked at once; what is stored first is unpacked when it is complete.
    pub fn ordered(
        self,
        fetch: Option<FetchOrder>,
        unpack: Option<UnpackOrder>,
    ) -> Result<Self, OrderError> {
        let ordered = Self {
            fetch_order: fetch.unwrap_or(self.fetch_order),
            unpack_order: unpack.unwrap_or(self.unpack_order),
            ..self
        };
        match (ordered.destination, ordered.unpack_order.is_at_once()) {
            (Destination::Window, false) => Err(OrderError::Streamed),
            (Destination::Spool, true) => Err(OrderError::Stored),
            _ => Ok(ordered),
        }
    }
}

/// Orders that a strategy cannot follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// A streamed layer cannot wait until it is complete.
    Streamed,
    /// A stored layer cannot be unpacked before it is complete.
    Stored,
    /// A text that names no order.
    Unknown,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streamed => {
                "streamed layers are unpacked while their bytes arrive: use longest-path or bottom-up"
            }
            Self::Stored => "stored layers are unpacked when they are complete: use completion or chain",
            Self::Unknown => {
                "unknown order: fetches know longest-path, round-robin and bottom-up, unpacks longest-path, bottom-up, \
                 completion and chain"
            }
        })
    }
}

impl core::error::Error for OrderError {}

impl FromStr for FetchOrder {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let named = Self::ALL.into_iter().find(|order| order.name() == text);
        named.ok_or(OrderError::Unknown)
    }
}

impl FromStr for UnpackOrder {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let named = Self::ALL.into_iter().find(|order| order.name() == text);
        named.ok_or(OrderError::Unknown)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStrategy;

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown strategy: use sequential, multipart, store-then-unpack or streamed")
    }
}

impl core::error::Error for UnknownStrategy {}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == text)
            .ok_or(UnknownStrategy)
    }
}

/// How long to wait and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct Timing {
    /// Attempts for one range of one source, the first included; at least 1.
    pub attempts_max: u32,
    /// Bound of the first backoff; each further one doubles it.
    pub backoff_ms_min: u64,
    /// Bound no backoff exceeds.
    pub backoff_ms_max: u64,
    /// Longest `Retry-After` obeyed; a longer one is an error.
    pub retry_after_ms_max: u64,
    /// How long a request to a host may be under way without a byte, from the moment it is asked for: connecting and all a
    /// client does before the answer's first byte count. Up to `stall_ms` it makes no difference.
    pub first_byte_ms: u64,
    /// How often the progress of a fetch is checked, from its first byte on.
    pub stall_ms: u64,
    /// Bytes a fetch must keep between two checks.
    pub stall_bytes_min: u64,
    /// Requests one pull may repeat in all before its next failure is the last.
    pub retries_max: u32,
    /// How long a pull may go without any progress while it is owed some; 0 is for ever.
    pub progress_ms: u64,
    /// How long lanes that have all of their bytes may go on after a shutdown was requested; 0 cancels them at once.
    pub shutdown_grace_ms: u64,
    /// How long an unfinished image lives on while nobody waits for it.
    pub cancel_grace_ms: u64,
    /// How long a staged layer no image wants is kept.
    pub staging_ttl_ms: u64,
}

impl Default for Timing {
    /// The registry client's promises (`INTERFACES`, "Time"): 10 s to connect and 30 s for the first byte, 8 attempts, full jitter up to 10 s, `Retry-After` up to
    /// 60 s, below 10 KiB/s for 20 s is a stall, a pull without any progress for 2 minutes
    /// fails. A thousand repeated requests are more than a gigabyte of chunks of which every tenth fails ever needs.
    fn default() -> Self {
        Self {
            attempts_max: 8,
            backoff_ms_min: 200,
            backoff_ms_max: 10_000,
            retry_after_ms_max: 60_000,
            first_byte_ms: 40_000,
            stall_ms: 20_000,
            stall_bytes_min: 20 * 10 * 1024,
            retries_max: 1_000,
            progress_ms: 120_000,
            shutdown_grace_ms: 10_000,
            cancel_grace_ms: 30_000,
            staging_ttl_ms: 600_000,
        }
    }
}

/// How a host is treated, whatever is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct HostRules {
    /// Connections to one host at most; at least 1. Fewer are used where a host is seen to bear fewer.
    pub connections_max: u32,
    /// Requests to one host in a second at most; 0 is no limit.
    pub requests_per_second_max: u32,
    /// Failures in a row after which a host is avoided while there is another one; at least 1.
    pub failures_max: u32,
    /// How long it is avoided; one request then tells whether it has recovered.
    pub cool_down_ms: u64,
    /// How long a request may wait for its first byte while its host answers others, before it counts as one connection
    /// too many; four times what first bytes usually take, if that is more.
    pub silence_ms: u64,
    /// How long a host that bore fewer connections is not tried with more; doubles up to ten times.
    pub raise_ms: u64,
    /// How long it is remembered that a host refuses ranges.
    pub ranges_memory_ms: u64,
}

impl Default for HostRules {
    /// As many connections as there are fetches, no limit on requests.
    ///
    /// Five failures in a row are more than a lost connection and fewer than one range may have; 30 s is what a load
    /// balancer takes to notice a dead server. Two seconds are beyond the 99th percentile of the first byte of every
    /// registry measured and far below what a client waits for one.
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            requests_per_second_max: 0,
            failures_max: 5,
            cool_down_ms: 30_000,
            silence_ms: 2_000,
            raise_ms: 30_000,
            ranges_memory_ms: 600_000,
        }
    }
}

/// Which slow ranges are asked for a second time, and how much may be brought twice for it.
///
/// A range is hedged when somebody waits for it: a lane that has read all before it, or a pull that has nothing else to
/// ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct HedgeRules {
    /// Bytes that may be brought twice for every thousand fetched; 0 hedges nothing.
    pub bytes_permille: u32,
    /// Bytes that may be brought twice beyond that: what there is to begin with, and what is saved at most while nothing is
    /// hedged. A range of which more is missing is not hedged.
    pub burst_bytes: u64,
    /// Hedges at once.
    pub hedges_max: u32,
    /// A range is slow when it takes so many times what ranges of its host usually take.
    pub slow_times: u32,
    /// Nothing is slow before so many milliseconds.
    pub slow_ms_min: u64,
}

impl HedgeRules {
    /// Nothing is hedged.
    pub const fn off() -> Self {
        Self {
            bytes_permille: 0,
            burst_bytes: 0,
            hedges_max: 0,
            slow_times: 3,
            slow_ms_min: 250,
        }
    }
}

impl Default for HedgeRules {
    /// A twentieth of what is fetched, and two chunks of 8 MiB to begin with.
    ///
    /// Chosen, not measured: three times what is usual tells a connection that crawls from one that is late, a quarter of
    /// a second is longer than a busy node takes to notice that bytes have come, and four at once are more than a pull has
    /// lanes that wait.
    fn default() -> Self {
        Self {
            bytes_permille: 50,
            burst_bytes: 16 << 20,
            hedges_max: 4,
            ..Self::off()
        }
    }
}
