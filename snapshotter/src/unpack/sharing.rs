//! How the threads of a lane are shared between its stream and its files.
//!
//! Writing files on more threads helps where small files cost the file system more than the stream, and slows other layers
//! down, so what decides is how much the entries read last take.

use super::lane::Controls;

/// Watches the entries go by and offers the sink threads of the permit while they are small.
pub(super) struct Sharing<'a> {
    controls: Controls<'a>,
    /// Where the entries of this window began in the archive.
    begin: u64,
    entries: u64,
    has_small_files: bool,
    offered: u32,
}

impl<'a> Sharing<'a> {
    /// Begins with no threads for files.
    pub(super) const fn new(controls: Controls<'a>) -> Self {
        Self {
            controls,
            begin: 0,
            entries: 0,
            has_small_files: false,
            offered: 0,
        }
    }

    /// Takes note of an entry, the next of which begins at byte `position` of the archive. `share` offers the sink threads
    /// and says how many it takes.
    pub(super) fn after_entry(&mut self, position: u64, share: impl FnOnce(u32) -> u32) {
        self.entries += 1;
        let bytes = position - self.begin;
        if self.entries >= WINDOW_ENTRIES || bytes >= WINDOW_BYTES {
            self.has_small_files = is_small(bytes / self.entries, self.has_small_files);
            (self.begin, self.entries) = (position, 0);
        }
        let writers = if self.has_small_files {
            writers(self.controls.threads.granted())
        } else {
            0
        };
        if writers != self.offered {
            self.offered = writers;
            let used = share(writers);
            self.controls.threads.take_writers(used);
            self.controls.progress.use_writers(used);
        }
    }
}

/// Whether entries of `mean_bytes` are small; a little more is allowed to those that follow small ones.
const fn is_small(mean_bytes: u64, were_small: bool) -> bool {
    let limit = if were_small {
        SMALL_BYTES_END
    } else {
        SMALL_BYTES
    };
    mean_bytes < limit
}

/// How many of a lane's threads write small files beside the one that makes them.
///
/// With two, inflating beside the files is worth more. From six on the thread that makes the files feeds two.
const fn writers(granted: u32) -> u32 {
    match granted {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    }
}

/// Entries, or bytes of the archive, by which the next ones are judged.
const WINDOW_ENTRIES: u64 = 256;
const WINDOW_BYTES: u64 = 8 << 20;
/// Below it another writer saved a seventh of the time on ext4 and nothing on tmpfs; well above it it lost (two cores).
const SMALL_BYTES: u64 = 32 << 10;
const SMALL_BYTES_END: u64 = 48 << 10;

#[cfg(test)]
mod tests {
    use super::super::progress::{Progress, ThreadPermit};
    use super::*;

    /// What is offered while entries of these sizes go by, under a permit that may change on the way.
    fn offered(permit: &ThreadPermit, entries: &[(u64, usize, u32)]) -> Vec<u32> {
        let progress = Progress::new();
        let mut sharing = Sharing::new(Controls {
            threads: permit,
            progress: &progress,
            stop_source: &|| {},
        });
        let (mut position, mut offered) = (0, Vec::new());
        for (bytes, count, granted) in entries {
            permit.grant(*granted);
            for _ in 0..*count {
                position += bytes;
                sharing.after_entry(position, |threads| {
                    offered.push(threads);
                    threads
                });
            }
            assert!(permit.threads() + offered.last().unwrap_or(&0) <= *granted.max(&1));
        }
        offered
    }

    #[test]
    fn small_entries_are_given_writers_for_as_long_as_they_are_small() {
        let permit = ThreadPermit::new(4);
        let small = (4_096, 1000, 4);
        let large = (1 << 20, 40, 4);
        assert_eq!(offered(&permit, &[small, large, small]), [1, 0, 1]);
        assert!(offered(&permit, &[large, large]).is_empty());
    }

    #[test]
    fn writers_follow_the_permit() {
        let permit = ThreadPermit::new(1);
        let small = |granted| (4_096, 300, granted);
        assert_eq!(
            offered(&permit, &[small(1), small(6), small(3), small(2)]),
            [2, 1, 0]
        );
        assert_eq!(permit.threads(), 2);
    }

    #[test]
    fn a_lane_of_two_threads_keeps_both_for_the_stream() {
        assert_eq!([1, 2, 3, 5, 6, 16].map(writers), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn entries_between_the_limits_are_as_those_before_them() {
        let middle = (SMALL_BYTES + SMALL_BYTES_END) / 2;
        assert!(is_small(4096, false) && !is_small(middle, false));
        assert!(is_small(middle, true) && !is_small(SMALL_BYTES_END, true));
    }
}
