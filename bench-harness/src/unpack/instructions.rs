//! What a lane with one thread executes beyond a plain loop that does the same: instructions, counted by callgrind.
//!
//! Neither makes files: the calls would be the same, and valgrind does not know all of them. A count does not depend on
//! what else the machine does. callgrind's processor has no SHA instructions, so both hash in software there, which would
//! hide the rest: the ratio is of what is executed outside the hash's own function.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{TestLayer, UnpackBenchError, unpack_one_arguments};
use crate::processes::{find_program, run};

/// Instructions of both, in user space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instructions {
    /// The layer.
    pub layer: String,
    /// By the lane, outside the hash's own function.
    pub lane: u64,
    /// By the plain loop, likewise.
    pub plain: u64,
    /// By the lane, in all.
    pub lane_with_hash: u64,
    /// By the plain loop, in all.
    pub plain_with_hash: u64,
    /// The lane's functions that cost most, with their instructions.
    pub lane_top: Vec<(String, u64)>,
    /// The plain loop's.
    pub plain_top: Vec<(String, u64)>,
}

impl Instructions {
    /// The lane's to the plain loop's, without the hash.
    pub fn ratio(&self) -> f64 {
        self.lane as f64 / self.plain.max(1) as f64
    }

    /// The same of everything.
    pub fn ratio_with_hash(&self) -> f64 {
        self.lane_with_hash as f64 / self.plain_with_hash.max(1) as f64
    }
}

/// Counts what unpacking `layer` below `folder` takes: about a second for each megabyte.
///
/// # Errors
/// [`UnpackBenchError`], among others when valgrind is not installed.
pub fn instructions(layer: &TestLayer, folder: &Path) -> Result<Instructions, UnpackBenchError> {
    let lane = Profile::of(layer, "lane", folder)?;
    let plain = Profile::of(layer, "plain", folder)?;
    Ok(Instructions {
        layer: layer.name.clone(),
        lane: lane.outside_hash(),
        plain: plain.outside_hash(),
        lane_with_hash: lane.total(),
        plain_with_hash: plain.total(),
        lane_top: lane.top(),
        plain_top: plain.top(),
    })
}

/// Functions and their own instructions, the dearest first.
struct Profile(Vec<(String, u64)>);

impl Profile {
    fn of(layer: &TestLayer, by: &str, folder: &Path) -> Result<Self, UnpackBenchError> {
        let hint = "install the package valgrind";
        let out = folder.join(format!("callgrind.{by}"));
        let own = std::env::current_exe()
            .map_err(UnpackBenchError::file("find", Path::new("/proc/self/exe")))?;
        let mut count = Command::new(find_program("valgrind", hint)?);
        count.args(["--quiet", "--tool=callgrind"]);
        count.arg(format!("--callgrind-out-file={}", out.display()));
        count
            .arg(own)
            .args(unpack_one_arguments(layer, by, 1, None));
        run(&mut count)?;
        let mut annotate = Command::new(find_program("callgrind_annotate", hint)?);
        annotate.args(["--threshold=100", "--auto=no"]).arg(&out);
        let profile = Self::parse(&run(&mut annotate)?.text());
        if profile.total() > 0 {
            return Ok(profile);
        }
        Err(UnpackBenchError::Wrong {
            who: "callgrind_annotate".into(),
            why: "it lists no function".into(),
        })
    }

    /// Lines such as ` 1,234,567 (12.34%)  file.rs:function [program]`.
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (number, rest) = line.trim_start().split_once(' ')?;
            let cost = number.replace(',', "").parse().ok()?;
            let name = rest.trim_start().trim_start_matches(|at| at != ')');
            let name = name.trim_start_matches(')').trim();
            let name = name.split(" [").next().unwrap_or(name);
            let is_total = name.is_empty() || name.starts_with("PROGRAM TOTALS");
            (!is_total).then(|| (name.to_owned(), cost))
        };
        Self(text.lines().filter_map(line).collect())
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, cost)| cost).sum()
    }

    fn outside_hash(&self) -> u64 {
        let is_hash = |name: &str| HASHES.iter().any(|hash| name.contains(hash));
        let costs = self.0.iter().filter(|(name, _)| !is_hash(name));
        costs.map(|(_, cost)| cost).sum()
    }

    fn top(&self) -> Vec<(String, u64)> {
        self.0.iter().take(TOP).cloned().collect()
    }
}

/// Where blocks are hashed, whatever it is inlined into.
const HASHES: [&str; 2] = ["sha2::", "sha256"];
const TOP: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_line_by_line() {
        let text = "--------\nIr \n--------\n9,000 (100.0%)  PROGRAM TOTALS\n\n\
                    Ir                      file:function\n\
                    6,000 (66.67%)  /src/soft.rs:sha2::sha256::compress [/target/bench]\n\
                    2,000 (22.22%)  ???:inflate [/target/bench]\n\
                    1,000 (11.11%)  ???:memcpy [/lib/libc.so]\n";
        let profile = Profile::parse(text);
        assert_eq!((profile.total(), profile.outside_hash()), (9000, 3000));
        assert_eq!(profile.top()[1], ("???:inflate".to_owned(), 2000));
    }
}
