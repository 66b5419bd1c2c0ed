//! Threads, failures from either side, cancellation, and what is left behind: nothing.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use parapull_snapshotter::unpack::{
    Attributes, Bounds, Cancelled, Class, Controls, Encoding, LayerPath, Node, OverlaySink,
    Position, Progress, Sink, SinkError, Staged, ThreadPermit, UnpackError, Waiting, unpack,
};

use super::archive::{archive, file};
use super::lane::{is_root, place, run, spec};
use super::streams::{gzip, sample};
use super::threads::{gzip_in_blocks, letters};

/// A source that gives what it is sent and blocks in between.
struct Fed {
    sent: Receiver<io::Result<Vec<u8>>>,
    rest: Vec<u8>,
}

fn feed() -> (Sender<io::Result<Vec<u8>>>, Fed) {
    let (sender, receiver) = channel();
    let fed = Fed {
        sent: receiver,
        rest: Vec::new(),
    };
    (sender, fed)
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let Ok(sent) = self.sent.recv() else {
                return Ok(0);
            };
            self.rest = sent?;
        }
        let bytes = self.rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&self.rest[..bytes]);
        self.rest.drain(..bytes);
        Ok(bytes)
    }
}

/// A layer of many megabytes, so that every buffer is in circulation.
pub fn large() -> Vec<u8> {
    let files = (0..40).map(|n: usize| file(format!("f{n}"), vec![n as u8; 700_000 + n]));
    archive(files)
}

#[test]
fn a_source_that_fails_or_is_cancelled_ends_the_lane() {
    if !is_root("a_source_that_fails_or_is_cancelled_ends_the_lane") {
        return;
    }
    let tar = large();
    let compressed = gzip(&tar);
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    let place = place();
    let dir = place.path().join("layer");
    for threads in 1..=5 {
        let failures: [(io::Error, Class); 2] = [
            (Cancelled.into(), Class::Cancelled),
            (io::Error::other("connection lost"), Class::Source),
        ];
        for (failure, class) in failures {
            let (sender, source) = feed();
            sender.send(Ok(compressed[..20_000].to_vec())).unwrap();
            sender.send(Err(failure)).unwrap();
            let error = run(
                source,
                &spec,
                &dir,
                Position::Upper,
                &Bounds::default(),
                threads,
            )
            .unwrap_err();
            assert_eq!(error.class(), class, "{error}");
            assert!(!dir.exists());
        }
    }
}

/// A sink that fails, or panics, at its third file.
struct Failing {
    inner: Box<OverlaySink>,
    files: u32,
    panics: bool,
}

impl Sink for Failing {
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError> {
        self.inner.directory(path, attributes)
    }

    fn file(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
    ) -> Result<(), SinkError> {
        self.files += 1;
        if self.files < 3 {
            return self.inner.file(path, attributes, size);
        }
        assert!(!self.panics, "the disk caught fire");
        Err(SinkError::Disk {
            operation: "write",
            path: "f".into(),
            source: rustix::io::Errno::NOSPC.into(),
        })
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.inner.data(offset, bytes)
    }

    fn file_end(&mut self) -> Result<(), SinkError> {
        self.inner.file_end()
    }

    fn symlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), SinkError> {
        self.inner.symlink(path, target, attributes)
    }

    fn hardlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), SinkError> {
        self.inner.hardlink(path, target, attributes)
    }

    fn node(
        &mut self,
        path: &LayerPath,
        node: Node,
        attributes: &Attributes,
    ) -> Result<(), SinkError> {
        self.inner.node(path, node, attributes)
    }

    fn whiteout(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError> {
        self.inner.whiteout(path, attributes)
    }

    fn opaque(&mut self, directory: Option<&LayerPath>) -> Result<(), SinkError> {
        self.inner.opaque(directory)
    }

    fn finish(self: Box<Self>) -> Result<Staged, SinkError> {
        self.inner.finish()
    }
}

/// The source never ends by itself: only `stop_source` can free the reading thread. It gives enough for several threads,
/// which read megabytes ahead.
fn fail_while_the_source_blocks(dir: &Path, threads: u32, panics: bool) -> UnpackError {
    let files = (0..8).map(|n: usize| file(format!("f{n}"), letters(700_000 + n)));
    let tar = archive(files);
    let compressed = gzip_in_blocks(&tar);
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    let (sender, source) = feed();
    let chunks = compressed.len() / 20_000;
    for chunk in compressed.chunks(20_000).take(chunks) {
        sender.send(Ok(chunk.to_vec())).unwrap();
    }
    let sender = std::sync::Mutex::new(Some(sender));
    let permit = ThreadPermit::new(threads);
    let progress = Progress::new();
    let stop = || {
        if let Some(sender) = sender.lock().unwrap().take() {
            let _ = sender.send(Err(Cancelled.into()));
        }
    };
    let controls = Controls {
        threads: &permit,
        progress: &progress,
        stop_source: &stop,
    };
    let sink = Failing {
        inner: Box::new(OverlaySink::new(dir, Position::Upper).unwrap()),
        files: 0,
        panics,
    };
    unpack(source, &spec, Box::new(sink), &Bounds::default(), controls).unwrap_err()
}

#[test]
fn a_sink_that_fails_does_not_wait_for_the_source() {
    if !is_root("a_sink_that_fails_does_not_wait_for_the_source") {
        return;
    }
    let place = place();
    let dir = place.path().join("layer");
    for threads in 1..=5 {
        let error = fail_while_the_source_blocks(&dir, threads, false);
        assert_eq!(error.class(), Class::Disk, "{error}");
        assert!(!dir.exists());
    }
}

