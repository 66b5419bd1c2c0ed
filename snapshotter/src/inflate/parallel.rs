//! Several threads on one gzip stream: one reads, some guess at pieces, the caller puts them in order.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::checkpoint::Checkpoint;
use super::gzip::Gzip;
use super::order::{Order, Prepared};
use super::piece::{Guesser, Piece};
use super::stretch::{Cutter, Entry, Reused, Stretch};

/// A gzip stream that is decoded ahead of its reader.
#[derive(Debug)]
pub(crate) struct ParallelGzip<'scope, E> {
    order: Order,
    reading: ScopedJoinHandle<'scope, Result<(), E>>,
    stopping: Arc<AtomicBool>,
}

/// What reading, guessing and ordering share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) stretches: Reused<Stretch>,
    pub(super) pieces: Reused<Piece>,
    /// Guessing does not pay for this stream.
    pub(super) hopeless: AtomicBool,
}

struct Task {
    stretch: Arc<Stretch>,
    guessed: SyncSender<Option<Piece>>,
}

impl<'scope, E: Send + 'scope> ParallelGzip<'scope, E> {
    /// Decodes on from where `gzip` stands, with `guessers` threads beside one that calls `read` for what comes next.
    /// With `checkpoints` of the stream there is nothing to guess; wrong ones cost time, never a byte.
    /// Gives `gzip` back if there are no threads to be had.
    pub(crate) fn start(
        scope: &'scope Scope<'scope, '_>,
        gzip: Gzip,
        guessers: usize,
        stretch_bytes: usize,
        checkpoints: &[Checkpoint],
        read: impl FnMut(&mut [u8]) -> Result<usize, E> + Send + 'scope,
    ) -> Result<Self, Gzip> {
        let shared = Arc::new(Shared::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let (tasks, waiting) = sync_channel::<Task>(guessers);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut started = 0;
        for _ in 0..guessers {
            let (waiting, shared) = (Arc::clone(&waiting), Arc::clone(&shared));
            let thread = Builder::new().name("guess".into());
            let body = move || guess(&waiting, &shared);
            started += usize::from(thread.spawn_scoped(scope, body).is_ok());
        }
        if started == 0 {
            return Err(gzip);
        }
        let (prepared, incoming) = sync_channel(guessers);
        let reader = Reader {
            read,
            cutter: Cutter::new(stretch_bytes, Entry::behind(gzip.taken(), checkpoints)),
            tasks,
            prepared,
            shared: Arc::clone(&shared),
            stopping: Arc::clone(&stopping),
        };
        let thread = Builder::new().name("read".into());
        match thread.spawn_scoped(scope, move || reader.run()) {
            Ok(reading) => Ok(Self {
                order: Order::new(gzip, incoming, shared),
                reading,
                stopping,
            }),
            Err(_) => Err(gzip),
        }
    }

    /// Puts uncompressed bytes into `output` and says how many; none when everything that was read is decoded.
    pub(crate) fn fill(&mut self, output: &mut [u8]) -> Result<usize, String> {
        self.order.fill(output)
    }

    /// Reads no more; what was read is still to be decoded by [`fill`](Self::fill).
    pub(crate) fn stop_reading(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether guessing does not pay for this stream.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.order.is_hopeless()
    }

    /// Ends the threads, and gives the decoder back where it stands. Panics if reading did.
    pub(crate) fn finish(self) -> (Gzip, Result<(), E>) {
        self.stop_reading();
        let gzip = self.order.into_gzip();
        let read = self.reading.join();
        (gzip, read.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

struct Reader<R> {
    read: R,
    cutter: Cutter,
    tasks: SyncSender<Task>,
    prepared: SyncSender<Prepared>,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
}

impl<R> Reader<R> {
    fn run<E>(mut self) -> Result<(), E>
    where
        R: FnMut(&mut [u8]) -> Result<usize, E>,
    {
        loop {
            let mut stretch = self.shared.stretches.take();
            let stopping = &self.stopping;
            let read = &mut self.read;
            let more = self.cutter.next(&mut stretch, |room| {
                if stopping.load(Ordering::Relaxed) {
                    return Ok(0);
                }
                read(room)
            })?;
            if !more || !self.hand_on(Arc::new(stretch)) {
                return Ok(());
            }
        }
    }

    /// False if nobody wants more.
    fn hand_on(&self, stretch: Arc<Stretch>) -> bool {
        let (guessed, guess) = sync_channel(1);
        let prepared = Prepared {
            stretch: Arc::clone(&stretch),
            guess,
        };
        if !self.shared.hopeless.load(Ordering::Relaxed)
            && self.tasks.send(Task { stretch, guessed }).is_err()
        {
            return false;
        }
        self.prepared.send(prepared).is_ok()
    }
}

fn guess(waiting: &Mutex<Receiver<Task>>, shared: &Shared) {
    let Some(mut guesser) = Guesser::new() else {
        return;
    };
    loop {
        let task = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(task) = task else {
            return;
        };
        let mut piece = shared.pieces.take();
        // A guess is never needed, so whatever goes wrong with one is no failure of the stream.
        let guess = || guesser.guess(&task.stretch, PIECE_BYTES_MAX, &mut piece);
        let is_good = catch_unwind(AssertUnwindSafe(guess)).unwrap_or(false);
        drop(task.stretch);
        let guessed = if is_good {
            Some(piece)
        } else {
            shared.pieces.give(piece);
            None
        };
        // Whoever does not wait any more has ended.
        let _ = task.guessed.send(guessed);
    }
}

/// A stretch that becomes larger is decoded in order, a buffer at a time, so that memory stays bounded.
const PIECE_BYTES_MAX: usize = 32 << 20;
