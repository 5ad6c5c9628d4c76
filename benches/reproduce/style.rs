//! One look for all plots: the colours of Okabe and Ito, which the colour-blind can tell apart, and shapes besides.

use crate::support::Outcome;
use crate::support::registry::{HARNESS, MALLOC, MATRIX, PROCESSES, STRICT, TALC, TALC_MUTEX};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const OKABE_ITO: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(150, 140, 20), // The yellow, darker: on white it cannot be read.
    RGBColor(0, 0, 0),
];
const GREY: RGBColor = RGBColor(110, 110, 110);
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// A colour and a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) colour: RGBColor,
    pub(crate) shape: u8,
}

/// The same for a peer in every plot; others by their place.
pub(crate) fn mark(name: &str, place: usize) -> Mark {
    let (colour, shape) = match name {
        MATRIX => (OKABE_ITO[0], 0),
        PROCESSES => (OKABE_ITO[1], 1),
        STRICT => (OKABE_ITO[5], 2),
        TALC => (OKABE_ITO[2], 3),
        TALC_MUTEX => (OKABE_ITO[6], 3),
        MALLOC => (OKABE_ITO[3], 4),
        HARNESS => (GREY, 5),
        _ => (OKABE_ITO[place % 8], (place % 6) as u8),
    };
    Mark { colour, shape }
}

pub(crate) fn font(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().into()
}

fn text(area: &Area<'_>, words: &str, at: (i32, i32), style: &TextStyle<'_>) -> Outcome<()> {
    area.draw(&Text::new(words.to_owned(), at, style.clone()))?;
    Ok(())
}

/// Makes a plot: title, what it means, where it comes from; `draw` has the rest.
pub(crate) fn figure(
    path: &Path,
    size: (u32, u32),
    title: &str,
    subtitle: &str,
    origin: &str,
    draw: impl FnOnce(&Area<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    text(&root, title, (16, 10), &font(20))?;
    text(&root, subtitle, (16, 38), &font(13).color(&GREY))?;
    text(&root, origin, (16, size.1 as i32 - 20), &font(11).color(&GREY))?;
    draw(&root.margin(60, 28, 8, 12))?;
    root.present()?;
    Ok(())
}

/// A marker, by shape.
pub(crate) fn marker(area: &Area<'_>, (x, y): (i32, i32), mark: Mark) -> Outcome<()> {
    let Mark { colour, shape } = mark;
    let r = 4;
    match shape {
        0 => area.draw(&Circle::new((x, y), r, colour.filled()))?,
        1 => area.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], colour.filled()))?,
        2 => area.draw(&TriangleMarker::new((x, y), r + 2, colour.filled()))?,
        3 => {
            area.draw(&Polygon::new([(x, y - r - 2), (x + r + 2, y), (x, y + r + 2), (x - r - 2, y)], colour.filled()))?
        }
        4 => area.draw(&Cross::new((x, y), r, colour.stroke_width(2)))?,
        _ => area.draw(&Circle::new((x, y), r, colour.stroke_width(2)))?,
    }
    Ok(())
}

/// Names with their marks, one below the other, at the area's upper left corner.
pub(crate) fn legend(area: &Area<'_>, names: &[(String, Mark)]) -> Outcome<()> {
    for (row, (name, mark)) in names.iter().enumerate() {
        let y = 14 + 20 * row as i32;
        area.draw(&PathElement::new([(4, y), (28, y)], mark.colour.stroke_width(2)))?;
        marker(area, (16, y), *mark)?;
        let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
        text(area, name, (36, y), &style)?;
    }
    Ok(())
}

/// How a value is written at an axis.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 1e6 => format!("{}M", trim(value / 1e6)),
        v if v >= 1e4 => format!("{}k", trim(value / 1e3)),
        v if v < 1e-3 => format!("{value:.0e}"),
        _ => trim(value),
    }
}

fn trim(value: f64) -> String {
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A linear or logarithmic scale from pixels to values, with its ticks.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    log: bool,
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// Powers of ten (with 2 and 5, if there are few) around the values.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = bounds(values.into_iter().filter(|value| *value > 0.0));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low / 1.3, high * 1.3) };
        let within = |steps: &[f64]| -> Vec<f64> {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            all.filter(|value| (low..=high).contains(value)).collect()
        };
        let mut ticks = within(&[1.0]);
        if ticks.len() < 4 {
            ticks = within(&[1.0, 2.0, 5.0]);
        }
        while ticks.len() > 8 {
            ticks = ticks.into_iter().step_by(2).collect();
        }
        Self { low, high, log: true, ticks: ticks.into_iter().map(|value| (value, short(value))).collect() }
    }
    /// Given places, evenly apart in the logarithm.
    pub(crate) fn places(values: &[f64]) -> Self {
        let (low, high) = bounds(values.iter().copied());
        let ticks = values.iter().map(|&value| (value, short(value))).collect();
        Self { low: low / 1.2, high: high * 1.2, log: true, ticks }
    }
    /// Names at 0, 1, 2 and so on.
    pub(crate) fn names(names: &[String]) -> Self {
        let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, name.clone())).collect();
        Self { low: -0.4, high: names.len() as f64 - 0.6, log: false, ticks }
    }
    /// From 0 (or the least) to somewhat above the most.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = bounds(values);
        let low = low.min(0.0);
        let high = if high > low { high + 0.06 * (high - low) } else { low + 1.0 };
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|&step| step >= rough).unwrap_or(rough);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        let ticks = (first..=last).map(|n| (n as f64 * step, short(n as f64 * step))).collect();
        Self { low, high, log: false, ticks }
    }
    /// Where a value is between the two ends, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let part = match self.log {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        part.clamp(0.0, 1.0)
    }
}

