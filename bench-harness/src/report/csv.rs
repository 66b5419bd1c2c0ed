//! One line per run, for spreadsheets and plotting tools (RFC 4180).

use super::ComparisonResult;

/// All runs as CSV with a header line.
pub fn csv(result: &ComparisonResult) -> String {
    let mut text = String::from(
        "image,name,version,rep,seconds,bytes_fetched,bytes_written,peak_rss_bytes,cpu_seconds,tree_sha256\r\n",
    );
    for run in &result.runs {
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let fields = [
            quoted(&result.image.name),
            quoted(run.name()),
            quoted(&run.version),
            run.rep.to_string(),
            format!("{:.6}", run.seconds),
            number(run.bytes_fetched),
            number(run.bytes_written),
            number(run.peak_rss_bytes),
            run.cpu_seconds
                .map(|value| format!("{value:.2}"))
                .unwrap_or_default(),
            run.tree_sha256.clone(),
        ];
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_would_break_a_line() {
        let text = csv(&super::super::result::tests::result());
        let mut lines = text.lines();
        assert_eq!(lines.next().map(|line| line.split(',').count()), Some(10));
        assert_eq!(
            lines.next(),
            Some("ml-like:1GiB,containerd,\"1.6.20, go\",0,6.000000,,3221225472,94371840,,ab")
        );
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
