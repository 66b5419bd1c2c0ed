//! A pull as a picture: what each layer did when, and what the whole waited for.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::record::Bound;
use crate::report::{self, Prediction, Run};

/// A picture that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot be drawn: {0}")]
pub struct DrawError(String);

/// What people read for what was waited for.
#[must_use]
pub const fn name(bound: Bound) -> &'static str {
    match bound {
        Bound::Idle => "idle",
        Bound::Latency => "first bytes",
        Bound::Connection => "connections",
        Bound::Link => "link",
        Bound::Lane => "single lanes",
        Bound::Cpu => "cores",
        Bound::Disk => "disk",
        Bound::Commit => "links",
    }
}

/// Draws a run as an SVG document.
///
/// # Errors
/// When the drawing library fails, which it does not for a string.
pub fn draw(run: &Run) -> Result<String, DrawError> {
    let prediction = run.prediction();
    let mut text = String::new();
    {
        let plot = Plot::of(run, &prediction);
        let size = (WIDTH.unsigned_abs(), plot.height().unsigned_abs());
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        plot.draw(&root, run, &prediction)
            .and_then(|()| root.present())
            .map_err(|error| DrawError(error.to_string()))?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// Where things are, in pixels.
struct Plot {
    rows: i32,
    row_height: i32,
    begin: f64,
    seconds: f64,
}

impl Plot {
    fn of(run: &Run, prediction: &Prediction) -> Self {
        let layers: usize = prediction.pulls.iter().map(|pull| pull.layers.len()).sum();
        let rows = i32::try_from(layers).unwrap_or(i32::MAX).max(1);
        let (begin, end) = report::span(&run.scenario, &run.finished.record);
        Self {
            rows,
            row_height: (640 / rows).clamp(5, 24),
            begin: report::seconds(begin),
            seconds: report::seconds(end - begin).max(1e-6),
        }
    }

    fn bottom(&self) -> i32 {
        TOP + self.rows * self.row_height
    }

    fn height(&self) -> i32 {
        self.bottom() + BELOW
    }

    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    fn x(&self, at: f64) -> i32 {
        let share = ((at - self.begin) / self.seconds).clamp(0.0, 1.0);
        LEFT + (share * f64::from(WIDTH - LEFT - RIGHT)) as i32
    }

    fn draw<'a>(&self, root: &Area<'a>, run: &Run, prediction: &Prediction) -> Drawn<'a> {
        root.fill(&WHITE)?;
        self.heading(root, prediction)?;
        self.axis(root)?;
        let mut row = 0;
        for pull in &prediction.pulls {
            for (index, layer) in pull.layers.iter().enumerate() {
                let top = TOP + row * self.row_height;
                row += 1;
                self.layer(root, top, index, layer)?;
            }
        }
        self.strip(root, run)?;
        self.legend(root, run)
    }

    fn heading<'a>(&self, root: &Area<'a>, prediction: &Prediction) -> Drawn<'a> {
        let images: Vec<&str> = prediction
            .pulls
            .iter()
            .map(|pull| pull.image.as_str())
            .collect();
        let title = format!(
            "{}: {} from {} onto {} in {:.2} s",
            prediction.strategy,
            images.join(" and "),
            prediction.registry,
            prediction.host,
            prediction.seconds
        );
        write(root, &title, (LEFT, 18), 20, &BLACK, HPos::Left)?;
        let detail = format!(
            "{} compressed, {} uncompressed; lower bound {:.2} s; {} written; at most {} in memory",
            report::bytes(prediction.compressed_bytes),
            report::bytes(prediction.uncompressed_bytes),
            prediction.lower_bound_seconds,
            report::bytes(prediction.bytes_written),
            report::bytes(prediction.window_bytes_peak)
        );
        write(root, &detail, (LEFT, 42), 14, &GREY, HPos::Left)
    }

    fn axis<'a>(&self, root: &Area<'a>) -> Drawn<'a> {
        let step = nice_step(self.seconds);
        let mut at = 0.0;
        while at <= self.seconds * 1.0001 {
            let x = self.x(self.begin + at);
            let line = [(x, TOP - 4), (x, self.bottom() + STRIP + 10)];
            root.draw(&PathElement::new(line, RULE.stroke_width(1)))?;
            let label = if step < 1.0 {
                format!("{at:.2}")
            } else {
                format!("{at:.0}")
            };
            let below = self.bottom() + STRIP + 22;
            write(root, &label, (x, below), 13, &GREY, HPos::Center)?;
            at += step;
        }
        let middle = i32::midpoint(LEFT, WIDTH - RIGHT);
        let below = self.bottom() + STRIP + 42;
        write(
            root,
            "time in seconds",
            (middle, below),
            13,
            &GREY,
            HPos::Center,
        )?;
        let corner = (LEFT - 8, TOP - 12);
        write(root, "layer, compressed", corner, 13, &GREY, HPos::Right)
    }

    fn layer<'a>(
        &self,
        root: &Area<'a>,
        top: i32,
        index: usize,
        layer: &report::LayerPrediction,
    ) -> Drawn<'a> {
        let inner = (self.row_height - 2).max(3);
        if self.row_height >= 12 {
            let size = report::bytes(layer.compressed_bytes);
            let label = format!("{index}   {size:>8}");
            let at = (LEFT - 8, top + self.row_height / 2);
            write(root, &label, at, 12, &GREY, HPos::Right)?;
        }
        let staged = layer
            .unpack
            .zip(layer.link)
            .map(|(lane, link)| (lane.1, link.0));
        let waits = layer
            .fetch
            .zip(layer.unpack)
            .map(|(fetch, lane)| (fetch.1, lane.0));
        let half = inner / 2;
        for (span, colour, from, to) in [
            (waits, &STORED, half - 1, half + 1),
            (staged, &STAGED, half - 1, half + 1),
            (layer.fetch, &FETCH, 0, half),
            (layer.unpack, &UNPACK, half, inner),
            (layer.link, &LINK, 0, inner),
        ] {
            let Some((begin, end)) = span.filter(|(begin, end)| end >= begin) else {
                continue;
            };
            let (left, right) = (self.x(begin), self.x(end).max(self.x(begin) + 1));
            let corners = [(left, top + from), (right, top + to.max(from + 1))];
            root.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        Ok(())
    }

    /// What the whole waited for, moment by moment.
    fn strip<'a>(&self, root: &Area<'a>, run: &Run) -> Drawn<'a> {
        let top = self.bottom() + 8;
        for ((from, to), bound) in &run.finished.record.bounds {
            let (left, right) = (self.x(report::seconds(*from)), self.x(report::seconds(*to)));
            if *bound != Bound::Idle && right > left {
                let corners = [(left, top), (right, top + STRIP - 8)];
                root.draw(&Rectangle::new(corners, colour(*bound).filled()))?;
            }
        }
        let at = (LEFT - 8, top + STRIP / 2 - 4);
        write(root, "bound by", at, 13, &GREY, HPos::Right)
    }

    fn legend<'a>(&self, root: &Area<'a>, run: &Run) -> Drawn<'a> {
        let mut entries = vec![
            (FETCH, "fetch"),
            (STORED, "stored, waits"),
            (UNPACK, "unpack"),
            (STAGED, "staged, waits"),
            (LINK, "link"),
        ];
        draw_legend(root, (LEFT, 64), &entries)?;
        entries.clear();
        let bounds = &run.finished.record.bounds;
        for bound in BOUNDS {
            if bounds.iter().any(|(_, seen)| *seen == bound) {
                entries.push((colour(bound), name(bound)));
            }
        }
        draw_legend(root, (LEFT, self.bottom() + STRIP + 66), &entries)
    }
}

