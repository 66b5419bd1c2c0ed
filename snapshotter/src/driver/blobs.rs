//! Where the bytes of blobs are while they are being pulled: a window or a spool file for each.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parapull_engine::{BlobId, Destination};

use crate::spool::SpoolFile;
use crate::window::{BlobWindow, Pool, Segment, WindowReader};

/// The bytes of every blob being pulled.
#[derive(Debug)]
pub(super) struct BlobStore {
    pool: Pool,
    spool_directory: PathBuf,
    blobs: BTreeMap<BlobId, Place>,
}

#[derive(Clone, Debug)]
enum Place {
    Window(Arc<BlobWindow>),
    Spool(Spool),
}

/// A spool file that is made when its first byte comes: making it may block, so the driver does not.
#[derive(Clone, Debug)]
struct Spool {
    directory: Arc<PathBuf>,
    file: Arc<OnceLock<SpoolFile>>,
    /// What is stored: the end of each contiguous run by its start.
    runs: Arc<Mutex<BTreeMap<u64, u64>>>,
}

impl BlobStore {
    pub(super) fn new(spool_directory: &Path) -> Self {
        Self {
            pool: Pool::new(),
            spool_directory: spool_directory.to_path_buf(),
            blobs: BTreeMap::new(),
        }
    }

    /// Where a fetch of a blob puts its bytes.
    pub(super) fn bytes(&mut self, id: BlobId, size: u64, to: Destination) -> Bytes {
        let place = self.place(id, size, to).clone();
        Bytes {
            place,
            pool: self.pool.clone(),
            pending: None,
        }
    }

    /// What a lane reads a blob through, and how to make it stop.
    pub(super) fn input(&mut self, id: BlobId, size: u64, to: Destination) -> LaneInput {
        LaneInput {
            place: self.place(id, size, to).clone(),
            size,
        }
    }

    fn place(&mut self, id: BlobId, size: u64, to: Destination) -> &Place {
        let directory = &self.spool_directory;
        self.blobs.entry(id).or_insert_with(|| match to {
            Destination::Window => Place::Window(BlobWindow::new(size)),
            Destination::Spool => Place::Spool(Spool {
                directory: Arc::new(directory.clone()),
                file: Arc::default(),
                runs: Arc::default(),
            }),
        })
    }

    /// Makes the lane that reads a blob end.
    pub(super) fn cancel_lane(&self, id: BlobId) {
        if let Some(place) = self.blobs.get(&id) {
            place.cancel();
        }
    }

    /// Forgets a blob's bytes from `start` on; all of them, when that is 0.
    pub(super) fn forget_from(&mut self, id: BlobId, start: u64) {
        if start == 0 {
            self.blobs.remove(&id);
            return;
        }
        match self.blobs.get(&id) {
            Some(Place::Window(window)) => window.forget_from(start),
            Some(Place::Spool(spool)) => spool.forget_from(start),
            None => {}
        }
    }

    /// Forgets a blob whose lane has read all of it from the window.
    pub(super) fn forget_read(&mut self, id: BlobId) {
        if let Some(Place::Window(_)) = self.blobs.get(&id) {
            self.blobs.remove(&id);
        }
    }
}

impl Place {
    fn cancel(&self) {
        match self {
            Self::Window(window) => window.cancel(),
            Self::Spool(spool) => {
                if let Some(file) = spool.file.get() {
                    file.cancel();
                }
            }
        }
    }
}

impl Spool {
    fn file(&self) -> io::Result<&SpoolFile> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = SpoolFile::create(&self.directory).map_err(io::Error::other)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Stores what is missing of a piece: of two fetches of one range the second one stores nothing. Where both store the
    /// same bytes at once, either will do; the digest is of what the lane reads.
    fn write(&self, offset: u64, piece: &[u8]) -> io::Result<()> {
        let end = offset + piece.len() as u64;
        let missing = self.missing(offset, end);
        let skipped = usize::try_from(missing - offset).unwrap_or(piece.len());
        if skipped == piece.len() {
            return Ok(());
        }
        self.file()?.write_at(missing, &piece[skipped..])?;
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        match runs.range_mut(..=offset).next_back() {
            Some((_, run_end)) if *run_end >= offset => *run_end = end.max(*run_end),
            _ => {
                runs.insert(offset, end);
            }
        }
        Ok(())
    }

    /// The first byte of `[offset, end)` that is not stored.
    fn missing(&self, offset: u64, end: u64) -> u64 {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let before = runs.range(..=offset).next_back();
        let stored = before.map_or(offset, |(_, run_end)| *run_end);
        stored.clamp(offset, end)
    }

    fn frontier(&self) -> u64 {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut frontier = 0;
        for (start, end) in runs.iter() {
            if *start > frontier {
                break;
            }
            frontier = frontier.max(*end);
        }
        frontier
    }

    fn forget_from(&self, start: u64) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        drop(runs.split_off(&start));
        if let Some((_, end)) = runs.iter_mut().next_back() {
            *end = start.min(*end);
        }
    }
}

/// The writing end of a blob's bytes, for one fetch.
#[derive(Debug)]
pub(super) struct Bytes {
    place: Place,
    pool: Pool,
    /// What the window has not been given yet, and its offset.
    pending: Option<(u64, Segment)>,
}

impl Bytes {
    /// Takes bytes at `offset`; a fetch's offsets ascend without gaps.
    pub(super) fn write(&mut self, offset: u64, mut piece: &[u8]) -> io::Result<()> {
        if let Place::Spool(spool) = &self.place {
            return spool.write(offset, piece);
        }
        let mut offset = offset;
        while !piece.is_empty() {
            let pool = &self.pool;
            let (_, segment) = self.pending.get_or_insert_with(|| (offset, pool.segment()));
            let count = segment.fill(piece);
            let is_full = segment.is_full();
            offset += count as u64;
            piece = &piece[count..];
            if is_full {
                self.flush();
            }
        }
        Ok(())
    }

    /// Gives the window what was taken so far.
    pub(super) fn flush(&mut self) {
        if let (Place::Window(window), Some((offset, segment))) = (&self.place, self.pending.take())
        {
            window.publish(offset, segment);
        }
    }

    /// First byte that is not here in order.
    pub(super) fn frontier(&self) -> u64 {
        match &self.place {
            Place::Window(window) => window.frontier(),
            Place::Spool(spool) => spool.frontier(),
        }
    }
}

/// The reading end of a blob's bytes, for its lane.
#[derive(Clone, Debug)]
pub(super) struct LaneInput {
    place: Place,
    size: u64,
}

impl LaneInput {
    /// A reader that calls `report(bytes let go of, about to wait)` as it goes.
    pub(super) fn reader(
        &self,
        mut report: Box<dyn FnMut(u64, bool) + Send>,
    ) -> io::Result<Box<dyn Read + Send>> {
        Ok(match &self.place {
            Place::Window(window) => {
                let report =
                    Box::new(move |at: crate::window::Report| report(at.released, at.waiting));
                Box::new(WindowReader::new(Arc::clone(window), report))
            }
            Place::Spool(spool) => {
                let report = Box::new(move |read| report(read, false));
                Box::new(spool.file()?.reader(self.size, report))
            }
        })
    }

    /// Makes the reader end.
    pub(super) fn cancel(&self) {
        self.place.cancel();
    }
}
