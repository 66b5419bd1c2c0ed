//! The tables a person reads.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Case, Compatibility};
use crate::pulls::Way;
use crate::report::bytes;

/// The whole result as Markdown: what works first, then seconds, then what it takes to believe them.
pub fn markdown(result: &Compatibility) -> String {
    let mut text = "# parapull under containerd\n\n".to_owned();
    text.push_str(INTRODUCTION);
    text.push_str(&ways_table(&result.cases));
    let troubled: Vec<&Case> = result.cases.iter().filter(|case| !case.is_well()).collect();
    for case in troubled {
        let Case {
            containerd,
            way,
            image,
            problems,
            ..
        } = case;
        let _ = writeln!(
            text,
            "\n**containerd {containerd}, {way}, {image}:** {}",
            problems.join("; ")
        );
    }
    let _ = write!(text, "\n## Seconds\n\n{SECONDS}{}", seconds_table(result));
    let machine = &result.machine;
    let _ = writeln!(
        text,
        "\n## How it was made\n\n- {} ({} threads), {} memory, Linux {}, load {:.2} before the first pull\n\
         - written to {}; every pull has a containerd, a root and a snapshotter of its own\n\
         - revision {}, {} build\n- `{}`",
        machine.cpu,
        machine.cores,
        bytes(machine.memory_bytes),
        machine.kernel,
        machine.load,
        machine.filesystem,
        result.revision,
        result.build,
        result.command
    );
    text
}

/// One row for each containerd and way, over all images.
fn ways_table(cases: &[Case]) -> String {
    let mut table = "| containerd | pulled by | layers fetched by | images as with overlayfs |\n|---|---|---|--:|\n".to_owned();
    let mut seen = BTreeSet::new();
    for case in cases {
        if !seen.insert((&case.containerd, &case.way)) {
            continue;
        }
        let is_same = |other: &&Case| other.containerd == case.containerd && other.way == case.way;
        let same: Vec<&Case> = cases.iter().filter(is_same).collect();
        let well = same.iter().filter(|case| case.is_well()).count();
        let fetchers: BTreeSet<&str> = same.iter().map(|case| case.fetcher.as_str()).collect();
        let _ = writeln!(
            table,
            "| {} | {} | {} | {well} of {} |",
            case.containerd,
            title(&case.way),
            Vec::from_iter(fetchers).join(", "),
            same.len()
        );
    }
    table
}

fn seconds_table(result: &Compatibility) -> String {
    let mut table =
        "| containerd | pulled by | image | parapull | containerd | times as fast | n |\n|---|---|---|--:|--:|--:|--:|\n"
            .to_owned();
    for case in &result.cases {
        let figures = case.medians().map_or_else(
            || "| | |".to_owned(),
            |(ours, theirs)| format!("{ours:.2} | {theirs:.2} | {:.1}", theirs / ours),
        );
        let _ = writeln!(
            table,
            "| {} | {} | {} | {figures} | {} |",
            case.containerd,
            case.way,
            case.image,
            case.seconds.len()
        );
    }
    table
}

/// What a person calls a way.
fn title(way: &str) -> &str {
    way.parse().map_or(way, |way: Way| way.title())
}

const INTRODUCTION: &str = "\
An image is as with overlayfs when all of this held: each layer and the merged view equal to what the same containerd's own
overlayfs made, entry by entry; the layers fetched by whom they should be; a container ran from it; a second pull changed
nothing; its removal left nothing. Where containerd fetches the layers, the client names no image to a snapshotter, and
parapull serves plain overlay snapshots.

";

const SECONDS: &str = "\
Medians of the one call or command that pulls, parapull and the same containerd's own overlayfs in turns; containerd inflates
with what it finds itself (unpigz before 2.0, igzip from there on). Small images are dominated by round trips, not by bytes.

";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Machine;
    use std::path::Path;

    fn case(containerd: &str, way: &str, image: &str, problems: &[&str]) -> Case {
        Case {
            containerd: containerd.into(),
            way: way.into(),
            image: image.into(),
            fetcher_expected: "parapull".into(),
            fetcher: "parapull".into(),
            problems: problems.iter().map(ToString::to_string).collect(),
            seconds: vec![0.5, 0.7, 0.6],
            seconds_containerd: vec![1.2, 1.0, 1.4],
        }
    }

    #[test]
    fn every_case_is_counted_and_every_problem_is_told() {
        let result = Compatibility {
            schema: super::super::SCHEMA,
            command: "parapull-bench compatibility".into(),
            revision: "abc".into(),
            build: "release".into(),
            machine: Machine::here(Path::new("/")),
            cases: vec![
                case("1.6.20", "cri", "tiny", &[]),
                case("1.6.20", "cri", "metadata", &["the container wrote \"\""]),
                case("2.1.9", "ctr", "tiny", &[]),
            ],
        };
        let text = markdown(&result);
        for line in [
            "| 1.6.20 | CRI PullImage, fetched by CRI | parapull | 1 of 2 |",
            "| 2.1.9 | ctr images pull | parapull | 1 of 1 |",
            "**containerd 1.6.20, cri, metadata:** the container wrote \"\"",
            "| 2.1.9 | ctr | tiny | 0.60 | 1.20 | 2.0 | 3 |",
            "- `parapull-bench compatibility`",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
