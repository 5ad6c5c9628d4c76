//! `map`: a picture of the sector.

use crate::args::{Map, State};
use crate::look::{self, Sight};
use crate::{FAILED, FINE, Failure, Outcome, text};
use atomic_matrix::handlers::BlockInfo;
use atomic_matrix::ipc::ReadOnly;
use serde_json::{Value, json};
use std::fmt::Write;

/// Columns before the picture: position and frame.
const MARGIN: usize = 12;
/// An SVG picture shows each block, up to so many; above, cells.
const EXACT: u64 = 4000;
/// Measures of the SVG picture, in its units.
const LEFT: f64 = 90.0;
const TOP: f64 = 84.0;
const COLUMNS: usize = 1000;
const ROW: f64 = 22.0;
const GAP: f64 = 5.0;

/// Okabe and Ito's colours, which the colour-blind tell apart as well; the terminal's nearest, and a glyph of
/// its own for each, so that no colour is needed.
const fn fill(state: State) -> &'static str {
    match state {
        State::Live => "#0072B2",
        State::Parked => "url(#parked)",
        State::InFlight => "url(#in-flight)",
        State::Free => "#EDEDED",
    }
}

/// What a cell looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Mostly(State),
    /// So many eighths are live, 1 to 7.
    Partly(u8),
}

impl Look {
    /// For the legends.
    const ALL: [Self; 5] = [
        Self::Mostly(State::Live),
        Self::Partly(4),
        Self::Mostly(State::Parked),
        Self::Mostly(State::InFlight),
        Self::Mostly(State::Free),
    ];

    const fn glyph(self) -> char {
        match self {
            Self::Mostly(State::Live) => '█',
            Self::Partly(eighths) => ['▁', '▁', '▂', '▃', '▄', '▅', '▆', '▇'][eighths as usize & 7],
            Self::Mostly(State::Parked) => '▒',
            Self::Mostly(State::InFlight) => '╳',
            Self::Mostly(State::Free) => '·',
        }
    }
    /// Two of it; of what varies, two examples.
    fn sample(self) -> String {
        match self {
            Self::Partly(_) => "▂▆".to_owned(),
            other => other.glyph().to_string().repeat(2),
        }
    }
    const fn colour(self) -> u8 {
        match self {
            Self::Mostly(State::Live) | Self::Partly(_) => 32,
            Self::Mostly(State::Parked) => 214,
            Self::Mostly(State::InFlight) => 166,
            Self::Mostly(State::Free) => 244,
        }
    }
    const fn name(self) -> &'static str {
        match self {
            Self::Mostly(state) => state.name(),
            Self::Partly(_) => "partly live",
        }
    }
    /// How dense the colour is laid on.
    fn opacity(self) -> f64 {
        match self {
            Self::Mostly(_) => 1.0,
            Self::Partly(eighths) => 0.1 + f64::from(eighths) / 10.0,
        }
    }
    const fn fill(self) -> &'static str {
        match self {
            Self::Mostly(state) => fill(state),
            Self::Partly(_) => fill(State::Live),
        }
    }
}

/// Bytes by state in each of equal parts of the sector.
struct Cells {
    parts: Vec<[u64; 4]>,
    sector: u64,
}

impl Cells {
    fn of(looker: &ReadOnly, wanted: usize) -> Result<Self, Failure> {
        let info = looker.info();
        let sector = info.sector_bytes;
        let count = wanted.clamp(1, (sector / info.granule_bytes) as usize);
        let filled = look::fold(looker, |parts: &mut Vec<[u64; 4]>, block| {
            parts.resize(count, [0; 4]);
            let end = (block.position + block.bytes).min(sector);
            let mut at = block.position;
            while at < end {
                let cell = (at as u128 * count as u128 / sector as u128) as usize;
                // The first byte of the next cell.
                let next = ((cell as u128 + 1) * sector as u128).div_ceil(count as u128) as u64;
                let next = next.min(end);
                parts[cell][State::of(block.state) as usize] += next - at;
                at = next;
            }
        })?;
        Ok(Self { parts: filled, sector })
    }

    fn look(&self, cell: usize) -> Look {
        let parts = self.parts[cell];
        let (all, live) = (parts.iter().sum::<u64>(), parts[State::Live as usize]);
        let most = State::ALL.into_iter().max_by_key(|state| parts[*state as usize]).unwrap_or(State::Free);
        match most {
            State::Parked | State::InFlight => Look::Mostly(most),
            // Rounded up: what is live at all is seen; and all of it only if nothing else is there.
            _ => match (live as u128 * 8).div_ceil(all.max(1) as u128) as u8 {
                0 => Look::Mostly(State::Free),
                8 if live == all => Look::Mostly(State::Live),
                eighths => Look::Partly(eighths.min(7)),
            },
        }
    }

