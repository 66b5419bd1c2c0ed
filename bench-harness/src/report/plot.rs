//! The picture of a comparison: one bar per configuration, its samples, and the hardware's limit.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::markdown::{bytes, seconds_text};
use super::{ComparisonResult, NamedSummary};

/// The picture could not be drawn; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
#[error("draw a picture: {0}")]
pub struct PlotError(pub(super) String);

/// Draws median seconds per configuration as horizontal bars with every sample as a dot and the lower bound of the
/// measured limits as a dashed line.
///
/// The same result gives the same bytes.
///
/// # Errors
/// When the drawing library fails.
pub fn comparison_svg(result: &ComparisonResult) -> Result<String, PlotError> {
    let rows = result.summary.len().max(1);
    let height = TOP + ROW * i32::try_from(rows).unwrap_or(1) + BOTTOM;
    let mut svg = String::new();
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area, result, height).map_err(|error| PlotError(error.to_string()))?;
        area.present()
            .map_err(|error| PlotError(error.to_string()))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(area: &Area<'_>, result: &ComparisonResult, height: i32) -> Drawn {
    area.fill(&WHITE)?;
    let image = &result.image;
    let title = format!("Pulling {}", image.name);
    let subtitle = format!(
        "{} layers, {} compressed, {} unpacked · {} threads, {}{}",
        image.layers,
        bytes(image.compressed_bytes),
        bytes(image.uncompressed_bytes),
        result.machine.cores,
        result.machine.filesystem,
        if result.build == "debug" {
            " · DEBUG BUILD"
        } else {
            ""
        }
    );
    text(area, &title, (LEFT_MARGIN, 30), 24, INK, HPos::Left)?;
    text(area, &subtitle, (LEFT_MARGIN, 58), 14, GREY, HPos::Left)?;
    let legend = "shorter is better · bar: median · dot: one pull · diamond: simulated · ×: times as fast as the first";
    text(area, legend, (LEFT_MARGIN, 80), 14, GREY, HPos::Left)?;
    let scale = Scale::of(result);
    axis(area, &scale, height)?;
    for (row, line) in result.summary.iter().enumerate() {
        let samples: Vec<f64> = result
            .runs
            .iter()
            .filter(|run| run.name() == line.name)
            .map(|run| run.seconds)
            .collect();
        bar(
            area,
            &scale,
            line,
            i32::try_from(row).unwrap_or_default(),
            &samples,
        )?;
    }
    limit(area, &scale, result, height)
}

/// Seconds to pixels.
struct Scale {
    step: f64,
    end: f64,
}

impl Scale {
    fn of(result: &ComparisonResult) -> Self {
        let bound = result
            .limits
            .as_ref()
            .and_then(|limits| limits.lower_bound_seconds)
            .unwrap_or_default();
        let measured = result.runs.iter().map(|run| run.seconds);
        let simulated = result
            .summary
            .iter()
            .filter_map(|line| line.simulated_seconds);
        let longest = measured.chain(simulated).fold(bound, f64::max).max(1e-3);
        let step = nice_step(longest / 6.0);
        Self {
            step,
            end: (longest / step).ceil() * step,
        }
    }

    fn x(&self, seconds: f64) -> i32 {
        let width = f64::from(WIDTH - BARS_LEFT - BARS_RIGHT);
        BARS_LEFT + (seconds / self.end * width).round() as i32
    }
}

/// The smallest step of 1, 2 or 5 times a power of ten that is not below `raw`.
pub(super) fn nice_step(raw: f64) -> f64 {
    let magnitude = 10_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
    steps.into_iter().find(|step| *step >= raw).unwrap_or(raw)
}

fn axis(area: &Area<'_>, scale: &Scale, height: i32) -> Drawn {
    let bottom = height - BOTTOM;
    let ticks = (scale.end / scale.step).round() as i32;
    let digits = if scale.step < 0.1 {
        2
    } else {
        usize::from(scale.step < 1.0)
    };
    for tick in 0..=ticks {
        let seconds = f64::from(tick) * scale.step;
        let x = scale.x(seconds);
        area.draw(&PathElement::new(
            vec![(x, TOP - 8), (x, bottom)],
            GRID.stroke_width(1),
        ))?;
        text(
            area,
            &format!("{seconds:.digits$}"),
            (x, bottom + 14),
            13,
            GREY,
            HPos::Center,
        )?;
    }
    let middle = (scale.x(0.0) + scale.x(scale.end)) / 2;
    text(
        area,
        "seconds from the request to the unpacked image",
        (middle, bottom + 38),
        14,
        INK,
        HPos::Center,
    )
}

