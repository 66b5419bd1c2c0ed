//! Gzip members in a row (RFC 1952), and whatever stands behind the last one.
//!
//! Padding and garbage behind the last member are ignored, as `gzip`, `unpigz` and `igzip` do: whoever reads a layer knows
//! two digests that decide whether the stream is right.

use super::checkpoint::{Checkpoint, Recorder};
use super::header::Header;
use super::raw::{Checksum, Place, RawInflate, Stop, WINDOW_BYTES};

/// A gzip stream as a state machine: bytes in, bytes out, no reading.
#[derive(Debug)]
pub(crate) struct Gzip {
    raw: RawInflate,
    state: State,
    is_first: bool,
    /// The member has given bytes.
    has_output: bool,
    checksum: Checksum,
    /// Bytes of the stream that were taken, and bytes that came of them.
    taken: u64,
    given: u64,
    recorder: Option<Recorder>,
}

#[derive(Debug)]
enum State {
    Header(Header),
    Body,
    Trailer {
        bytes: [u8; TRAILER_BYTES],
        have: usize,
    },
    Between,
    Garbage,
}

/// How far one step came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of the input that were taken.
    pub(crate) consumed: usize,
    /// Bytes that were put into the output.
    pub(crate) produced: usize,
    /// It stands between two blocks, and this many bits of the last byte taken belong to the next one.
    pub(crate) border: Option<u32>,
}

