//! The plots of bounded work: panels with the same vertical axis, one for each thing that grows.

use super::Cell;
use super::asked::{MIXED, Took};
use plotters::coord::Shift;
use plotters::prelude::*;

/// The operations drawn, in colours of Okabe and Ito's palette, which the colour-blind tell apart, and with
/// marks of their own.
const SERIES: [(&str, RGBColor, char); 6] = [
    ("allocate, strict", RGBColor(0, 114, 178), '●'),
    ("free, strict", RGBColor(213, 94, 0), '▲'),
    ("allocate, large", RGBColor(0, 158, 115), '■'),
    ("free, large", RGBColor(204, 121, 167), '◆'),
    ("allocate, parked", RGBColor(0, 0, 0), '✕'),
    ("free, parked", RGBColor(150, 100, 0), '+'),
];

type Area = DrawingArea<SVGBackend<'static>, Shift>;
type Point = (f64, f64);

/// Bytes in binary units.
fn bytes(log2: f64) -> String {
    let log2 = log2.round() as u32;
    if log2 >= 30 { format!("{} GiB", 1u64 << (log2 - 30)) } else { format!("{} MiB", 1u64 << (log2 - 20)) }
}

fn count(log10: f64) -> String {
    match log10.round() as u32 {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        2 => "100".to_owned(),
        3 => "1 000".to_owned(),
        4 => "10 000".to_owned(),
        5 => "100 000".to_owned(),
        _ => "1 000 000".to_owned(),
    }
}

/// What one panel shows.
struct Panel<'a> {
    title: String,
    axis: &'a str,
    range: std::ops::Range<f64>,
    labels: usize,
    label: fn(f64) -> String,
    vertical: &'a str,
    top: f64,
    /// What the vertical axis says of its values.
    value: fn(f64) -> String,
    legend: bool,
}

/// A line, its colour and its mark.
struct Series {
    name: &'static str,
    colour: RGBColor,
    mark: char,
    points: Vec<Point>,
}

fn panel(area: &Area, series: Vec<Series>, panel: &Panel<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let font = ("sans-serif", 15).into_font();
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 18))
        .margin(12)
        .margin_right(32)
        .x_label_area_size(46)
        .y_label_area_size(62)
        .build_cartesian_2d(panel.range.clone(), 0.0..panel.top)?;
    chart
        .configure_mesh()
        .x_desc(panel.axis)
        .y_desc(panel.vertical)
        .x_labels(panel.labels)
        .x_label_formatter(&|x| (panel.label)(*x))
        .y_label_formatter(&|y| (panel.value)(*y))
        .label_style(font.clone())
        .axis_desc_style(("sans-serif", 16))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    for Series { name, colour, mark, points } in series {
        let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        line.label(name).legend(move |(x, y)| {
            EmptyElement::at((x, y))
                + PathElement::new([(0, 0), (24, 0)], colour.stroke_width(2))
                + sign(12, 0, mark, colour)
        });
        chart.draw_series(points.iter().map(|&point| EmptyElement::at(point) + sign(0, 0, mark, colour)))?;
    }
    if panel.legend {
        let labels = &mut chart.configure_series_labels();
        let labels = labels.position(SeriesLabelPosition::UpperLeft).label_font(font).legend_area_size(32);
        labels.background_style(WHITE).border_style(BLACK.mix(0.3)).draw()?;
    }
    Ok(())
}

/// A mark, as an outline around a position.
fn sign<'a, DB: DrawingBackend + 'a>(x: i32, y: i32, mark: char, colour: RGBColor) -> DynElement<'a, DB, (i32, i32)> {
    let filled = colour.filled();
    match mark {
        '●' => Circle::new((x, y), 5, filled).into_dyn(),
        '▲' => TriangleMarker::new((x, y), 6, filled).into_dyn(),
        '■' => Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], filled).into_dyn(),
        '◆' => Polygon::new([(x - 6, y), (x, y - 6), (x + 6, y), (x, y + 6)], filled).into_dyn(),
        '✕' => Cross::new((x, y), 5, colour.stroke_width(2)).into_dyn(),
        _ => PathElement::new([(x - 6, y), (x + 6, y), (x, y), (x, y - 6), (x, y + 6)], colour.stroke_width(2))
            .into_dyn(),
    }
}

/// The mean of each operation, for the cells that have a place on the horizontal axis.
fn means(cells: &[Cell], at: &dyn Fn(&Cell) -> Option<f64>) -> Vec<Series> {
    let of = |(name, colour, mark)| {
        let of_operation = cells.iter().filter(|cell| cell.operation == name);
        let points = of_operation.filter_map(|cell| Some((at(cell)?, cell.mean()))).collect();
        Series { name, colour, mark, points }
    };
    SERIES.map(of).into()
}