    fn position(&self, cell: usize) -> u64 {
        (cell as u128 * self.sector as u128 / self.parts.len().max(1) as u128) as u64
    }
}

pub(crate) fn map(asked: &Map) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    if let Some(file) = &asked.svg {
        let drawing = svg(&looker, usize::from(asked.rows))?;
        if file.as_os_str() == "-" {
            return Ok((drawing, FINE));
        }
        let failed = |e| Failure::new(FAILED, format!("could not write {}: {e}", file.display()));
        std::fs::write(file, drawing).map_err(failed)?;
        return Ok((format!("wrote {}\n", file.display()), FINE));
    }
    let width = text::width(asked.width);
    if asked.one.json {
        let cells = Cells::of(&looker, columns(width) * usize::from(asked.rows))?;
        let rows: Vec<Value> = (0..cells.parts.len())
            .map(|cell| {
                let [live, free, parked, in_flight] = cells.parts[cell];
                let position = cells.position(cell);
                json!({ "position": position, "live": live, "free": free, "parked": parked, "in_flight": in_flight })
            })
            .collect();
        let more = json!({ "sector_bytes": cells.sector, "cells": rows });
        return Ok((text::json(&look::merged(look::identity(&found, &looker), more)), FINE));
    }
    let title = format!("sector of segment {}\n", looker.id());
    Ok((title + &picture(&looker, width, usize::from(asked.rows))?, FINE))
}

fn columns(width: usize) -> usize {
    width.saturating_sub(MARGIN + 1).max(4)
}

/// The picture in the terminal, with its legend.
pub(crate) fn picture(looker: &ReadOnly, width: usize, rows: usize) -> Result<String, Failure> {
    let columns = columns(width);
    let cells = Cells::of(looker, columns * rows)?;
    let colours = text::coloured();
    let paint = |look: Look, text: &str| match colours {
        true => format!("\x1b[38;5;{}m{text}\x1b[0m", look.colour()),
        false => text.to_owned(),
    };
    let mut out = String::new();
    for first in (0..cells.parts.len()).step_by(columns) {
        let last = (first + columns).min(cells.parts.len());
        let _ = write!(out, "{:>10} │", text::bytes(cells.position(first)));
        let mut at = first;
        while at < last {
            let look = cells.look(at);
            let run = (at..last).take_while(|cell| cells.look(*cell) == look).count();
            out += &paint(look, &look.glyph().to_string().repeat(run));
            at += run;
        }
        out += &" ".repeat(columns - (last - first));
        out += "│\n";
    }
    let stats = look::stats(looker)?;
    let cell = cells.sector.div_ceil(cells.parts.len().max(1) as u64);
    let _ = writeln!(out, "a cell is {}:", text::bytes(cell));
    for look in Look::ALL {
        let amount = match look {
            Look::Mostly(state) => {
                let amount = look::amount(&stats, state);
                format!(
                    "  {:>8}  {}",
                    text::percent(amount.bytes, stats.sector_bytes),
                    text::count(amount.blocks, "block")
                )
            }
            Look::Partly(_) => "  as high as its share".to_owned(),
        };
        let line = format!("{:<16}{amount}", look.name());
        let _ = writeln!(out, "  {} {}", paint(look, &look.sample()), line.trim_end());
    }
    Ok(out)
}

/// A rectangle: from and to as parts of so many that make up the sector.
struct Piece {
    from: u64,
    to: u64,
    of: u64,
    fill: &'static str,
    opacity: f64,
    title: Option<String>,
}

