//! A disk behind a page cache: writes are taken at once until so much is dirty, then at the disk's pace, in order.

/// Bytes on their way to the disk.
#[derive(Debug)]
pub(crate) struct Disk {
    bytes_per_second: u64,
    credit_bytes: u64,
    /// Bytes times nanoseconds that are dirty or wait to become so, at `at`.
    dirty: u128,
    at: u64,
    written: u64,
}

impl Disk {
    pub(crate) const fn new(bytes_per_second: u64, credit_bytes: u64) -> Self {
        Self {
            bytes_per_second,
            credit_bytes,
            dirty: 0,
            at: 0,
            written: 0,
        }
    }

    /// Writes; returns when the writer may go on.
    pub(crate) fn write(&mut self, now: u64, bytes: u64) -> u64 {
        self.drain(now);
        self.dirty += u128::from(bytes) * NANOS_PER_SECOND;
        self.written += bytes;
        let over = self
            .dirty
            .saturating_sub(u128::from(self.credit_bytes) * NANOS_PER_SECOND);
        let nanos = over.div_ceil(u128::from(self.bytes_per_second));
        now.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Bytes written so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    fn drain(&mut self, now: u64) {
        let drained = u128::from(now - self.at) * u128::from(self.bytes_per_second);
        self.dirty = self.dirty.saturating_sub(drained);
        self.at = now;
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_cache_holds_and_then_the_disks_pace() {
        let mut disk = Disk::new(10, 100);
        assert_eq!(disk.write(0, 100), 0);
        assert_eq!(disk.write(0, 10), 1_000_000_000);
        assert_eq!(disk.write(1_000_000_000, 20), 3_000_000_000);
        // Half a minute later all is clean again.
        assert_eq!(disk.write(31_000_000_000, 100), 31_000_000_000);
        assert_eq!(disk.written(), 230);
    }
}
