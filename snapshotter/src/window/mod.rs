//! Fetched bytes in memory, from their arrival until a lane has read them.
//!
//! What is charged is what is held: bodies are copied into pooled segments, so no half-empty network buffer is kept
//! alive. The engine owns the budget; this module only holds the bytes and puts them in order.

mod pool;
mod reader;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub use pool::{Pool, SEGMENT_BYTES, Segment};
pub use reader::{Report, WindowReader};

/// The bytes of one blob that are here and not yet read.
///
/// Fetches publish segments at their offsets in any order; one reader takes them in order and waits for what is missing.
#[derive(Debug)]
pub struct BlobWindow {
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Contiguous runs of segments by the offset of their first byte.
    runs: BTreeMap<u64, Run>,
    /// Bytes the reader has taken.
    taken: u64,
    /// The reader must end.
    cancelled: bool,
}

#[derive(Debug, Default)]
struct Run {
    segments: VecDeque<Segment>,
    bytes: u64,
}

/// What a reader finds.
#[derive(Debug)]
enum Take {
    /// The next bytes.
    Segment(Segment),
    /// Every byte was taken.
    End,
    /// The next byte is not here.
    Missing,
    /// The reader must end.
    Cancelled,
}

impl BlobWindow {
    /// A window for a blob of `size` bytes, holding nothing.
    pub fn new(size: u64) -> Arc<Self> {
        Arc::new(Self {
            size,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Adds what is missing of bytes at `offset`: two fetches may bring one range, and each byte is kept from whichever
    /// brings it first.
    ///
    /// Small pieces are put together into full segments, so that what is held stays close to what is charged.
    pub fn publish(&self, offset: u64, segment: Segment) {
        if segment.is_empty() {
            return;
        }
        self.lock().add(offset, segment);
        self.changed.notify_all();
    }

    /// First byte that is neither taken nor here in order.
    pub fn frontier(&self) -> u64 {
        let state = self.lock();
        let mut frontier = state.taken;
        while let Some(run) = state.runs.get(&frontier) {
            frontier += run.bytes;
        }
        frontier
    }

    /// Forgets every byte from `start` on.
    pub fn forget_from(&self, start: u64) {
        let mut state = self.lock();
        drop(state.runs.split_off(&start));
        // The last run that is left may reach beyond `start`.
        if let Some((offset, run)) = state.runs.iter_mut().next_back() {
            run.truncate(start.saturating_sub(*offset));
        }
        if start == 0 {
            state.taken = 0;
        }
    }

    /// Makes the reader end with [`Cancelled`](crate::unpack::Cancelled), now and for ever.
    pub fn cancel(&self) {
        self.lock().cancelled = true;
        self.changed.notify_all();
    }

    fn take(&self, at: u64) -> Take {
        Self::take_from(&mut self.lock(), at, self.size)
    }

    /// Waits until the byte at `at` is here or will never be.
    fn wait(&self, at: u64) -> Take {
        let mut state = self.lock();
        loop {
            match Self::take_from(&mut state, at, self.size) {
                Take::Missing => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                other => return other,
            }
        }
    }

    fn take_from(state: &mut State, at: u64, size: u64) -> Take {
        if state.cancelled {
            return Take::Cancelled;
        }
        if at >= size {
            return Take::End;
        }
        let Some(mut run) = state.runs.remove(&at) else {
            return Take::Missing;
        };
        let Some(segment) = run.segments.pop_front() else {
            return Take::Missing;
        };
        run.bytes -= segment.len() as u64;
        state.taken = at + segment.len() as u64;
        if run.bytes > 0 {
            let next = state.taken;
            match state.runs.remove(&next) {
                // Cannot be: two runs never begin at one offset. The longer one is kept all the same.
                Some(other) if other.bytes > run.bytes => state.runs.insert(next, other),
                _ => state.runs.insert(next, run),
            };
        }
        Take::Segment(segment)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds what is neither taken nor here of a segment.
    fn add(&mut self, offset: u64, mut segment: Segment) {
        let mut at = offset;
        loop {
            let before = self.runs.range(..=at).next_back();
            let run_end = before.map_or(0, |(start, run)| start + run.bytes);
            let here = run_end.max(self.taken).saturating_sub(at);
            let here = segment
                .len()
                .min(usize::try_from(here).unwrap_or(usize::MAX));
            segment.skip(here);
            at += here as u64;
            if segment.is_empty() {
                return;
            }
            if here > 0 {
                // Another run may begin where this one ends.
                continue;
            }
            let next = self.runs.range(at..).next().map(|(start, _)| start - at);
            let gap = next.and_then(|gap| usize::try_from(gap).ok());
            match gap.filter(|gap| *gap < segment.len()) {
                Some(gap) => {
                    self.append(at, segment.split(gap));
                    at += gap as u64;
                }
                None => return self.append(at, segment),
            }
        }
    }

    /// Adds bytes of which none is here, to the run they continue if there is one.
    fn append(&mut self, offset: u64, mut segment: Segment) {
        let bytes = segment.len() as u64;
        let before = self.runs.range_mut(..=offset).next_back();
        match before {
            Some((start, run)) if *start + run.bytes == offset => {
                run.bytes += bytes;
                if let Some(last) = run.segments.back_mut() {
                    let moved = last.fill(segment.bytes());
                    segment.skip(moved);
                }
                if !segment.is_empty() {
                    run.segments.push_back(segment);
                }
            }
            _ => {
                let run = Run {
                    segments: VecDeque::from([segment]),
                    bytes,
                };
                self.runs.insert(offset, run);
            }
        }
    }
}

impl Run {
    fn truncate(&mut self, bytes: u64) {
        while self.bytes > bytes {
            let Some(mut last) = self.segments.pop_back() else {
                return;
            };
            self.bytes -= last.len() as u64;
            if self.bytes < bytes {
                last.truncate(usize::try_from(bytes - self.bytes).unwrap_or(usize::MAX));
                self.bytes = bytes;
                self.segments.push_back(last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn segment(pool: &Pool, bytes: &[u8]) -> Segment {
        let mut segment = pool.segment();
        assert_eq!(segment.fill(bytes), bytes.len());
        segment
    }

    #[test]
    fn reads_in_order_what_came_out_of_order() {
        let pool = Pool::new();
        let window = BlobWindow::new(9);
        window.publish(6, segment(&pool, b"ghi"));
        window.publish(0, segment(&pool, b"abc"));
        assert_eq!(window.frontier(), 3);
        window.publish(3, segment(&pool, b"def"));
        assert_eq!(window.frontier(), 9);
        let mut text = String::new();
        WindowReader::new(window, Box::new(|_| ()))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "abcdefghi");
    }

    #[test]
    fn a_reader_waits_for_what_is_missing_and_reports_before_it_does() {
        let pool = Pool::new();
        let window = BlobWindow::new(2);
        let (waits, waited) = std::sync::mpsc::channel();
        let mut reader = WindowReader::new(
            Arc::clone(&window),
            Box::new(move |report| waits.send(report).unwrap_or_default()),
        );
        let thread = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        assert!(waited.recv().unwrap().waiting);
        window.publish(0, segment(&pool, b"a"));
        while waited.recv().unwrap().released != 1 {}
        window.publish(1, segment(&pool, b"b"));
        assert_eq!(thread.join().unwrap(), b"ab");
    }

    #[test]
    fn a_cancelled_reader_ends() {
        let window = BlobWindow::new(2);
        window.cancel();
        let error = WindowReader::new(window, Box::new(|_| ()))
            .read(&mut [0; 4])
            .unwrap_err();
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<crate::unpack::Cancelled>());
        assert!(cause.is_some());
    }

    #[test]
    fn forgets_from_the_middle_of_a_segment() {
        let pool = Pool::new();
        let window = BlobWindow::new(9);
        window.publish(0, segment(&pool, b"abcdef"));
        window.publish(7, segment(&pool, b"hi"));
        window.forget_from(4);
        assert_eq!(window.frontier(), 4);
        window.publish(4, segment(&pool, b"EFGHI"));
        let mut text = String::new();
        WindowReader::new(window, Box::new(|_| ()))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "abcdEFGHI");
    }

    #[test]
    fn keeps_each_byte_from_whoever_brings_it_first() {
        let pool = Pool::new();
        let window = BlobWindow::new(9);
        window.publish(0, segment(&pool, b"ab"));
        window.publish(4, segment(&pool, b"ef"));
        // Of a second answer only what is missing counts.
        window.publish(1, segment(&pool, b"XcdXXg"));
        window.publish(0, segment(&pool, b"XXXXXXX"));
        let mut reader = WindowReader::new(Arc::clone(&window), Box::new(|_| ()));
        let mut text = vec![0; 7];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(text, b"abcdefg");
        window.publish(5, segment(&pool, b"XXhi"));
        window.publish(2, segment(&pool, b"XXXXX"));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), window.frontier()), ("hi", 9));
    }

    proptest! {
        /// Two fetches of one range, each in order, in any mixture, while a reader reads.
        #[test]
        fn two_writers_of_one_range_give_the_blob(
            content in proptest::collection::vec(any::<u8>(), 1..200),
            from in 0usize..200,
            steps in proptest::collection::vec((any::<bool>(), 1usize..40, 0usize..40), 1..60),
        ) {
            let pool = Pool::new();
            let window = BlobWindow::new(content.len() as u64);
            let mut reader = WindowReader::new(Arc::clone(&window), Box::new(|_| ()));
            let mut bytes = Vec::new();
            let mut at = [0, from.min(content.len())];
            // The second one begins where the first one was known to be.
            window.publish(0, segment(&pool, &content[..at[1]]));
            let rest = [(true, 200, 0), (false, 200, 0)];
            for (second, count, read) in steps.into_iter().chain(rest) {
                let at = &mut at[usize::from(second)];
                let end = (*at + count).min(content.len());
                window.publish(*at as u64, segment(&pool, &content[*at..end]));
                *at = end;
                let here = usize::try_from(window.frontier()).unwrap() - bytes.len();
                let mut piece = vec![0; read.min(here)];
                reader.read_exact(&mut piece).unwrap();
                bytes.extend(piece);
            }
            reader.read_to_end(&mut bytes).unwrap();
            prop_assert_eq!(bytes, content);
        }

        #[test]
        fn any_order_of_pieces_gives_the_blob(
            content in proptest::collection::vec(any::<u8>(), 1..200),
            cuts in proptest::collection::btree_set(1usize..200, 0..8),
            seed in any::<u64>(),
        ) {
            let pool = Pool::new();
            let window = BlobWindow::new(content.len() as u64);
            let mut ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < content.len()).collect();
            ends.push(content.len());
            let mut start = 0;
            let mut pieces: Vec<_> = ends.iter().map(|end| { let piece = (start, *end); start = *end; piece }).collect();
            pieces.sort_by_key(|(start, _)| (*start as u64).wrapping_mul(seed | 1));
            for (start, end) in pieces {
                window.publish(start as u64, segment(&pool, &content[start..end]));
            }
            let mut bytes = Vec::new();
            WindowReader::new(window, Box::new(|_| ())).read_to_end(&mut bytes).unwrap();
            prop_assert_eq!(bytes, content);
        }
    }
}
