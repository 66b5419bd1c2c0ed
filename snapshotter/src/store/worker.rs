//! A thread that does one thing whenever it is told that there may be something to do, until it is dropped.
//!
//! What it does is its owner's; nobody waits for it but who drops it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

/// A thread and the way to wake it.
#[derive(Debug)]
pub(super) struct Worker {
    name: &'static str,
    nudges: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, which does `work` once or more after each nudge.
    ///
    /// `work` looks at the flag it is given as often as it can stop, which it should once that is set.
    pub(super) fn start(
        name: &'static str,
        work: impl FnMut(&AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        // One waiting nudge says as much as ten: the work looks at all there is each time.
        let (nudges, nudged) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let stop = stop.clone();
            move || run(&nudged, &stop, work)
        })?;
        Ok(Self {
            name,
            nudges: Some(nudges),
            stop,
            thread: Some(thread),
        })
    }

    /// Says that there may be something to do.
    pub(super) fn nudge(&self) {
        if let Some(Err(TrySendError::Disconnected(()))) =
            self.nudges.as_ref().map(|nudges| nudges.try_send(()))
        {
            tracing::error!(
                thread = self.name,
                "a thread of the snapshot store has ended; its work is not done until the next start"
            );
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.nudges = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                thread = self.name,
                "a thread of the snapshot store panicked"
            );
        }
    }
}

fn run(nudged: &Receiver<()>, stop: &AtomicBool, mut work: impl FnMut(&AtomicBool)) {
    while nudged.recv().is_ok() && !stop.load(Ordering::Relaxed) {
        work(stop);
    }
}
