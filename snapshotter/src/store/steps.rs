//! Names the moments between two effects on the disk, so that tests can end an operation at each of them.
//!
//! In the program this is nothing, unless it is built to be killed there.

/// An effect on the disk is done, another may follow.
#[cfg(not(test))]
pub(super) fn passed(effect: &'static str) {
    crate::kill_points::passed(|| format!("store: {effect}"));
}

#[cfg(test)]
pub(super) use counted::{crash_after, passed};

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets this thread panic, as if the process died there, when it has passed `effects` more; `None` takes that back.
    pub(in super::super) fn crash_after(effects: Option<u32>) {
        LEFT.set(effects);
    }

    pub(in super::super) fn passed(effect: &'static str) {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                panic!("crashed after: {effect}");
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}
