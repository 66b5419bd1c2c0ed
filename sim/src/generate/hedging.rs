//! Rules for hedges from seeds: none in about half of the runs, from a stream of draws of its own.

use parapull_engine::HedgeRules;

use crate::draw::Draws;

/// The rules of a seed, from ones under which nearly everything is hedged to ones under which hardly anything is.
pub(super) fn rules(seed: u64) -> HedgeRules {
    let mut draws = Draws::new(seed ^ STREAM);
    let draws = &mut draws;
    if draws.chance(55) {
        return HedgeRules::off();
    }
    HedgeRules {
        bytes_permille: *draws.pick(&[1, 50, 200, 1_000]),
        burst_bytes: *draws.pick(&[0, 1 << 16, 1 << 20, 16 << 20]),
        hedges_max: draws.within_u32(1, 5),
        slow_times: draws.within_u32(0, 4),
        slow_ms_min: *draws.pick(&[0, 10, 250, 2_500]),
    }
}

/// Keeps these draws apart from those of everything else.
const STREAM: u64 = 0x6865_6467_6573_0000;