fn svg(looker: &ReadOnly, rows: usize) -> Result<String, Failure> {
    let sight = Sight::of(looker)?;
    let stats = &sight.stats;
    let blocks = look::blocks(stats);
    let exact = blocks <= EXACT;
    let pieces = if exact { each_block(looker, stats.sector_bytes)? } else { each_run(looker, rows)? };

    let bottom = TOP + rows as f64 * (ROW + GAP);
    let (width, height) = (LEFT + COLUMNS as f64 + 30.0, bottom + 92.0);
    let id = looker.id();
    let (alive, dead) = look::alive_and_dead(&sight.participants);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
        height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title desc\" font-family=\"sans-serif\" font-size=\"14\" fill=\"#222222\">\n\
         <title id=\"title\">Sector of segment {id}</title>\n\
         <desc id=\"desc\">Which parts of the sector are live, parked, in flight and free, in the order of \
             addresses, row by row.</desc>\n\
         <defs>\n\
         <pattern id=\"parked\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\">\
         <rect width=\"6\" height=\"6\" fill=\"#E69F00\"/><rect width=\"2\" height=\"6\" fill=\"#FFD98A\"/></pattern>\n\
         <pattern id=\"in-flight\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
         <rect width=\"6\" height=\"6\" fill=\"#D55E00\"/><path d=\"M0 0L6 6M6 0L0 6\" stroke=\"#5A2700\"/></pattern>\n\
         </defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n\
         <text x=\"{LEFT}\" y=\"34\" font-size=\"20\" font-weight=\"bold\">Sector of segment {id}</text>\n\
         <text x=\"{LEFT}\" y=\"60\">{} in {}; fragmentation {:.4}, entropy {:.2} bits; {} alive, {dead} dead</text>\n",
        text::bytes(stats.sector_bytes),
        text::count(blocks, "block"),
        stats.fragmentation,
        stats.entropy_bits,
        text::count(alive, "participant"),
    );
    for row in 0..rows {
        let y = TOP + row as f64 * (ROW + GAP);
        let position = (row as u128 * stats.sector_bytes as u128 / rows as u128) as u64;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"12\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{COLUMNS}\" height=\"{ROW}\" fill=\"{}\" stroke=\"#BBBBBB\" \
                 stroke-width=\"0.5\"/>",
            LEFT - 8.0,
            y + ROW * 0.7,
            text::bytes(position),
            fill(State::Free),
        );
    }
    for piece in &pieces {
        rectangles(&mut out, piece, rows);
    }
    legend(&mut out, &sight, exact, bottom + 14.0);
    let caption = if exact {
        format!(
            "A row is {}; every block is drawn, addresses grow to the right and down.",
            per(stats.sector_bytes, rows)
        )
    } else {
        let cell = per(stats.sector_bytes, rows * COLUMNS);
        let row = per(stats.sector_bytes, rows);
        format!("A row is {row}, drawn in cells of {cell}; addresses grow to the right and down.")
    };
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\" font-size=\"12\">{caption}</text>\n</svg>", bottom + 76.0);
    Ok(out)
}

/// What the fills stand for, and how much of each there is.
fn legend(out: &mut String, sight: &Sight, exact: bool, y: f64) {
    let mut x = LEFT;
    for look in Look::ALL.into_iter().filter(|look| !exact || !matches!(look, Look::Partly(_))) {
        let note = match look {
            Look::Mostly(state) => {
                let amount = sight.amount(state);
                let of =
                    text::percent(amount.bytes, sight.stats.sector_bytes).replace('<', "&lt;").replace('>', "&gt;");
                format!("{}, {of}", text::count(amount.blocks, "block"))
            }
            Look::Partly(_) => "as dense as its share".to_owned(),
        };
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"26\" height=\"18\" fill=\"{}\" fill-opacity=\"{:.1}\" \
            stroke=\"#888888\" stroke-width=\"0.5\"/>\
             <text x=\"{}\" y=\"{}\">{}</text><text x=\"{}\" y=\"{}\" font-size=\"12\">{note}</text>",
            look.fill(),
            look.opacity(),
            x + 34.0,
            y + 14.0,
            look.name(),
            x + 34.0,
            y + 32.0,
        );
        x += if exact { 250.0 } else { 200.0 };
    }
}

fn per(bytes: u64, parts: usize) -> String {
    text::bytes(bytes.div_ceil(parts as u64))
}

/// Every block that isn't free.
fn each_block(looker: &ReadOnly, sector: u64) -> Result<Vec<Piece>, Failure> {
    look::fold(looker, |pieces: &mut Vec<Piece>, block: BlockInfo| {
        let state = State::of(block.state);
        if state == State::Free {
            return;
        }
        let title =
            format!("{} at offset {}: {}, owner {}", text::bytes(block.bytes), block.offset, state.name(), block.owner);
        pieces.push(Piece {
            from: block.position,
            to: (block.position + block.bytes).min(sector),
            of: sector,
            fill: fill(state),
            opacity: 1.0,
            title: Some(title),
        });
    })
}