fn bar(area: &Area<'_>, scale: &Scale, line: &NamedSummary, row: i32, samples: &[f64]) -> Drawn {
    let top = TOP + row * ROW;
    let middle = top + BAR / 2;
    let colour = colour(&line.name);
    let (left, right) = (scale.x(0.0), scale.x(line.seconds.p50));
    area.draw(&Rectangle::new(
        [(left, top), (right, top + BAR)],
        colour.filled(),
    ))?;
    text(
        area,
        &line.name,
        (BARS_LEFT - 12, middle),
        15,
        INK,
        HPos::Right,
    )?;
    // Samples of one configuration lie close together: spread over the bar's height each stays visible.
    for (index, &sample) in samples.iter().enumerate() {
        let place = (i32::try_from(index).unwrap_or_default() + 1) * BAR
            / (i32::try_from(samples.len())? + 1);
        let centre = (scale.x(sample), top + place);
        area.draw(&Circle::new(centre, 4, WHITE.filled()))?;
        area.draw(&Circle::new(centre, 4, INK.stroke_width(1)))?;
    }
    if let Some(simulated) = line.simulated_seconds {
        diamond(area, (scale.x(simulated), middle))?;
    }
    let faster = line
        .ratio_to_baseline
        .filter(|ratio| (ratio - 1.0).abs() > 0.005);
    let mut label = format!("{} s", seconds_text(line.seconds.p50));
    if let Some(ratio) = faster {
        label.push_str(&format!(" · {ratio:.1}×"));
    }
    if let Some(simulated) = line.simulated_seconds {
        label.push_str(&format!(" · simulated {} s", seconds_text(simulated)));
    }
    let reached = samples.iter().copied().chain(line.simulated_seconds);
    let end = reached.fold(line.seconds.p50, f64::max);
    let start = scale.x(end) + 12;
    let width = i32::try_from(label.chars().count())? * LABEL_CHARACTER_WIDTH;
    let ground = [(start - 2, middle - 10), (start + width, middle + 10)];
    area.draw(&Rectangle::new(ground, WHITE.filled()))?;
    text(area, &label, (start, middle), 15, INK, HPos::Left)
}

/// What the simulator said: a mark over the bar's whole height, so that it is seen beside any dot.
fn diamond(area: &Area<'_>, (x, y): (i32, i32)) -> Drawn {
    let reach = BAR / 2 - 4;
    let corners = vec![(x, y - reach), (x + 7, y), (x, y + reach), (x - 7, y)];
    area.draw(&Polygon::new(corners.clone(), SIMULATED.filled()))?;
    let outline = corners.into_iter().cycle().take(5).collect::<Vec<_>>();
    area.draw(&PathElement::new(outline, WHITE.stroke_width(1)))?;
    Ok(())
}

fn limit(area: &Area<'_>, scale: &Scale, result: &ComparisonResult, height: i32) -> Drawn {
    let Some(limits) = &result.limits else {
        return Ok(());
    };
    let Some(bound) = limits.lower_bound_seconds else {
        return Ok(());
    };
    let x = scale.x(bound);
    let bottom = height - BOTTOM;
    let mut y = TOP - 14;
    while y < bottom {
        area.draw(&PathElement::new(
            vec![(x, y), (x, (y + 7).min(bottom))],
            LIMIT.stroke_width(2),
        ))?;
        y += 12;
    }
    let binding = limits.binding.as_deref().unwrap_or("hardware");
    let label = format!(
        "limit of this machine: {} s ({binding})",
        seconds_text(bound)
    );
    let anchor = if x > WIDTH / 2 {
        HPos::Right
    } else {
        HPos::Left
    };
    text(area, &label, (x, TOP - 24), 13, LIMIT, anchor)
}

pub(super) fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    horizontal: HPos,
) -> Drawn {
    let style = (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(horizontal, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// Blue for what pulls in parallel, grey for what does not, orange for peers.
fn colour(name: &str) -> RGBColor {
    match name {
        "sequential" => RGBColor(140, 150, 160),
        name if name.starts_with("parapull") || name == "streamed" => RGBColor(38, 110, 190),
        "multipart" | "store-then-unpack" => RGBColor(120, 175, 225),
        _ => RGBColor(225, 140, 50),
    }
}

const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
pub(super) const INK: RGBColor = RGBColor(30, 34, 40);
pub(super) const GREY: RGBColor = RGBColor(100, 108, 118);
pub(super) const GRID: RGBColor = RGBColor(226, 230, 234);
const SIMULATED: RGBColor = RGBColor(120, 60, 160);
const LIMIT: RGBColor = RGBColor(190, 30, 45);

const WIDTH: i32 = 960;
const LEFT_MARGIN: i32 = 24;
/// Room for the longest configuration name at 15 pixels.
const BARS_LEFT: i32 = 190;
/// Room for the label behind the longest bar.
const BARS_RIGHT: i32 = 240;
/// Title, subtitle and the limit's label.
const TOP: i32 = 148;
const ROW: i32 = 58;
const BAR: i32 = 38;
/// Of the label font at 15 pixels, on average; gridlines stop before the label.
const LABEL_CHARACTER_WIDTH: i32 = 8;
/// Tick labels and the axis' name.
const BOTTOM: i32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_names_everything_and_is_deterministic() {
        let result = super::super::result::tests::result();
        let svg = comparison_svg(&result).unwrap();
        for needle in [
            "Pulling ml-like:1GiB",
            "streamed",
            "containerd",
            "seconds",
            "limit of this machine: 1.20 s",
        ] {
            assert!(svg.contains(needle), "{needle}");
        }
        assert_eq!(svg, comparison_svg(&result).unwrap());
    }

    #[test]
    fn ticks_are_round_and_cover_every_sample() {
        let mut result = super::super::result::tests::result();
        for (longest, step, end) in [(6.4, 2.0, 8.0), (0.31, 0.1, 0.4), (120.0, 20.0, 120.0)] {
            result.runs[0].seconds = longest;
            result.runs.truncate(1);
            result.summary.clear();
            result.limits = None;
            let scale = Scale::of(&result);
            assert!(
                (scale.step - step).abs() < 1e-9 && (scale.end - end).abs() < 1e-9,
                "{longest}: {}",
                scale.step
            );
        }
    }
}
