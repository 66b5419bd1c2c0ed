//! What a comparison found, for machines and for people: JSON, CSV, a Markdown table and pictures.
//!
//! It formats; the numbers come from [`crate::measure`] and [`crate::limits`].

mod csv;
mod files;
mod html;
mod markdown;
mod plot;
mod result;
mod timeline_plot;
mod unpack_plot;

pub use csv::csv;
pub(crate) use files::convert;
pub use files::{ReportError, picture, read, write, write_page, write_timeline};
pub use html::html;
pub(crate) use markdown::bytes;
pub use markdown::{markdown, seconds_text};
pub use plot::{PlotError, comparison_svg};
pub use result::{ComparisonResult, ImageSize, NamedSummary, Run, SCHEMA, build, revision};
pub use timeline_plot::{Panel, timeline_svg};
pub use unpack_plot::unpack_svg;