fn draw_legend<'a>(root: &Area<'a>, at: (i32, i32), entries: &[(RGBColor, &str)]) -> Drawn<'a> {
    let (mut x, y) = at;
    for (colour, label) in entries {
        let corners = [(x, y - 6), (x + 14, y + 6)];
        root.draw(&Rectangle::new(corners, colour.filled()))?;
        write(root, label, (x + 20, y), 13, &GREY, HPos::Left)?;
        x += 46 + 7 * i32::try_from(label.len()).unwrap_or(0);
    }
    Ok(())
}

fn write<'a>(
    root: &Area<'a>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: &RGBColor,
    side: HPos,
) -> Drawn<'a> {
    let style = ("sans-serif", size)
        .into_text_style(root)
        .color(colour)
        .pos(Pos::new(side, VPos::Center));
    root.draw(&Text::new(text.to_owned(), at, style))
}

/// A step of 1, 2 or 5 times a power of ten that makes five to twelve marks.
fn nice_step(seconds: f64) -> f64 {
    let mut step = 0.001;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if seconds / (step * factor) <= 12.0 {
                return step * factor;
            }
        }
        step *= 10.0;
    }
}

const fn colour(bound: Bound) -> RGBColor {
    match bound {
        Bound::Idle => WHITE,
        Bound::Latency => RGBColor(0xb0, 0xb0, 0xb0),
        Bound::Connection => RGBColor(0x9e, 0xca, 0xe1),
        Bound::Link => RGBColor(0x31, 0x82, 0xbd),
        Bound::Lane => RGBColor(0xa1, 0xd9, 0x9b),
        Bound::Cpu => RGBColor(0x23, 0x8b, 0x45),
        Bound::Disk => RGBColor(0xd9, 0x5f, 0x0e),
        Bound::Commit => RGBColor(0x54, 0x27, 0x88),
    }
}

const BOUNDS: [Bound; 7] = [
    Bound::Latency,
    Bound::Connection,
    Bound::Link,
    Bound::Lane,
    Bound::Cpu,
    Bound::Disk,
    Bound::Commit,
];
const WIDTH: i32 = 1_200;
const LEFT: i32 = 150;
const RIGHT: i32 = 30;
const TOP: i32 = 104;
const STRIP: i32 = 34;
const BELOW: i32 = STRIP + 84;
const GREY: RGBColor = RGBColor(0x40, 0x40, 0x40);
const RULE: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const FETCH: RGBColor = RGBColor(0x31, 0x82, 0xbd);
const STORED: RGBColor = RGBColor(0xc6, 0xdb, 0xef);
const UNPACK: RGBColor = RGBColor(0x31, 0xa3, 0x54);
const STAGED: RGBColor = RGBColor(0xd5, 0xd5, 0xd5);
const LINK: RGBColor = RGBColor(0x54, 0x27, 0x88);
