//! What signals tell the daemon: to stop, to stop at once, to read its limits anew.

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use parapull_engine::Limits;
use parapull_snapshotter::driver::Driver;
use parapull_snapshotter::store::Placement;

/// SIGINT and SIGTERM, of which the first stops and the second stops at once.
pub(super) struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    /// Begins to listen.
    ///
    /// # Errors
    /// When signals cannot be had.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the first; from then on the next ends the process, from a thread of `sockets`, whatever it is doing.
    ///
    /// What is half made then is removed at the next start, as after a kill.
    pub(super) async fn first(mut self, sockets: Handle) {
        self.next().await;
        tracing::info!("stopping");
        sockets.spawn(async move {
            self.next().await;
            tracing::warn!("stopping at once");
            std::process::exit(STOPPED_AT_ONCE);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// At each SIGHUP has the driver go by the limits that `read` finds; what it cannot read changes nothing.
///
/// # Errors
/// When signals cannot be had.
pub(super) fn reload_limits<P: Placement>(
    driver: Driver<P>,
    read: impl Fn() -> anyhow::Result<Limits> + Send + 'static,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match read() {
                Ok(limits) => {
                    tracing::info!(limits = ?limits.raw(), "limits changed; other settings wait for a restart");
                    driver.change_limits(limits).await;
                }
                Err(error) => tracing::warn!("the configuration stays as it is: {error:#}"),
            }
        }
    }))
}

/// The exit code of a process that did not wait for what it had under way.
const STOPPED_AT_ONCE: i32 = 1;
