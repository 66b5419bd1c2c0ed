//! The runtimes of a process: one thread for control that nothing may block, others for sockets. Lanes have their own.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Control and sockets, apart.
pub(super) struct Runtimes {
    pub(super) control: Runtime,
    pub(super) sockets: Runtime,
}

impl Runtimes {
    /// # Errors
    /// When threads cannot be started.
    pub(super) fn new(cores: u32) -> io::Result<Self> {
        Ok(Self {
            control: Builder::new_current_thread()
                .enable_all()
                .thread_name("control")
                .build()?,
            sockets: Builder::new_multi_thread()
                .worker_threads(socket_threads(cores))
                .thread_name("sockets")
                .enable_all()
                .build()?,
        })
    }
}

/// Copying a compressed byte out of a socket costs a tenth of inflating it (0.35 against 3.4 CPU-seconds per GB with
/// TLS), so one thread in four is plenty.
fn socket_threads(cores: u32) -> usize {
    (cores as usize / 4).clamp(1, 8)
}

/// Cores this process may use.
pub(super) fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// A seed from the operating system, for the engine's jitter.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
