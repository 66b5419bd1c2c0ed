//! Finds the mix of text that a compressor shrinks by a wanted ratio, by trying on a sample.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use parapull_scenario::MediaType;
use parapull_scenario::image::ContentKind;

use super::compress::Compressor;
use super::content::{ContentReader, Mix, StreamKey};

/// Enough for a ratio within one percent; small enough that a search takes a tenth of a second.
const SAMPLE_BYTES: u64 = 512 << 10;

/// Mixes closer than this differ by less than the goal's tolerance.
const MIX_STEP: i32 = 4;

/// Mixes by media type and wanted ratio: images have many layers alike.
static FOUND: Mutex<BTreeMap<(String, u64), i32>> = Mutex::new(BTreeMap::new());

/// The mix of text whose compressed size comes closest to `ratio_permille`. The same for every seed.
pub(super) fn mix_for(media_type: MediaType, ratio_permille: u64) -> io::Result<Mix> {
    if media_type == MediaType::Uncompressed {
        return Ok(Mix(0));
    }
    // Steps of a hundredth let layers of nearly equal plans share one search.
    let ratio_permille = ratio_permille / 10 * 10;
    let key = (media_type.to_string(), ratio_permille);
    if let Some(&mix) = FOUND
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
    {
        return Ok(Mix(mix));
    }
    let mix = search(media_type, ratio_permille)?;
    FOUND
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, mix.0);
    Ok(mix)
}

/// Compressed sizes grow with the mix, so bisect.
fn search(media_type: MediaType, ratio_permille: u64) -> io::Result<Mix> {
    let wanted_bytes = SAMPLE_BYTES * 1_000 / ratio_permille.max(1);
    let (mut low, mut high) = (-1_000, 1_000);
    while high - low > MIX_STEP {
        let middle = i32::midpoint(low, high);
        if sample_bytes(media_type, Mix(middle))? < wanted_bytes {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Mix(i32::midpoint(low, high)))
}

fn sample_bytes(media_type: MediaType, mix: Mix) -> io::Result<u64> {
    let key = StreamKey {
        seed: 0,
        layer: u64::MAX,
        file: 0,
    };
    let mut reader = ContentReader::new(key, ContentKind::Text, mix, SAMPLE_BYTES);
    let mut compressor = Compressor::new(media_type, SAMPLE_BYTES, Counter(0))?;
    io::copy(&mut reader, &mut compressor)?;
    Ok(compressor.finish()?.0)
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_from_one_to_eight_are_met() {
        for media_type in [
            MediaType::Gzip { level: 6 },
            MediaType::Gzip { level: 1 },
            MediaType::Zstd { level: 3 },
        ] {
            for ratio_permille in [1_100, 1_500, 2_400, 2_830, 4_000, 8_000] {
                let mix = mix_for(media_type, ratio_permille).unwrap();
                let got = SAMPLE_BYTES * 1_000 / sample_bytes(media_type, mix).unwrap();
                assert!(
                    got.abs_diff(ratio_permille) <= ratio_permille / 25,
                    "{media_type} {ratio_permille}: {got} at {mix:?}"
                );
            }
        }
    }
}