/// Runs of cells that look the same.
fn each_run(looker: &ReadOnly, rows: usize) -> Result<Vec<Piece>, Failure> {
    let cells = Cells::of(looker, rows * COLUMNS)?;
    let count = cells.parts.len();
    let (mut at, mut pieces) = (0, vec![]);
    while at < count {
        let look = cells.look(at);
        let run = (at..count).take_while(|cell| cells.look(*cell) == look).count();
        if look != Look::Mostly(State::Free) {
            pieces.push(Piece {
                from: at as u64,
                to: (at + run) as u64,
                of: count as u64,
                fill: look.fill(),
                opacity: look.opacity(),
                title: None,
            });
        }
        at += run;
    }
    Ok(pieces)
}

/// A piece, cut at the ends of rows.
fn rectangles(out: &mut String, piece: &Piece, rows: usize) {
    // A row is so long, and the rows lie one behind the other.
    let long = u128::from(piece.of);
    let (from, to) = (u128::from(piece.from) * rows as u128, u128::from(piece.to) * rows as u128);
    for row in from / long..to.div_ceil(long) {
        let place = |at: u128| (at - row * long) as f64 / long as f64 * COLUMNS as f64;
        let (left, right) = (place(from.max(row * long)), place(to.min((row + 1) * long)));
        // Blocks side by side are told apart where there is room; the smallest are still seen.
        let room = right - left;
        let seam = if piece.title.is_some() && room > 3.0 { 0.6 } else { 0.0 };
        let (x, y, wide) = (LEFT + left, TOP + row as f64 * (ROW + GAP), (room - seam).max(0.7));
        let _ =
            write!(out, "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{wide:.2}\" height=\"{ROW}\" fill=\"{}\"", piece.fill);
        if piece.opacity < 1.0 {
            let _ = write!(out, " fill-opacity=\"{:.1}\"", piece.opacity);
        }
        let _ = match &piece.title {
            Some(title) => writeln!(out, "><title>{title}</title></rect>"),
            None => writeln!(out, "/>"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_looks_like_most_of_it_and_full_only_where_nothing_else_is() {
        // Live, free, parked, in flight: in the order of State.
        let parts = vec![[0, 8, 0, 0], [1, 99, 0, 0], [4, 4, 0, 0], [99, 1, 0, 0], [8, 0, 0, 0]];
        let more = [[3, 0, 5, 0], [3, 0, 0, 5], [0, 0, 0, 0], [7, 1, 0, 0]];
        let cells = Cells { parts: [parts, more.to_vec()].concat(), sector: 90 };
        let drawn: String = (0..9).map(|cell| cells.look(cell).glyph()).collect();
        assert_eq!(drawn, "·▁▄▇█▒╳·▇");
        assert_eq!((cells.look(3), cells.look(4)), (Look::Partly(7), Look::Mostly(State::Live)));
        assert_eq!((cells.position(0), cells.position(4)), (0, 40));
    }

    fn drawn(from: u64, to: u64, opacity: f64, title: Option<&str>) -> String {
        let mut out = String::new();
        let piece = Piece { from, to, of: 2000, fill: "red", opacity, title: title.map(str::to_owned) };
        rectangles(&mut out, &piece, 2);
        out
    }

    #[test]
    fn a_piece_is_cut_at_the_ends_of_rows_and_nowhere_else() {
        let plain = |x: &str, y: &str, width: &str| {
            format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"22\" fill=\"red\"/>\n")
        };
        assert_eq!(drawn(0, 1000, 1.0, None), plain("90.00", "84.0", "1000.00"));
        assert_eq!(drawn(1000, 2000, 1.0, None), plain("90.00", "111.0", "1000.00"));
        let cut = plain("1080.00", "84.0", "10.00") + &plain("90.00", "111.0", "25.00");
        assert_eq!(drawn(990, 1025, 1.0, None), cut);
    }

    #[test]
    fn blocks_are_told_apart_where_there_is_room() {
        let titled = |width: &str| {
            format!(
                "<rect x=\"90.00\" y=\"84.0\" width=\"{width}\" height=\"22\" fill=\"red\"><title>b</title></rect>\n"
            )
        };
        let widths = [(1, "1.00"), (3, "3.00"), (4, "3.40")];
        widths.iter().for_each(|(to, width)| assert_eq!(drawn(0, *to, 1.0, Some("b")), titled(width)));
        let dense = drawn(0, 4, 0.5, None);
        assert!(dense.contains(" width=\"4.00\"") && dense.ends_with(" fill-opacity=\"0.5\"/>\n"), "{dense}");
    }
}
