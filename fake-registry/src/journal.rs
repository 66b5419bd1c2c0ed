//! Everything that was asked and answered, for tests to ask about. It keeps all of it, so it grows with the requests.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use parapull_scenario::registry::FaultKind;
use tokio::time::Instant;

/// Which of the two origins answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The registry itself.
    Registry,
    /// Where blob redirects lead.
    Storage,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `/v2/`.
    Ping,
    /// A manifest or index by tag or digest.
    Manifest {
        /// The repository.
        name: String,
        /// Tag or digest.
        reference: String,
    },
    /// A blob.
    Blob {
        /// Its digest.
        digest: String,
    },
    /// A token.
    Token,
    /// Anything else.
    Other,
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// Who answered.
    pub origin: Origin,
    /// The connection, counted from 1 over both origins; 0 when a router is driven without one.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// Path and query as sent; signatures are in it.
    pub path: String,
    /// What it means.
    pub kind: RequestKind,
    /// The `Range` header.
    pub range_header: Option<String>,
    /// The bytes of the blob or document that the answer's body stands for; none for errors and HEAD.
    pub range: Option<Range<u64>>,
    /// The scheme of `Authorization` (`Basic`, `Bearer`), never its secret.
    pub authorization_scheme: Option<String>,
    /// The answer's status.
    pub status: u16,
    /// Body bytes handed to the connection.
    pub body_bytes: u64,
    /// Whether the body came to its end; false while it is under way or when the client left or a fault cut it.
    pub complete: bool,
    /// The fault that happened to it.
    pub fault: Option<FaultKind>,
    /// When the request came, since the registry was built.
    pub asked_at: Duration,
    /// When the answer's body ended or was dropped.
    pub ended_at: Option<Duration>,
}

/// The journal of one registry; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: Arc<Mutex<Vec<JournalEntry>>>,
    started: Instant,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            entries: Arc::default(),
            started: Instant::now(),
        }
    }

    /// All entries so far, in order of arrival.
    #[must_use]
    pub fn entries(&self) -> Vec<JournalEntry> {
        self.with(|entries| entries.clone())
    }

    /// The entries that `wanted` picks, in order of arrival.
    #[must_use]
    pub fn select(&self, wanted: impl Fn(&JournalEntry) -> bool) -> Vec<JournalEntry> {
        self.with(|entries| {
            entries
                .iter()
                .filter(|entry| wanted(entry))
                .cloned()
                .collect()
        })
    }

    /// GETs of that blob on either origin, redirects included.
    #[must_use]
    pub fn blob_requests(&self, digest: &str) -> Vec<JournalEntry> {
        self.select(|entry| {
            entry.method == "GET"
                && matches!(&entry.kind, RequestKind::Blob { digest: asked } if asked == digest)
        })
    }

    /// Body bytes of blobs handed to connections.
    #[must_use]
    pub fn blob_bytes_sent(&self) -> u64 {
        let is_blob = |entry: &&JournalEntry| matches!(entry.kind, RequestKind::Blob { .. });
        self.with(|entries| {
            entries
                .iter()
                .filter(is_blob)
                .map(|entry| entry.body_bytes)
                .sum()
        })
    }

    /// Body bytes of everything handed to connections.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.with(|entries| entries.iter().map(|entry| entry.body_bytes).sum())
    }

    /// How many connections asked anything.
    #[must_use]
    pub fn connections_seen(&self) -> usize {
        self.with(|entries| {
            entries
                .iter()
                .map(|entry| entry.connection)
                .collect::<BTreeSet<_>>()
                .len()
        })
    }

    /// The most answers that were under way at one moment, of those whose body is not empty.
    #[must_use]
    pub fn answers_at_once_max(&self) -> usize {
        let mut edges: Vec<(Duration, bool)> = Vec::new();
        for entry in
            self.select(|entry| entry.range.as_ref().is_some_and(|range| !range.is_empty()))
        {
            edges.push((entry.asked_at, true));
            edges.extend(entry.ended_at.map(|ended_at| (ended_at, false)));
        }
        // Ends sort before beginnings of the same moment.
        edges.sort_unstable();
        let mut under_way: usize = 0;
        let mut most = 0;
        for (_, begins) in edges {
            under_way = if begins {
                under_way + 1
            } else {
                under_way.saturating_sub(1)
            };
            most = most.max(under_way);
        }
        most
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds an entry and hands out its pen.
    pub(crate) fn open(&self, entry: JournalEntry) -> JournalPen {
        let index = self.with(|entries| {
            entries.push(entry);
            entries.len() - 1
        });
        JournalPen {
            journal: self.clone(),
            index,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<JournalEntry>) -> T) -> T {
        act(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes one entry to its end; dropping it ends the entry.
#[derive(Debug)]
pub(crate) struct JournalPen {
    journal: Journal,
    index: usize,
}

impl JournalPen {
    pub(crate) fn add_body_bytes(&self, bytes: u64) {
        self.edit(|entry| entry.body_bytes += bytes);
    }

    /// The body has come to its end.
    pub(crate) fn complete(&self) {
        let ended_at = self.journal.elapsed();
        self.edit(|entry| {
            entry.complete = true;
            entry.ended_at.get_or_insert(ended_at);
        });
    }

    pub(crate) fn edit(&self, change: impl FnOnce(&mut JournalEntry)) {
        self.journal
            .with(|entries| entries.get_mut(self.index).map(change));
    }
}

impl Drop for JournalPen {
    fn drop(&mut self) {
        let ended_at = self.journal.elapsed();
        self.edit(|entry| {
            entry.ended_at.get_or_insert(ended_at);
        });
    }
}
