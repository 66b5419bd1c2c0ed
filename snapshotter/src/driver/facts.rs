//! What ops tell the driver: an input for the engine, and what belongs to it that the engine does not need to know.

use parapull_engine::Input;
use tokio::sync::mpsc;

use super::failure::Cause;
use crate::unpack::Staged;

/// Something an op reports.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) input: Input,
    /// Why it failed, for people.
    pub(super) cause: Option<Cause>,
    /// The tree a finished lane or clone staged, or where a linked one lies now.
    pub(super) staged: Option<Staged>,
}

impl From<Input> for Fact {
    fn from(input: Input) -> Self {
        Self {
            input,
            cause: None,
            staged: None,
        }
    }
}

/// The way to the driver. It is bounded: an op that reports faster than the driver listens waits.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    sender: mpsc::Sender<Fact>,
}

impl Facts {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Fact>) {
        let (sender, receiver) = mpsc::channel(FACTS_QUEUED_MAX);
        (Self { sender }, receiver)
    }

    /// Reports from a task. A driver that is gone does not mind.
    pub(super) async fn tell(&self, fact: Fact) {
        let _ = self.sender.send(fact).await;
    }

    /// Reports from a thread that may block.
    pub(super) fn tell_blocking(&self, fact: Fact) {
        let _ = self.sender.blocking_send(fact);
    }
}

/// Facts waiting for the driver at most; each is about 200 bytes.
const FACTS_QUEUED_MAX: usize = 1024;
