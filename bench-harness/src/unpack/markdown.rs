//! The report of `unpack` as people read it.

use std::fmt::Write as _;

use super::{Instructions, Line, UnpackResult};

/// The whole result as Markdown.
pub fn markdown(result: &UnpackResult) -> String {
    let machine = &result.machine;
    let mut text = format!(
        "# Unpacking layers\n\n`{}`\n\n- {}, {} cores, Linux {}; load {:.1} before, {:.1} after; revision {}, {} build\n\
         - each run on a file system made for it, blobs in memory; contenders in turn; rates are of the quickest run, processor \
         time is the least of all\n- `parapull:N` is a lane with N threads in a process of its own, both digests checked; `tar:X` is `X -dc | tar -x` and \
         checks nothing; `tar:igzip+sha256` hashes what igzip gives; umoci checks both digests; containerd's figures are \
         of unpacking an image that it has, with the decompressor named, and check the diff ID (the blob's digest was checked at \
         the import, which is not timed)\n- {}\n",
        result.command,
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.load,
        result.load_after,
        result.revision,
        result.build,
        result.versions.join(", "),
    );
    if machine.load.max(result.load_after) > 1.0 {
        text.push_str("- **the machine was busy with other work**: believe ratios, not seconds\n");
    }
    goals(&mut text, result);
    layers(&mut text, result);
    for layer in &result.layers {
        let mut places: Vec<&str> = Vec::new();
        for line in result.lines.iter().filter(|line| line.layer == layer.name) {
            if !places.contains(&line.filesystem.as_str()) {
                places.push(&line.filesystem);
            }
        }
        for place in places {
            let lines = result.lines.iter();
            let lines: Vec<&Line> = lines
                .filter(|line| line.layer == layer.name && line.filesystem == place)
                .collect();
            table(&mut text, &format!("{} onto {place}", layer.name), &lines);
        }
    }
    inflating(&mut text, result);
    if let Some(counted) = &result.instructions {
        instructions(&mut text, counted);
    }
    text
}

fn goals(text: &mut String, result: &UnpackResult) {
    if result.goals.is_empty() {
        return;
    }
    text.push_str("\n## Goals\n\n| what | found | goal | |\n|---|--:|--:|---|\n");
    for goal in &result.goals {
        let sign = if goal.is_most { '≤' } else { '≥' };
        let met = if goal.is_met() { "met" } else { "**missed**" };
        let digits = if goal.bound > 100.0 { 0 } else { 2 };
        let _ = writeln!(
            text,
            "| {} | {:.digits$} | {sign} {:.digits$} | {met} |",
            goal.what, goal.found, goal.bound
        );
    }
}

fn layers(text: &mut String, result: &UnpackResult) {
    text.push_str(
        "\n## Layers\n\n| layer | MB | compressed MB | entries | files |\n|---|--:|--:|--:|--:|\n",
    );
    for layer in &result.layers {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {} | {} |",
            layer.name,
            layer.uncompressed_bytes as f64 / 1e6,
            layer.compressed_bytes as f64 / 1e6,
            layer.entries,
            layer.files
        );
    }
}

fn table(text: &mut String, title: &str, lines: &[&Line]) {
    let best = lines
        .iter()
        .map(|line| line.seconds.min)
        .fold(f64::MAX, f64::min);
    let _ = write!(
        text,
        "\n## {title}\n\n| by | runs | best s | median s | MB/s | files/s | CPU-s/GB | × quickest |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for line in lines {
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {:.0} | {:.0} | {:.2} | {:.2} |",
            line.contender,
            line.seconds.n,
            line.seconds.min,
            line.seconds.p50,
            line.bytes_per_second / 1e6,
            line.files_per_second,
            line.cpu_seconds_per_gb,
            line.seconds.min / best
        );
    }
}

fn inflating(text: &mut String, result: &UnpackResult) {
    if result.inflate.is_empty() {
        return;
    }
    text.push_str(
        "\n## Inflating alone\n\nIn memory, no hash and no file. *Serial* is the thread that puts pieces in order; *reach* is \
         what the threads would give on as many free cores, from their processor time alone.\n\n\
         | layer | way | threads ahead | CPU-s/GB | serial | MB/s here | per core, to in order | reach MB/s |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for cost in &result.inflate {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {:.2} | {:.0} | {:.2} | {:.0} |",
            cost.layer,
            cost.way,
            cost.guessers,
            cost.cpu_seconds_per_gb,
            cost.serial_seconds_per_gb,
            cost.bytes_per_second / 1e6,
            cost.per_core,
            cost.reach_bytes_per_second() / 1e6
        );
    }
}

fn instructions(text: &mut String, counted: &Instructions) {
    let _ = write!(
        text,
        "\n## Instructions of one thread\n\n`{}` by a lane and by a plain loop (flate2, sha2, the `tar` crate); neither makes files: \
         {:.3} without the hash, {:.3} with it (in software, as callgrind has no SHA instructions). Millions:\n\n\
         | lane | | plain loop | |\n|---|--:|---|--:|\n| all | {:.0} | all | {:.0} |\n",
        counted.layer,
        counted.ratio(),
        counted.ratio_with_hash(),
        counted.lane_with_hash as f64 / 1e6,
        counted.plain_with_hash as f64 / 1e6
    );
    for (lane, plain) in counted.lane_top.iter().zip(&counted.plain_top) {
        let _ = writeln!(
            text,
            "| `{}` | {:.0} | `{}` | {:.0} |",
            short(&lane.0),
            lane.1 as f64 / 1e6,
            short(&plain.0),
            plain.1 as f64 / 1e6
        );
    }
}

/// A function without the path of its file.
fn short(name: &str) -> &str {
    let (file, _) = name.split_once(':').unwrap_or((name, ""));
    &name[file.rfind('/').map_or(0, |slash| slash + 1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_who_won_and_what_was_missed() {
        let text = markdown(&super::super::report::tests::result());
        for needle in [
            "| mixed.go onto tmpfs: parapull:2 to containerd-2:go | 1.90 | ≥ 2.00 | **missed** |",
            "## mixed.go onto tmpfs",
            "| umoci | 1 | 5.00 | 5.00 | 60 | 1600 | 33.33 | 5.00 |",
        ] {
            assert!(text.contains(needle), "{text}");
        }
        assert!(!text.contains("busy"));
        assert_eq!(short("/a/b/c.rs:d::e"), "c.rs:d::e");
    }
}