fn bounds(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// Axes in an area, and the way from values to pixels.
pub(crate) struct Panel<'a, 'b> {
    pub(crate) area: &'a Area<'b>,
    x: Scale,
    y: Scale,
    inner: [i32; 4],
}

/// What is written at a panel.
pub(crate) struct Words<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Pixels for what stands left of the axis.
    pub(crate) left: i32,
}

impl<'a, 'b> Panel<'a, 'b> {
    pub(crate) fn new(area: &'a Area<'b>, words: &Words<'_>, x: Scale, y: Scale) -> Outcome<Self> {
        let (width, height) = area.dim_in_pixel();
        let top = if words.y.is_empty() { 24 } else { 42 };
        let inner = [words.left, top, width as i32 - 12, height as i32 - 44];
        let panel = Self { area, x, y, inner };
        let [left, top, right, bottom] = inner;
        let middle = |h, v| font(12).pos(Pos::new(h, v));
        if !words.title.is_empty() {
            text(area, words.title, (4, 4), &font(14))?;
        }
        for (value, name) in &panel.x.ticks {
            let x = panel.at(*value, f64::NAN).0;
            area.draw(&PathElement::new([(x, top), (x, bottom)], RGBColor(230, 230, 230)))?;
            text(area, name, (x, bottom + 6), &middle(HPos::Center, VPos::Top))?;
        }
        for (value, name) in &panel.y.ticks {
            let y = panel.at(f64::NAN, *value).1;
            area.draw(&PathElement::new([(left, y), (right, y)], RGBColor(230, 230, 230)))?;
            text(area, name, (left - 6, y), &middle(HPos::Right, VPos::Center))?;
        }
        area.draw(&Rectangle::new([(left, top), (right, bottom)], RGBColor(120, 120, 120).stroke_width(1)))?;
        let (x, y) = ((left + right) / 2, bottom + 26);
        text(area, words.x, (x, y), &middle(HPos::Center, VPos::Top).color(&GREY))?;
        if !words.y.is_empty() {
            // Above the axis, where it can be read without turning one's head.
            text(area, words.y, (4, 24), &font(12).color(&GREY))?;
        }
        Ok(panel)
    }
    /// The pixel of a value.
    pub(crate) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let [left, top, right, bottom] = self.inner;
        let across = if x.is_nan() { 0.0 } else { self.x.part(x) };
        let up = if y.is_nan() { 0.0 } else { self.y.part(y) };
        let x = left as f64 + across * (right - left) as f64;
        (x.round() as i32, (bottom as f64 - up * (bottom - top) as f64).round() as i32)
    }
    pub(crate) fn line(&self, points: &[(f64, f64)], mark: Mark, dashed: bool) -> Outcome<()> {
        let pixels: Vec<_> = points.iter().map(|&(x, y)| self.at(x, y)).collect();
        let style = mark.colour.stroke_width(2);
        if dashed {
            self.area.draw(&plotters::element::DashedPathElement::new(pixels, 5, 4, style))?;
        } else {
            self.area.draw(&PathElement::new(pixels, style))?;
        }
        Ok(())
    }
    pub(crate) fn markers(&self, points: &[(f64, f64)], mark: Mark) -> Outcome<()> {
        points.iter().try_for_each(|&(x, y)| marker(self.area, self.at(x, y), mark))
    }
    /// A thin line from one value to another.
    pub(crate) fn span(&self, from: (f64, f64), to: (f64, f64), mark: Mark) -> Outcome<()> {
        let pixels = [self.at(from.0, from.1), self.at(to.0, to.1)];
        self.area.draw(&PathElement::new(pixels, mark.colour.stroke_width(1)))?;
        Ok(())
    }
    /// A word right of the line from one value to another, or left of it if there is no room.
    pub(crate) fn note(&self, (from, to): (f64, f64), y: f64, words: &str) -> Outcome<()> {
        let ((left, y), (right, _)) = (self.at(from, y), self.at(to, y));
        let room = self.inner[2] - right > 12 + 7 * words.chars().count() as i32;
        let (x, side) = if room { (right + 9, HPos::Left) } else { (left - 9, HPos::Right) };
        text(self.area, words, (x, y), &font(11).pos(Pos::new(side, VPos::Center)).color(&GREY))
    }
}