/// Draws all cells into an SVG file.
pub(crate) fn draw(cells: &[Cell], path: &'static str) {
    let root = SVGBackend::new(path, (1180, 520)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(590);
        const FEW: usize = 1000;
        let largest = cells.iter().map(|cell| cell.segment).max().unwrap_or(1);
        let over_size = |cell: &Cell| (cell.blocks == FEW).then(|| (cell.segment as f64).log2());
        let over_blocks = |cell: &Cell| (cell.segment == largest).then(|| (cell.blocks as f64).log10());
        let top = cells.iter().map(Cell::mean).fold(0.0, f64::max).max(10.0) * 1.35;
        let vertical = "shared accesses per operation (mean)";
        let value = |y: f64| format!("{y:.0}");
        // The bitmaps get one more level there.
        let title = format!("{} blocks and as many holes (steps: one more level)", count((FEW as f64).log10()));
        let size = Panel {
            title,
            axis: "bytes of the segment",
            range: 22.0..34.2,
            labels: 7,
            label: bytes,
            vertical,
            top,
            value,
            legend: true,
        };
        panel(&left, means(cells, &over_size), &size)?;
        let title = format!("a segment of {}, 64-byte granules", bytes((largest as f64).log2()));
        let blocks = Panel {
            title,
            axis: "live blocks, with as many holes between them",
            range: 0.0..6.2,
            labels: 7,
            label: count,
            vertical,
            top,
            value,
            legend: false,
        };
        panel(&right, means(cells, &over_blocks), &blocks)?;
        Ok(root.present()?)
    };
    draw().unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn power(log2: f64) -> String {
    let log2 = log2.round() as u32;
    match log2 {
        20.. => format!("{} MiB", 1_u64 << (log2 - 20)),
        10.. => format!("{} KiB", 1_u64 << (log2 - 10)),
        _ => format!("{} B", 1_u64 << log2),
    }
}

/// The rows of one panel: median and 99th percentile of a pair, parked and strict, on a scale of powers of ten.
fn pairs(rows: &[Took], at: &dyn Fn(&Took) -> Option<f64>) -> Vec<Series> {
    let kinds = [
        ("parked, median", RGBColor(0, 0, 0), '✕', false, 0.5),
        ("parked, 99 of 100", RGBColor(0, 114, 178), '●', false, 0.99),
        ("strict, median", RGBColor(150, 100, 0), '+', true, 0.5),
        ("strict, 99 of 100", RGBColor(213, 94, 0), '▲', true, 0.99),
    ];
    let of = |(name, colour, mark, strict, q)| {
        let of_mode = rows.iter().filter(|took| took.asked.strict == strict);
        let points = of_mode.filter_map(|took| Some((at(took)?, (took.quantile(q) as f64).log10()))).collect();
        Series { name, colour, mark, points }
    };
    kinds.map(of).into()
}

/// Draws what was asked for into an SVG file.
pub(crate) fn draw_asked(rows: &[Took], path: &'static str) {
    let root = SVGBackend::new(path, (1560, 520)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let areas = root.split_evenly((1, 3));
        let over = |row: &'static str, of: fn(&Took) -> f64| {
            move |took: &Took| (took.asked.over == row && (row != "fill" || took.asked.mix == MIXED)).then(|| of(took))
        };
        let sizes = over("size", |took| (took.asked.mix.least as f64).log2());
        let fills = over("fill", |took| took.asked.fill as f64);
        let alignments = over("alignment", |took| (took.asked.align as f64).log2());
        let percent = |percent: f64| format!("{percent:.0} %");
        let base = |title: &str, axis, range, label, legend| Panel {
            title: title.to_owned(),
            axis,
            range,
            labels: 9,
            label,
            vertical: "shared accesses, one freed and one allocated",
            top: 4.2,
            value: |log10| if log10.fract() == 0.0 { format!("{:.0}", 10_f64.powf(log10)) } else { String::new() },
            legend,
        };
        panel(&areas[0], pairs(rows, &sizes), &base("one size, 90 % of what fits", "bytes", 5.5..20.5, power, true))?;
        let axis = "live blocks, of those that fit";
        panel(&areas[1], pairs(rows, &fills), &base("64 bytes to 64 KiB", axis, 0.0..104.0, percent, false))?;
        let axis = "alignment";
        panel(&areas[2], pairs(rows, &alignments), &base("1500 bytes, 90 %", axis, 3.5..16.5, power, false))?;
        Ok(root.present()?)
    };
    draw().unwrap_or_else(|error| panic!("{path}: {error}"));
}
