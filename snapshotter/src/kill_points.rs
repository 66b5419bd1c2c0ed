//! Moments at which a test lets this process die as the kernel's OOM killer would end it: between two effects.
//!
//! Built only with the feature `kill-points`, which no release has; without it a point is nothing. With it, a process that
//! finds `PARAPULL_KILL_AT=<n>` in its environment writes each point that it comes to on stderr, numbered from 1, and kills
//! itself at the n-th; with 0 it only writes them.

/// The process has come to a point; its name is asked for only if somebody counts.
#[cfg(not(feature = "kill-points"))]
pub(crate) fn passed(_name: impl FnOnce() -> String) {}

#[cfg(feature = "kill-points")]
pub(crate) use counted::passed;

#[cfg(feature = "kill-points")]
mod counted {
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    /// Where to die, and the points passed so far.
    struct Plan {
        at: u64,
        passed: Mutex<u64>,
    }

    pub(crate) fn passed(name: impl FnOnce() -> String) {
        let Some(plan) = plan() else {
            return;
        };
        let mut passed = plan.passed.lock().unwrap_or_else(PoisonError::into_inner);
        *passed += 1;
        eprintln!("kill point {passed} {}", name());
        if *passed == plan.at {
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                // The signal is on its way; nothing may happen after the point, here or at another one.
                std::thread::park();
            }
        }
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let read = || {
            let at = std::env::var("PARAPULL_KILL_AT").ok()?.parse().ok()?;
            Some(Plan {
                at,
                passed: Mutex::new(0),
            })
        };
        PLAN.get_or_init(read).as_ref()
    }
}