#[test]
fn a_panic_becomes_an_error() {
    if !is_root("a_panic_becomes_an_error") {
        return;
    }
    let place = place();
    let dir = place.path().join("layer");
    for threads in 1..=5 {
        let error = fail_while_the_source_blocks(&dir, threads, true);
        assert!(
            matches!(&error, UnpackError::Panicked { message, .. } if message.contains("fire")),
            "{error}"
        );
        assert!(!dir.exists());
    }
}

/// A source that panics in whichever thread reads it.
struct Panicking;

impl Read for Panicking {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("the network caught fire")
    }
}

#[test]
fn a_panic_of_the_source_becomes_an_error() {
    if !is_root("a_panic_of_the_source_becomes_an_error") {
        return;
    }
    let tar = sample();
    let spec = spec(&tar, &tar, Encoding::Plain);
    let place = place();
    let dir = place.path().join("layer");
    for threads in 1..=5 {
        let error = run(
            Panicking,
            &spec,
            &dir,
            Position::Upper,
            &Bounds::default(),
            threads,
        )
        .unwrap_err();
        assert_eq!(error.class(), Class::Defect, "{error}");
        assert!(!dir.exists());
    }
}

/// Looks, at each read, what the progress says about the bytes before it.
struct Watching<'a> {
    bytes: &'a [u8],
    progress: &'a Progress,
    given: u64,
}

impl Read for Watching<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert_eq!(self.progress.waiting(), Waiting::Input);
        assert_eq!(
            self.progress.bytes_in(),
            self.given,
            "all that was given is released before more is waited for"
        );
        let bytes = buffer.len().min(7_000);
        let bytes = self.bytes.read(&mut buffer[..bytes])?;
        self.given += bytes as u64;
        Ok(bytes)
    }
}

#[test]
fn waiting_for_input_means_that_everything_was_released() {
    if !is_root("waiting_for_input_means_that_everything_was_released") {
        return;
    }
    let tar = sample();
    let compressed = gzip(&tar);
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    for threads in 1..=5 {
        let place = place();
        let progress = Progress::new();
        let source = Watching {
            bytes: &compressed,
            progress: &progress,
            given: 0,
        };
        let controls = Controls {
            threads: &ThreadPermit::new(threads),
            progress: &progress,
            stop_source: &|| {},
        };
        let sink = OverlaySink::new(&place.path().join("layer"), Position::Upper).unwrap();
        let started = std::time::Instant::now();
        unpack(source, &spec, Box::new(sink), &Bounds::default(), controls).unwrap();
        assert_eq!(progress.threads(), threads);
        let held = progress.held();
        assert!(
            held.input + held.cpu + held.disk >= started.elapsed() / 2,
            "{held:?}"
        );
    }
}

#[test]
fn the_staging_directory_must_be_absent_or_empty() {
    if !is_root("the_staging_directory_must_be_absent_or_empty") {
        return;
    }
    let place = place();
    let existing = place.path().join("existing");
    std::fs::create_dir(&existing).unwrap();
    drop(OverlaySink::new(&existing, Position::Upper).unwrap());
    assert!(existing.exists(), "a directory that was there before stays");
    assert_eq!(std::fs::read_dir(&existing).unwrap().count(), 0);
    std::fs::write(existing.join("something"), "x").unwrap();
    let error = OverlaySink::new(&existing, Position::Upper).unwrap_err();
    assert!(matches!(error, SinkError::Disk { .. }));
    assert!(existing.join("something").exists());
    assert!(OverlaySink::new(&place.path().join("no/parent"), Position::Upper).is_err());
}

#[test]
fn a_deep_tree_is_removed_with_few_descriptors() {
    if !is_root("a_deep_tree_is_removed_with_few_descriptors") {
        return;
    }
    let deep = "d/".repeat(1900);
    let members = [
        file("x", "data").pax("path", format!("{deep}f")),
        file("bad", "").owner(1 << 32, 0),
    ];
    let tar = archive(members);
    let spec = spec(&tar, &tar, Encoding::Plain);
    let place = place();
    let dir = place.path().join("layer");
    let error = run(
        &tar[..],
        &spec,
        &dir,
        Position::Upper,
        &Bounds::default(),
        1,
    )
    .unwrap_err();
    assert_eq!(error.class(), Class::BadImage);
    assert!(!dir.exists());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if !is_root("a_full_disk_is_told_and_leaves_nothing") {
        return;
    }
    let place = place();
    let small = place.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m,nr_inodes=30", "none"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED a_full_disk_is_told_and_leaves_nothing: cannot mount");
        return;
    }
    let big = archive([file("big", vec![1; 8 << 20])]);
    let many = archive((0..100).map(|n| file(format!("f{n}"), "")));
    let outcomes: Vec<_> = [big, many]
        .iter()
        .map(|tar| {
            let dir = small.join("layer");
            let spec = spec(tar, tar, Encoding::Plain);
            let outcome = run(
                &tar[..],
                &spec,
                &dir,
                Position::Upper,
                &Bounds::default(),
                2,
            );
            (
                outcome.map(|_| ()).map_err(|error| error.class()),
                dir.exists(),
            )
        })
        .collect();
    let unmounted = std::process::Command::new("umount")
        .arg(&small)
        .status()
        .unwrap();
    assert!(unmounted.success());
    assert_eq!(
        outcomes,
        [(Err(Class::Disk), false), (Err(Class::Disk), false)]
    );
}
