//! Threads that fill small files and give them their attributes.
//!
//! The thread of the sink makes every file itself, in the order of the archive: so its name, what it replaces, what it
//! inherits and why it is refused are as without other threads. What is left happens to the open descriptor alone, and
//! goes out in batches. Two things must wait for it: a hard link, whose attributes come after those of its target, and a
//! removal, which counts what it removes.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::{io, mem};

use super::super::error::SinkError;
use super::super::sink::Attributes;
use super::content;

/// The threads, and what is under way between them and the sink.
///
/// Descriptors: at most [`BATCH_JOBS`] in each of two batches a thread and one that is being filled. Memory: 160 KiB a
/// batch.
#[derive(Debug)]
pub(super) struct Writers {
    threads: Vec<JoinHandle<()>>,
    orders: Sender<Batch>,
    shared_orders: Arc<Mutex<Receiver<Batch>>>,
    done: Receiver<Done>,
    answers: Sender<Done>,
    /// The batch that is being filled, and its number.
    batch: Batch,
    number: u64,
    /// Where the data of the file that is being handed over begins in it.
    begin: usize,
    /// Batches that threads have, the oldest first.
    flights: VecDeque<Flight>,
    /// Emptied batches.
    free: Vec<Batch>,
    /// The failure in the earliest batch, with its number.
    failed: Option<(u64, SinkError)>,
}

/// A file that is made, and what it is to become.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) fd: OwnedFd,
    pub(super) path: Vec<u8>,
    pub(super) attributes: Attributes,
    pub(super) size: u64,
}

#[derive(Debug, Default)]
struct Batch {
    number: u64,
    data: Vec<u8>,
    /// Each with where its data ends; it begins where that of the one before ends.
    jobs: Vec<(Job, usize)>,
    /// Of the jobs, in the same order.
    keys: Vec<u64>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    keys: Vec<u64>,
}

#[derive(Debug)]
struct Done {
    number: u64,
    batch: Batch,
    outcome: Result<(), SinkError>,
}

impl Default for Writers {
    fn default() -> Self {
        let (orders, receiver) = channel();
        let (answers, done) = channel();
        Self {
            threads: Vec::new(),
            orders,
            shared_orders: Arc::new(Mutex::new(receiver)),
            done,
            answers,
            batch: Batch::default(),
            number: 0,
            begin: 0,
            flights: VecDeque::new(),
            free: Vec::new(),
            failed: None,
        }
    }
}

impl Writers {
    /// Changes the number of threads, and says how many there are: fewer where the system refuses them.
    pub(super) fn resize(&mut self, threads: usize) -> usize {
        if threads < self.threads.len() {
            self.stop();
        }
        while self.threads.len() < threads {
            let orders = Arc::clone(&self.shared_orders);
            let answers = self.answers.clone();
            let thread = Builder::new().name("files".into());
            match thread.spawn(move || work(&orders, &answers)) {
                Ok(handle) => self.threads.push(handle),
                Err(_) => break,
            }
        }
        self.threads.len()
    }

    /// True if a file of `size` bytes is to be handed over; its data and [`end`](Self::end) must follow.
    pub(super) fn begin(&mut self, size: u64) -> bool {
        self.begin = self.batch.data.len();
        !self.threads.is_empty() && size <= JOB_BYTES_MAX
    }

