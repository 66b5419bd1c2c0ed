//! Ctrl-C and SIGTERM end the children first; the main thread then fails and cleans up as after any error.
//!
//! Children live in process groups of their own, so a terminal's Ctrl-C does not reach them: this module passes it on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// Watches for SIGINT and SIGTERM until the program ends.
///
/// After either, [`requested`] is true, every live child group has got SIGKILL and no further child can be started, so
/// that every blocking call of the main thread returns an error and its guards run.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn watch() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    request();
                }
            });
        })?;
    Ok(())
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Asks to stop, as a signal would.
fn request() {
    let groups = live();
    REQUESTED.store(true, Ordering::SeqCst);
    for &group in groups.iter() {
        kill(group, Signal::KILL);
    }
}

/// Remembers a child's process group; false when the user asked to stop meanwhile and the child must go.
pub(super) fn add(group: u32) -> bool {
    live().insert(group);
    !requested()
}

/// Forgets a child that was reaped, so that its number is never signalled after reuse.
pub(super) fn remove(group: u32) {
    live().remove(&group);
}

/// Sends `signal` to a process group; one that is gone already is what was wanted.
pub(super) fn kill(group: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

fn live() -> MutexGuard<'static, BTreeSet<u32>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

static REQUESTED: AtomicBool = AtomicBool::new(false);
static LIVE: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