impl Gzip {
    /// At the first byte of a stream.
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self {
            raw: RawInflate::new().map_err(|error| error.to_string())?,
            state: State::Header(Header::default()),
            is_first: true,
            has_output: false,
            checksum: Checksum::default(),
            taken: 0,
            given: 0,
            recorder: None,
        })
    }

    /// Notes checkpoints from here on, more than `span_bytes` of uncompressed bytes apart.
    pub(crate) fn record(&mut self, span_bytes: u64) {
        self.recorder = Some(Recorder::new(span_bytes));
    }

    /// The checkpoints that were noted.
    pub(crate) fn take_checkpoints(&mut self) -> Vec<Checkpoint> {
        self.recorder
            .take()
            .map_or_else(Vec::new, Recorder::into_checkpoints)
    }

    /// Bytes of the stream that were taken, those decoded elsewhere included.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Decodes some of `input` into `output`. With neither progress nor an error more input is needed.
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        stop: Stop,
    ) -> Result<Step, String> {
        let (room, stop) = self.until_due(output.len(), stop);
        let step = match self.advance(input, &mut output[..room], stop) {
            // What looks like one more member is none.
            Err(_) if !self.is_first && !self.has_output => {
                self.state = State::Garbage;
                Step::taken(input.len())
            }
            Err(reason) => return Err(format!("bad gzip data: {reason}")),
            Ok(step) => step,
        };
        self.taken += step.consumed as u64;
        self.given += step.produced as u64;
        if let Some(unused_bits) = step.border {
            self.note_border(unused_bits)?;
        }
        Ok(step)
    }

    /// Checks that the stream may end here.
    pub(crate) fn end(&self) -> Result<(), String> {
        match self.state {
            State::Garbage | State::Between => Ok(()),
            _ if !self.is_first && !self.has_output => Ok(()),
            _ => Err("ends inside a gzip member".into()),
        }
    }

    /// Puts the last bytes that were decoded into `window`: how many there are.
    pub(super) fn window(&mut self, window: &mut [u8; WINDOW_BYTES]) -> Result<usize, String> {
        self.raw.window(window).map_err(|error| error.to_string())
    }

    /// Takes note of bytes of the member that somebody else decoded.
    pub(super) fn account(&mut self, bytes: &[u8]) {
        self.has_output |= !bytes.is_empty();
        self.checksum.add(bytes);
        self.given += bytes.len() as u64;
    }

    /// Goes on behind blocks that somebody else decoded and that end in the byte before `taken`: `count` bits of that
    /// `byte` are the next block's.
    pub(super) fn go_on(
        &mut self,
        taken: u64,
        (count, byte): (u32, u8),
        window: &[u8],
        is_last: bool,
    ) -> Result<(), String> {
        self.taken = taken;
        if is_last {
            self.state = State::trailer();
            return Ok(());
        }
        self.raw
            .begin(count, byte, window)
            .map_err(|error| error.to_string())?;
        self.note_border(count)
    }

    /// Room and stop with which a step does not miss the border that is to be noted.
    fn until_due(&self, room: usize, stop: Stop) -> (usize, Stop) {
        let Some(recorder) = &self.recorder else {
            return (room, stop);
        };
        match recorder.due_after().checked_sub(self.given) {
            None | Some(0) => (room, Stop::Block),
            Some(left) => (room.min(usize::try_from(left).unwrap_or(usize::MAX)), stop),
        }
    }

    fn note_border(&mut self, unused_bits: u32) -> Result<(), String> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        if recorder.wants(self.given) {
            let mut window = [0; WINDOW_BYTES];
            let bytes = self
                .raw
                .window(&mut window)
                .map_err(|error| error.to_string())?;
            let bit = self.taken * 8 - u64::from(unused_bits);
            recorder.note(bit, self.given, &window[..bytes]);
        }
        Ok(())
    }

    fn advance(&mut self, input: &[u8], output: &mut [u8], stop: Stop) -> Result<Step, String> {
        match &mut self.state {
            State::Header(header) => {
                let (consumed, is_whole) = header.read(input)?;
                if is_whole {
                    self.raw
                        .begin(0, 0, &[])
                        .map_err(|error| error.to_string())?;
                    self.checksum = Checksum::default();
                    self.state = State::Body;
                }
                Ok(Step {
                    border: is_whole.then_some(0),
                    ..Step::taken(consumed)
                })
            }
            State::Body => self.body(input, output, stop),
            State::Trailer { bytes, have } => {
                let taken = input.len().min(TRAILER_BYTES - *have);
                bytes[*have..*have + taken].copy_from_slice(&input[..taken]);
                *have += taken;
                if *have == TRAILER_BYTES {
                    if *bytes != self.checksum.trailer() {
                        return Err("checksum or length in the trailer is wrong".into());
                    }
                    self.state = State::Between;
                }
                Ok(Step::taken(taken))
            }
            State::Between => {
                match input.first() {
                    None => {}
                    Some(byte) if *byte == Header::FIRST_BYTE => {
                        self.state = State::Header(Header::default());
                        (self.is_first, self.has_output) = (false, false);
                    }
                    Some(_) => self.state = State::Garbage,
                }
                Ok(Step::default())
            }
            State::Garbage => Ok(Step::taken(input.len())),
        }
    }

    fn body(&mut self, input: &[u8], output: &mut [u8], stop: Stop) -> Result<Step, String> {
        let done = self.raw.inflate(input, output, stop).map_err(|error| {
            // What came out in front of the fault counts, however the input is cut.
            self.has_output |= error.produced > 0;
            error.to_string()
        })?;
        self.has_output |= done.produced > 0;
        self.checksum.add(&output[..done.produced]);
        let border = match done.at {
            Place::Inside => None,
            Place::Between { unused_bits } => Some(unused_bits),
            Place::End { .. } => {
                self.state = State::trailer();
                None
            }
        };
        Ok(Step {
            consumed: done.consumed,
            produced: done.produced,
            border,
        })
    }
}

impl State {
    const fn trailer() -> Self {
        Self::Trailer {
            bytes: [0; TRAILER_BYTES],
            have: 0,
        }
    }
}

impl Step {
    fn taken(consumed: usize) -> Self {
        Self {
            consumed,
            ..Self::default()
        }
    }
}

/// CRC-32 and length, both of four bytes.
pub(super) const TRAILER_BYTES: usize = 8;
