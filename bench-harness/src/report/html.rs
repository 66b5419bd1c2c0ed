//! One self-contained page for one or several results: pictures inside, nothing to fetch.

use std::fmt::Write as _;

use super::markdown::{bytes, ratio, seconds_text};
use super::{ComparisonResult, PlotError, comparison_svg};

/// The page: per result its picture, its table, the limits and how it was measured.
///
/// # Errors
/// When a picture cannot be drawn.
pub fn html(results: &[ComparisonResult]) -> Result<String, PlotError> {
    let mut page = String::from(HEAD);
    for result in results {
        section(&mut page, result)?;
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn section(page: &mut String, result: &ComparisonResult) -> Result<(), PlotError> {
    let _ = writeln!(page, "<section>\n{}", comparison_svg(result)?);
    let header: String = COLUMNS
        .iter()
        .map(|name| format!("<th>{name}</th>"))
        .collect();
    let _ = writeln!(page, "<table><tr>{header}</tr>");
    for line in &result.summary {
        let runs: Vec<_> = result
            .runs
            .iter()
            .filter(|run| run.name() == line.name)
            .collect();
        let largest = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), bytes);
        let cells = [
            line.name.clone(),
            runs.first()
                .map(|run| run.version.clone())
                .unwrap_or_default(),
            line.seconds.n.to_string(),
            seconds_text(line.seconds.p50),
            format!(
                "{}–{}",
                seconds_text(line.seconds.min),
                seconds_text(line.seconds.max)
            ),
            line.simulated_seconds
                .map_or_else(|| "–".to_owned(), seconds_text),
            ratio(line.ratio_to_baseline),
            ratio(line.ratio_to_limit),
            largest(runs.iter().filter_map(|run| run.bytes_written).max()),
            largest(runs.iter().filter_map(|run| run.peak_rss_bytes).max()),
        ];
        let cells: String = cells
            .iter()
            .map(|cell| format!("<td>{}</td>", escaped(cell)))
            .collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table>\n");
    let equal = if result.trees_equal() {
        "yes, every run made the same tree"
    } else {
        "<strong>no</strong>"
    };
    let _ = writeln!(page, "<p>Trees equal: {equal}.</p>");
    let machine = &result.machine;
    let _ = writeln!(
        page,
        "<p class=how>{} ({} threads), {} memory, Linux {}, load {:.2} before the first run. Pulled from {}, written to \
         {}. Revision {}, {} build.<br><code>{}</code></p></section>",
        escaped(&machine.cpu),
        machine.cores,
        bytes(machine.memory_bytes),
        escaped(&machine.kernel),
        machine.load,
        escaped(&result.registry),
        escaped(&machine.filesystem),
        escaped(&result.revision),
        escaped(&result.build),
        escaped(&result.command)
    );
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const COLUMNS: [&str; 10] = [
    "configuration",
    "version",
    "runs",
    "median s",
    "min–max s",
    "simulated s",
    "times as fast",
    "× limit",
    "written",
    "peak memory",
];

const HEAD: &str = "<!DOCTYPE html>
<html lang=en><head><meta charset=utf-8><title>parapull-bench</title>
<style>
body { font: 15px/1.5 'DejaVu Sans', Verdana, sans-serif; max-width: 1000px; margin: 2em auto; color: #1e2228 }
section { margin-bottom: 4em } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; width: 100% } th, td { padding: .3em .6em; text-align: right; border-bottom: 1px solid #e2e6ea }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left } .how { color: #646c76; font-size: 13px }
</style></head><body>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_escapes_what_it_quotes() {
        let mut result = super::super::result::tests::result();
        result.command = "parapull-bench compare --image '<script>'".into();
        let page = html(&[result.clone(), result]).unwrap();
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        assert!(
            !page.contains("href=") && !page.contains("src="),
            "nothing is fetched"
        );
        assert!(page.contains("<td>streamed</td>") && page.contains("<td>1.80</td>"));
    }
}
