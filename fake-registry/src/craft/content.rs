//! Fills files: deterministic bytes of a chosen compressibility, cheaper to make than to compress.
//!
//! Text is drawn word by word and its entropy is what sets the ratio, so that a compressor's window makes little
//! difference. A mix dilutes it with noise (less compressible) or zeros (more compressible).

use std::io::{self, Read};
use std::sync::OnceLock;

use parapull_scenario::image::ContentKind;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The size of a pattern of pure and diluted text, small against every compressor's window.
const UNIT_BYTES: usize = 2_048;

/// Permille of noise (positive) or zeros (negative) in text, from -1000 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix(pub(super) i32);

/// Names a stream of bytes: equal keys give equal bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamKey {
    pub(super) seed: u64,
    pub(super) layer: u64,
    pub(super) file: u64,
}

/// The content of one file.
pub(super) struct ContentReader {
    kind: ContentKind,
    mix: Mix,
    rng: ChaCha8Rng,
    left_bytes: u64,
    unit: Vec<u8>,
    unit_position: usize,
}

impl ContentReader {
    pub(super) fn new(key: StreamKey, kind: ContentKind, mix: Mix, bytes: u64) -> Self {
        let mut seed = [0; 32];
        for (slot, word) in seed
            .chunks_exact_mut(8)
            .zip([key.seed, key.layer, key.file, 0])
        {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        Self {
            kind,
            mix,
            rng: ChaCha8Rng::from_seed(seed),
            left_bytes: bytes,
            unit: Vec::with_capacity(UNIT_BYTES + Word::BYTES_MAX),
            unit_position: 0,
        }
    }

    fn refill(&mut self) {
        self.unit.clear();
        self.unit_position = 0;
        match self.kind {
            ContentKind::Zeros => self.unit.resize(UNIT_BYTES, 0),
            ContentKind::Random => self.append_noise(UNIT_BYTES),
            ContentKind::Weights => self.append_weights(),
            ContentKind::Text => {
                let diluted =
                    UNIT_BYTES * usize::try_from(self.mix.0.unsigned_abs()).unwrap_or(0) / 1_000;
                if self.mix.0 > 0 {
                    self.append_noise(diluted);
                } else {
                    self.unit.resize(diluted, 0);
                }
                self.append_text();
            }
        }
        self.unit.truncate(UNIT_BYTES);
    }

    fn append_noise(&mut self, bytes: usize) {
        let start = self.unit.len();
        self.unit.resize(start + bytes, 0);
        self.rng.fill_bytes(&mut self.unit[start..]);
    }

    fn append_text(&mut self) {
        let words = vocabulary();
        while self.unit.len() < UNIT_BYTES {
            let mut bits = self.rng.next_u64();
            for _ in 0..2 {
                // The product of three uniform draws favours the first words, as language does.
                let (a, b, c) = (bits & 0x3ff, bits >> 10 & 0x3ff, bits >> 20 & 0xfff);
                bits >>= 32;
                let index = usize::try_from((a * b * c) >> 20).unwrap_or(0);
                self.unit
                    .extend_from_slice(words[index % words.len()].bytes());
            }
        }
    }

    /// Little-endian bf16: a mantissa byte of noise, then sign and an exponent that has few values.
    fn append_weights(&mut self) {
        while self.unit.len() < UNIT_BYTES {
            let bits = self.rng.next_u64();
            for index in 0..4 {
                let draw = bits >> (index * 16);
                let mantissa = u8::try_from(draw & 0xff).unwrap_or(0);
                let sign = u8::try_from(draw >> 8 & 1).unwrap_or(0) << 7;
                // Trailing zeros of random bits fall off geometrically, as the exponents of a normal distribution do.
                let magnitude =
                    u8::try_from((draw >> 9 & 0x7f | 0x40).trailing_zeros()).unwrap_or(0);
                self.unit
                    .extend_from_slice(&[mantissa, sign | (0x3c - magnitude)]);
            }
        }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < wanted {
            if self.unit_position == self.unit.len() {
                self.refill();
            }
            let take = (wanted - filled).min(self.unit.len() - self.unit_position);
            let piece = &self.unit[self.unit_position..self.unit_position + take];
            buffer[filled..filled + take].copy_from_slice(piece);
            self.unit_position += take;
            filled += take;
        }
        self.left_bytes -= filled as u64;
        Ok(filled)
    }
}

/// A word with the space behind it.
#[derive(Clone, Copy)]
struct Word {
    text: [u8; Self::BYTES_MAX],
    length: u8,
}

impl Word {
    const BYTES_MAX: usize = 16;

    fn bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

const WORDS: usize = 4_096;

/// The words of every text, the same in every image.
fn vocabulary() -> &'static [Word] {
    static VOCABULARY: OnceLock<Vec<Word>> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let mut rng = ChaCha8Rng::from_seed([7; 32]);
        (0..WORDS).map(|_| random_word(&mut rng)).collect()
    })
}

fn random_word(rng: &mut ChaCha8Rng) -> Word {
    const LETTERS: &[u8; 32] = b"etaoinshrdlucmfwypvbgkqjxz_(.)=e";
    let mut text = [b' '; Word::BYTES_MAX];
    let length = 4 + rng.next_u32() % 9;
    for slot in text.iter_mut().take(length as usize - 1) {
        *slot = LETTERS[(rng.next_u32() % 32) as usize];
    }
    Word {
        text,
        length: u8::try_from(length).unwrap_or(4),
    }
}

/// A well-mixed number for a key, for choices that need no stream (the finaliser of `SplitMix64`).
pub(super) fn keyed_number(key: StreamKey) -> u64 {
    let mut value =
        key.seed ^ key.layer.rotate_left(40) ^ key.file.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: StreamKey, kind: ContentKind, mix: i32, count: u64) -> Vec<u8> {
        let mut content = Vec::new();
        ContentReader::new(key, kind, Mix(mix), count)
            .read_to_end(&mut content)
            .unwrap();
        content
    }

    #[test]
    fn equal_keys_give_equal_bytes_and_others_do_not() {
        let key = StreamKey {
            seed: 1,
            layer: 2,
            file: 3,
        };
        for kind in [ContentKind::Text, ContentKind::Weights, ContentKind::Random] {
            let content = bytes(key, kind, 0, 10_000);
            assert_eq!(content.len(), 10_000);
            assert_eq!(content, bytes(key, kind, 0, 10_000));
            assert_ne!(
                content,
                bytes(StreamKey { file: 4, ..key }, kind, 0, 10_000)
            );
        }
        assert_eq!(bytes(key, ContentKind::Zeros, 0, 5_000), vec![0; 5_000]);
    }
}
