//! The picture of unpacking: a panel for each layer and file system, a bar for each contender.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::PlotError;
use super::plot::{GREY, GRID, INK, nice_step, text};
use crate::unpack::{Line, UnpackResult};

/// Draws MB/s of each contender as bars, longer is better.
///
/// The same result gives the same bytes.
///
/// # Errors
/// When the drawing library fails.
pub fn unpack_svg(result: &UnpackResult) -> Result<String, PlotError> {
    let panels = panels(result);
    let rows: usize = panels.iter().map(|(_, lines)| lines.len()).sum();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX / PANEL);
    let height = TOP + count(panels.len()) * PANEL + count(rows) * ROW + BOTTOM;
    let mut svg = String::new();
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area, result, &panels, height).map_err(|error| PlotError(error.to_string()))?;
        area.present()
            .map_err(|error| PlotError(error.to_string()))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
type Panel<'a> = (String, Vec<&'a Line>);

fn panels(result: &UnpackResult) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for line in &result.lines {
        let title = format!("{} onto {}", line.layer, line.filesystem);
        match panels.iter_mut().find(|(known, _)| *known == title) {
            Some((_, lines)) => lines.push(line),
            None => panels.push((title, vec![line])),
        }
    }
    panels
}

fn draw(area: &Area<'_>, result: &UnpackResult, panels: &[Panel<'_>], height: i32) -> Drawn {
    area.fill(&WHITE)?;
    text(area, "Unpacking layers", (MARGIN, 30), 24, INK, HPos::Left)?;
    let machine = &result.machine;
    let about = format!(
        "MB/s of the quickest run, longer is better · {} cores, load {:.1} · {} build",
        machine.cores, machine.load, result.build
    );
    text(area, &about, (MARGIN, 58), 14, GREY, HPos::Left)?;
    let rate = |line: &Line| line.bytes_per_second / 1e6;
    let lines = panels.iter().flat_map(|(_, lines)| lines);
    let largest = lines.map(|line| rate(line)).fold(1.0, f64::max);
    let step = nice_step(largest / 6.0);
    let end = (largest / step).ceil() * step;
    let x = |rate: f64| LEFT + (rate / end * f64::from(WIDTH - LEFT - RIGHT)).round() as i32;
    let mut tick = 0.0;
    while tick <= end {
        let line = vec![(x(tick), TOP - 6), (x(tick), height - BOTTOM)];
        area.draw(&PathElement::new(line, GRID.stroke_width(1)))?;
        let label = format!("{tick:.0}");
        text(
            area,
            &label,
            (x(tick), height - BOTTOM + 14),
            13,
            GREY,
            HPos::Center,
        )?;
        tick += step;
    }
    let mut y = TOP;
    for (title, lines) in panels {
        text(area, title, (LEFT, y + PANEL / 2), 15, INK, HPos::Left)?;
        y += PANEL;
        for line in lines {
            let middle = y + ROW / 2;
            let corners = [(LEFT, y + 2), (x(rate(line)), y + ROW - 2)];
            area.draw(&Rectangle::new(corners, colour(&line.contender).filled()))?;
            text(
                area,
                &line.contender,
                (LEFT - 10, middle),
                13,
                INK,
                HPos::Right,
            )?;
            let label = format!("{:.0}", rate(line));
            text(
                area,
                &label,
                (x(rate(line)) + 6, middle),
                13,
                INK,
                HPos::Left,
            )?;
            y += ROW;
        }
    }
    Ok(())
}

/// Blue for ours, orange for who verifies, grey for who does not.
fn colour(contender: &str) -> RGBColor {
    match contender {
        name if name.starts_with("parapull") => RGBColor(38, 110, 190),
        name if name.starts_with("tar") => RGBColor(140, 150, 160),
        _ => RGBColor(225, 140, 50),
    }
}

const WIDTH: i32 = 960;
const MARGIN: i32 = 24;
const LEFT: i32 = 190;
const RIGHT: i32 = 70;
const TOP: i32 = 92;
const PANEL: i32 = 34;
const ROW: i32 = 20;
const BOTTOM: i32 = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_names_everybody() {
        let result = crate::unpack::tests::result();
        let svg = unpack_svg(&result).unwrap();
        for needle in ["mixed.go onto tmpfs", "parapull:2", "umoci", "300"] {
            assert!(svg.contains(needle), "{needle}");
        }
        assert_eq!(svg, unpack_svg(&result).unwrap());
    }
}
