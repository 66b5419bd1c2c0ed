//! The picture of pulls over time: one row per layer, one panel per pull, all under one axis.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::PlotError;
use super::markdown::{bytes, seconds_text};
use super::plot::{GREY, GRID, INK, nice_step, text};
use crate::timeline::{LayerTimes, Timeline};

/// One pull of the picture.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What the pull is, such as "measured".
    pub name: String,
    /// When its layers did what.
    pub timeline: Timeline,
}

/// Draws each panel's layers as bars over the time since the pull's request: above the fetch, below the unpacking, then
/// the link; thin where a layer only waits.
///
/// The same panels give the same bytes.
///
/// # Errors
/// When the drawing library fails.
pub fn timeline_svg(title: &str, panels: &[Panel]) -> Result<String, PlotError> {
    let plan = Plan::of(panels);
    let mut svg = String::new();
    {
        let size = (WIDTH.unsigned_abs(), plan.height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        plan.draw(&area, title, panels)
            .map_err(|error| PlotError(error.to_string()))?;
        area.present()
            .map_err(|error| PlotError(error.to_string()))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Where things are, in pixels.
struct Plan {
    row: i32,
    /// The top of each panel's first row.
    tops: Vec<i32>,
    bottom: i32,
    height: i32,
    seconds: f64,
}

impl Plan {
    fn of(panels: &[Panel]) -> Self {
        let rows = |panel: &Panel| {
            i32::try_from(panel.timeline.layers.len())
                .unwrap_or(1)
                .max(1)
        };
        let longest = panels.iter().map(rows).max().unwrap_or(1);
        let row = (PANEL_HEIGHT / longest).clamp(ROW_MIN, ROW_MAX);
        let mut top = HEADING;
        let mut tops = Vec::new();
        for panel in panels {
            top += PANEL_TITLE;
            tops.push(top);
            top += rows(panel) * row + PANEL_GAP;
        }
        let bottom = top - PANEL_GAP;
        let seconds = panels
            .iter()
            .map(|panel| panel.timeline.seconds)
            .fold(1e-3, f64::max);
        Self {
            row,
            tops,
            bottom,
            height: bottom + FOOT,
            seconds,
        }
    }

    fn x(&self, seconds: f64) -> i32 {
        let share = (seconds / self.seconds).clamp(0.0, 1.0);
        LEFT + (share * f64::from(WIDTH - LEFT - RIGHT)).round() as i32
    }

    fn draw(&self, area: &Area<'_>, title: &str, panels: &[Panel]) -> Drawn {
        area.fill(&WHITE)?;
        text(area, title, (MARGIN, 30), 24, INK, HPos::Left)?;
        legend(area)?;
        self.axis(area)?;
        for (panel, &top) in panels.iter().zip(&self.tops) {
            let heading = format!("{}: {} s", panel.name, seconds_text(panel.timeline.seconds));
            text(area, &heading, (LEFT, top - 14), 15, INK, HPos::Left)?;
            for (index, layer) in panel.timeline.layers.iter().enumerate() {
                self.layer(area, top + i32::try_from(index)? * self.row, index, layer)?;
            }
            let (end, below) = (
                self.x(panel.timeline.seconds),
                top + self.row * i32::try_from(panel.timeline.layers.len())?,
            );
            let line = vec![(end, top - 4), (end, below + 4)];
            area.draw(&PathElement::new(line, INK.stroke_width(1)))?;
        }
        Ok(())
    }

    fn axis(&self, area: &Area<'_>) -> Drawn {
        let step = nice_step(self.seconds / AXIS_STEPS);
        let digits = if step < 0.1 {
            2
        } else {
            usize::from(step < 1.0)
        };
        for tick in 0.. {
            let seconds = f64::from(tick) * step;
            if seconds > self.seconds * 1.0001 {
                break;
            }
            let x = self.x(seconds);
            let line = vec![(x, HEADING + 16), (x, self.bottom + 6)];
            area.draw(&PathElement::new(line, GRID.stroke_width(1)))?;
            let label = format!("{seconds:.digits$}");
            text(area, &label, (x, self.bottom + 18), 13, GREY, HPos::Center)?;
        }
        let middle = i32::midpoint(LEFT, WIDTH - RIGHT);
        let name = "seconds from the pull's request";
        text(
            area,
            name,
            (middle, self.bottom + 40),
            14,
            INK,
            HPos::Center,
        )
    }

    fn layer(&self, area: &Area<'_>, top: i32, index: usize, layer: &LayerTimes) -> Drawn {
        if self.row >= ROW_LABELLED {
            let label = format!("{index} · {}", bytes(layer.compressed_bytes));
            let at = (LEFT - 8, top + self.row / 2);
            text(area, &label, at, 12, GREY, HPos::Right)?;
        }
        let inner = (self.row - 2).max(2);
        let half = inner / 2;
        let between = |first: Option<(f64, f64)>, then: Option<(f64, f64)>| {
            first.zip(then).map(|(first, then)| (first.1, then.0))
        };
        for (span, colour, from, to) in [
            (
                between(layer.fetch, layer.unpack),
                WAITS,
                half - 1,
                half + 1,
            ),
            (between(layer.unpack, layer.link), WAITS, half - 1, half + 1),
            (layer.fetch, FETCH, 0, half),
            (layer.unpack, UNPACK, half, inner),
            (layer.link, LINK, 0, inner),
        ] {
            let Some((begin, end)) = span.filter(|(begin, end)| end >= begin) else {
                continue;
            };
            let (left, right) = (self.x(begin), self.x(end).max(self.x(begin) + 1));
            let corners = [(left, top + from), (right, top + to.max(from + 1))];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        Ok(())
    }
}

fn legend(area: &Area<'_>) -> Drawn {
    let mut x = MARGIN;
    for (colour, label) in [
        (FETCH, "fetch"),
        (UNPACK, "unpack"),
        (WAITS, "waits"),
        (LINK, "link"),
    ] {
        let corners = [(x, 52), (x + 14, 64)];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        text(area, label, (x + 20, 58), 14, GREY, HPos::Left)?;
        x += 50 + 8 * i32::try_from(label.len())?;
    }
    let note = "one row per layer, bottom first: number, compressed size";
    text(area, note, (x, 58), 14, GREY, HPos::Left)
}

const FETCH: RGBColor = RGBColor(49, 130, 189);
const UNPACK: RGBColor = RGBColor(49, 163, 84);
const WAITS: RGBColor = RGBColor(198, 205, 214);
const LINK: RGBColor = RGBColor(84, 39, 136);

const WIDTH: i32 = 1_100;
const MARGIN: i32 = 24;
/// Room for a layer's number and size.
const LEFT: i32 = 130;
const RIGHT: i32 = 30;
/// Title and legend.
const HEADING: i32 = 76;
const PANEL_TITLE: i32 = 32;
const PANEL_GAP: i32 = 14;
/// What one panel may take before its rows shrink.
const PANEL_HEIGHT: i32 = 420;
const ROW_MIN: i32 = 4;
const ROW_MAX: i32 = 20;
/// Lower rows have no room for a label of 12 pixels.
const ROW_LABELLED: i32 = 13;
const FOOT: i32 = 62;
const AXIS_STEPS: f64 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(name: &str, layers: usize, seconds: f64) -> Panel {
        let layer = LayerTimes {
            compressed_bytes: 45 << 20,
            fetch: Some((0.0, seconds / 2.0)),
            unpack: Some((seconds / 4.0, seconds / 1.5)),
            link: Some((seconds / 1.2, seconds)),
        };
        Panel {
            name: name.into(),
            timeline: Timeline {
                layers: vec![layer; layers],
                seconds,
                stats: None,
            },
        }
    }

    #[test]
    fn panels_share_the_axis_and_every_layer_is_drawn() {
        let panels = [panel("measured", 3, 2.0), panel("simulated", 3, 1.0)];
        let svg = timeline_svg("Pulling x", &panels).unwrap();
        for needle in ["measured: 2.00 s", "simulated: 1.00 s", "2 · 45.0 MiB"] {
            assert!(svg.contains(needle), "{needle}");
        }
        assert_eq!(svg, timeline_svg("Pulling x", &panels).unwrap());
        let plan = Plan::of(&panels);
        assert_eq!(plan.x(2.0), WIDTH - RIGHT);
        assert!(plan.x(1.0) < (WIDTH + LEFT) / 2 && plan.tops[0] < plan.tops[1]);
    }

    #[test]
    fn a_hundred_layers_still_fit_and_none_do_no_harm() {
        let many = Plan::of(&[panel("many", 125, 2.0)]);
        assert!(many.height < 800 && many.row >= ROW_MIN);
        let nothing = Panel {
            name: "nothing".into(),
            timeline: Timeline::default(),
        };
        assert!(timeline_svg("", &[nothing]).is_ok());
    }
}
