//! What ends a command early: a signal or its time limit.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// What ends a pull early: a signal or the time limit.
pub(super) struct Stop {
    interrupt: tokio::sync::Mutex<(Signal, Signal)>,
    deadline: Option<tokio::time::Instant>,
    limit: Option<Duration>,
}

impl Stop {
    /// Begins to listen; the time runs from here.
    ///
    /// # Errors
    /// When signals cannot be had.
    pub(super) fn listen(limit: Option<Duration>) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: tokio::sync::Mutex::new((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            )),
            deadline: limit.map(|limit| tokio::time::Instant::now() + limit),
            limit,
        })
    }

    /// Waits for a signal or the end of the time, and says which.
    pub(super) async fn wait(&self) -> Failure {
        let mut signals = self.interrupt.lock().await;
        let (interrupt, terminate) = &mut *signals;
        let timeout = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => Failure::new("cancelled", "interrupted"),
            _ = terminate.recv() => Failure::new("cancelled", "terminated"),
            () = timeout => {
                let limit = humantime::format_duration(self.limit.unwrap_or_default());
                Failure::new("cancelled", format!("not finished within {limit}"))
            }
        }
    }

    /// Does the work unless it is stopped first.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            result = work => Ok(result),
            failure = self.wait() => Err(failure),
        }
    }
}
