//! The table a person reads, with what it takes to believe it.

use std::fmt::Write as _;

use super::{ComparisonResult, NamedSummary, Run};
use crate::simulation::Simulation;

/// The whole result as Markdown.
pub fn markdown(result: &ComparisonResult) -> String {
    let mut text = String::new();
    let image = &result.image;
    let _ = writeln!(text, "# Pulling `{}`\n", image.name);
    let _ = writeln!(
        text,
        "{} layers, {} compressed, {} uncompressed, {} entries.\n",
        image.layers,
        bytes(image.compressed_bytes),
        bytes(image.uncompressed_bytes),
        image.files
    );
    text.push_str(&table(result));
    let equal = if result.trees_equal() {
        "yes, every run made the same tree"
    } else {
        "**no**"
    };
    let _ = writeln!(text, "\nTrees equal: {equal}.");
    if let Some(limits) = &result.limits {
        let _ = write!(
            text,
            "\n## Limits measured in the same run\n\n{}",
            limits.markdown()
        );
    }
    if let Some(simulation) = &result.simulation {
        text.push_str(&simulated(simulation));
    }
    let machine = &result.machine;
    let _ = writeln!(
        text,
        "\n## How it was measured\n\n- {} ({} threads), {} memory, Linux {}, load {:.2} before the first run\n\
         - pulled from {} on loopback\n- written to {}; configurations interleaved, order rotated each repetition\n- revision {}, {} build\n\
         - `{}`",
        machine.cpu,
        machine.cores,
        bytes(machine.memory_bytes),
        machine.kernel,
        machine.load,
        result.registry,
        machine.filesystem,
        result.revision,
        result.build,
        result.command
    );
    text
}

/// What the simulator was given and what it said binds each pull.
fn simulated(simulation: &Simulation) -> String {
    let host = &simulation.host;
    let mut text = format!(
        "\n## Simulated\n\nThe same layers under the same limits on a host of the rates above: {} cores, inflate {} MB/s, \
         SHA-256 {} MB/s, copy {} MB/s, {:.1} µs a file, network {} MB/s. Registry profile: {}.\n\n",
        host.cores,
        host.inflate_bytes_per_second / 1_000_000,
        host.sha256_bytes_per_second / 1_000_000,
        host.copy_bytes_per_second / 1_000_000,
        host.file_create_ns as f64 / 1e3,
        host.link_bytes_per_second / 1_000_000,
        simulation.registry.name,
    );
    for pull in &simulation.pulls {
        let _ = writeln!(
            text,
            "- {}: {} s as {}, mostly waiting for {}; at least {} s under its limits",
            pull.name,
            seconds_text(pull.seconds),
            pull.strategy.name(),
            parapull_sim::gantt::name(pull.bound_by),
            seconds_text(pull.lower_bound_seconds)
        );
    }
    text
}

/// The summary table alone.
fn table(result: &ComparisonResult) -> String {
    let mut text = String::from(
        "| configuration | version | runs | median s | min–max s | simulated s | simulated ÷ measured | times as fast | × limit | written | peak memory |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for line in &result.summary {
        let NamedSummary {
            name,
            seconds,
            ratio_to_limit,
            ratio_to_baseline,
            simulated_seconds,
            ratio_simulated_to_measured,
        } = line;
        let runs: Vec<&Run> = result
            .runs
            .iter()
            .filter(|run| run.name() == name)
            .collect();
        let version = runs
            .first()
            .map(|run| run.version.as_str())
            .unwrap_or_default();
        let largest = |of: fn(&Run) -> Option<u64>| runs.iter().filter_map(|run| of(run)).max();
        let _ = writeln!(
            text,
            "| {name} | {version} | {} | {} | {}–{} | {} | {} | {} | {} | {} | {} |",
            seconds.n,
            seconds_text(seconds.p50),
            seconds_text(seconds.min),
            seconds_text(seconds.max),
            simulated_seconds.map_or_else(|| "–".into(), seconds_text),
            ratio(*ratio_simulated_to_measured),
            ratio(*ratio_to_baseline),
            ratio(*ratio_to_limit),
            largest(|run| run.bytes_written).map_or_else(|| "–".into(), bytes),
            largest(|run| run.peak_rss_bytes).map_or_else(|| "–".into(), bytes),
        );
    }
    text
}

pub(super) fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.2}"))
}

/// Seconds with three digits, milliseconds at the finest.
pub fn seconds_text(seconds: f64) -> String {
    let digits = if seconds < 1.0 {
        3
    } else if seconds < 10.0 {
        2
    } else {
        1
    };
    format!("{seconds:.digits$}")
}

/// Bytes with three digits, 1024-based.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = if scaled < 10.0 {
        2
    } else {
        usize::from(scaled < 100.0)
    };
    format!("{scaled:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_sizes_with_three_digits() {
        for (value, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1023 << 10, "1.00 MiB"),
            (10 << 20, "10.0 MiB"),
            (450 << 20, "450 MiB"),
            (3 << 30, "3.00 GiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn the_table_has_a_line_per_configuration_and_the_verdict() {
        let mut result = super::super::result::tests::result();
        let text = markdown(&result);
        assert!(
            text.contains("| streamed | 1.6.20, go | 3 | 1.80 | 1.70–1.90 | 1.71 | 0.95 | 3.39 | 1.50 | 3.00 GiB | 90.0 MiB |"),
            "{text}"
        );
        assert!(text.contains("Trees equal: yes"));
        result.runs[0].tree_sha256 = "other".into();
        assert!(markdown(&result).contains("Trees equal: **no**"));
    }
}