    /// Adds data of the file begun last.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.batch.data.extend_from_slice(bytes);
    }

    /// Takes the data of the file begun last back.
    pub(super) fn take_back(&mut self) -> Vec<u8> {
        self.batch.data.split_off(self.begin)
    }

    /// Hands the file begun last over. `key` is [`key`] of where it is.
    ///
    /// # Errors
    /// That of the earliest job that has failed; everything else handed over is done then.
    pub(super) fn end(&mut self, job: Job, key: u64) -> Result<(), SinkError> {
        self.batch.jobs.push((job, self.batch.data.len()));
        self.batch.keys.push(key);
        let is_full = self.batch.jobs.len() >= BATCH_JOBS || self.batch.data.len() >= BATCH_BYTES;
        if is_full {
            self.send();
            while let Ok(done) = self.done.try_recv() {
                self.land(done);
            }
            if self.failed.is_some() {
                return self.settle();
            }
        }
        Ok(())
    }

    /// Waits until the file at `key` is done, if it is under way.
    ///
    /// # Errors
    /// As [`end`](Self::end).
    pub(super) fn wait_for(&mut self, key: u64) -> Result<(), SinkError> {
        if self.batch.keys.contains(&key) {
            self.send();
        }
        while self.flights.iter().any(|flight| flight.keys.contains(&key)) {
            self.await_one();
        }
        if self.failed.is_some() {
            return self.settle();
        }
        Ok(())
    }

    /// Waits until everything is done.
    ///
    /// # Errors
    /// That of the earliest job that failed; it is told once.
    pub(super) fn settle(&mut self) -> Result<(), SinkError> {
        self.send();
        while !self.flights.is_empty() {
            self.await_one();
        }
        self.failed.take().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Waits until everything is done and ends the threads; a failure is told later.
    pub(super) fn stop(&mut self) {
        self.send();
        while !self.flights.is_empty() {
            self.await_one();
        }
        let (orders, receiver) = channel();
        self.orders = orders;
        self.shared_orders = Arc::new(Mutex::new(receiver));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// Sends the batch on its way and gets another one, for which it may have to wait.
    fn send(&mut self) {
        if self.batch.jobs.is_empty() {
            return;
        }
        let mut batch = mem::take(&mut self.batch);
        self.number += 1;
        batch.number = self.number;
        self.flights.push_back(Flight {
            number: self.number,
            keys: mem::take(&mut batch.keys),
        });
        // The receiving end is held here, so there is one.
        let _ = self.orders.send(batch);
        while self.flights.len() > FLIGHTS_PER_THREAD * self.threads.len() {
            self.await_one();
        }
        self.batch = self.free.pop().unwrap_or_default();
    }

    fn await_one(&mut self) {
        if let Ok(done) = self.done.recv() {
            self.land(done);
        }
    }

    fn land(&mut self, done: Done) {
        self.flights.retain(|flight| flight.number != done.number);
        self.free.push(done.batch);
        let is_earliest = self
            .failed
            .as_ref()
            .is_none_or(|(number, _)| done.number < *number);
        if let Err(error) = done.outcome
            && is_earliest
        {
            self.failed = Some((done.number, error));
        }
    }
}

/// By what a hard link finds the file that it must wait for: another path with the same key makes it wait in vain.
pub(super) fn key(directory: &[u8], leaf: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(directory);
    hasher.write_u8(b'/');
    hasher.write(leaf);
    hasher.finish()
}

/// Works batches off until there is nobody to send any.
fn work(orders: &Mutex<Receiver<Batch>>, answers: &Sender<Done>) {
    loop {
        let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut batch) = order else {
            return;
        };
        let number = batch.number;
        let outcome = catch_unwind(AssertUnwindSafe(|| batch.write())).unwrap_or_else(|_| {
            Err(SinkError::Disk {
                operation: "write",
                path: "a small file".into(),
                source: io::Error::other("a defect of this program: it panicked"),
            })
        });
        batch.data.clear();
        batch.jobs.clear();
        let done = Done {
            number,
            batch,
            outcome,
        };
        if answers.send(done).is_err() {
            return;
        }
    }
}

impl Batch {
    /// Fills the files, the first first, until one fails.
    fn write(&mut self) -> Result<(), SinkError> {
        let mut begin = 0;
        for (job, end) in self.jobs.drain(..) {
            let data = &self.data[begin..end];
            begin = end;
            content::write(job.fd.as_fd(), &job.path, 0, data)?;
            let written = data.len() as u64;
            content::complete(
                job.fd.as_fd(),
                &job.path,
                &job.attributes,
                job.size,
                written,
            )?;
        }
        Ok(())
    }
}

/// Files that are larger are written at once: copying them would cost more than another thread saves.
const JOB_BYTES_MAX: u64 = 64 << 10;
/// Enough of both that waking a thread for them costs little of each.
const BATCH_BYTES: usize = 96 << 10;
const BATCH_JOBS: usize = 32;
/// One that is worked on and one that waits.
const FLIGHTS_PER_THREAD: usize = 2;
