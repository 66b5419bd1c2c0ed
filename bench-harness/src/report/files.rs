//! A report's files: `report.json`, `runs.csv`, `report.md`, `comparison.svg` and, where `rsvg-convert` is installed,
//! `comparison.png`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::{
    ComparisonResult, Panel, PlotError, comparison_svg, csv, html, markdown, timeline_svg,
};
use crate::processes::{find_program, run};

/// Why a report cannot be written or read; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file failed.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The document is not of this schema.
    #[error("understand {path}: {source}", path = path.display())]
    Document {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The picture failed.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

/// Writes all files of a report into the folder `to`, which is made if missing.
///
/// # Errors
/// [`ReportError`]; a missing or failing `rsvg-convert` only leaves the PNG out.
pub fn write(result: &ComparisonResult, to: &Path) -> Result<(), ReportError> {
    fs::create_dir_all(to).map_err(file("make", to))?;
    let json = serde_json::to_string_pretty(result).map_err(|source| ReportError::Document {
        path: to.join(JSON),
        source,
    })?;
    let picture = comparison_svg(result)?;
    for (name, text) in [
        (JSON, format!("{json}\n")),
        ("runs.csv", csv(result)),
        (
            "report.md",
            format!(
                "{}\n![seconds per pull](comparison.svg)\n",
                markdown(result)
            ),
        ),
        (PICTURE, picture),
    ] {
        let path = to.join(name);
        fs::write(&path, text).map_err(file("write", &path))?;
    }
    convert(&to.join(PICTURE));
    Ok(())
}

/// Writes the picture of pulls over time into the folder `to` and returns the path of its best form: PNG where it could
/// be made, else SVG.
///
/// # Errors
/// [`ReportError`]; a missing or failing `rsvg-convert` only leaves the PNG out.
pub fn write_timeline(title: &str, panels: &[Panel], to: &Path) -> Result<PathBuf, ReportError> {
    fs::create_dir_all(to).map_err(file("make", to))?;
    let path = to.join(TIMELINE);
    fs::write(&path, timeline_svg(title, panels)?).map_err(file("write", &path))?;
    convert(&path);
    Ok(best_form(&path))
}

/// Where the picture of the comparison in the folder `to` is, in its best form.
pub fn picture(to: &Path) -> PathBuf {
    best_form(&to.join(PICTURE))
}

fn best_form(svg: &Path) -> PathBuf {
    let png = svg.with_extension("png");
    if png.is_file() { png } else { svg.into() }
}

/// Writes the page of `results` as `index.html` into the folder `to` and returns its path.
///
/// # Errors
/// [`ReportError`].
pub fn write_page(results: &[ComparisonResult], to: &Path) -> Result<PathBuf, ReportError> {
    let path = to.join("index.html");
    fs::write(&path, html(results)?).map_err(file("write", &path))?;
    Ok(path)
}

/// Reads the result in the folder `from`.
///
/// # Errors
/// [`ReportError`].
pub fn read(from: &Path) -> Result<ComparisonResult, ReportError> {
    let path = from.join(JSON);
    let text = fs::read(&path).map_err(file("read", &path))?;
    serde_json::from_slice(&text).map_err(|source| ReportError::Document { path, source })
}

/// Makes the PNG beside an SVG; one of an earlier picture is not left there.
pub(crate) fn convert(svg: &Path) {
    let _ = fs::remove_file(svg.with_extension("png"));
    let Ok(program) = find_program("rsvg-convert", "install the package librsvg2-bin") else {
        return;
    };
    let mut command = Command::new(program);
    command
        .args(["--zoom", "2", "--output"])
        .arg(svg.with_extension("png"))
        .arg(svg);
    if let Err(error) = run(&mut command) {
        tracing::warn!(%error, "no PNG");
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    let path = path.to_path_buf();
    move |source| ReportError::File {
        action,
        path,
        source,
    }
}

const JSON: &str = "report.json";
const PICTURE: &str = "comparison.svg";
const TIMELINE: &str = "timeline.svg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let result = super::super::result::tests::result();
        write(&result, directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), result);
        assert!(directory.path().join("report.md").exists());
    }
}
