//! Pictures and tables show what `--json` says, and lie where they should.

use crate::{Dir, MIB, Ran};
use atomic_matrix::handlers::Handler;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

/// Live blocks of these sizes, with free ones of the others between and behind them.
fn holes(handler: &Handler, sizes: impl Iterator<Item = (usize, usize)>) {
    let mut freed = vec![];
    for (live, free) in sizes {
        handler.allocate_raw(live).expect("room");
        freed.push(handler.allocate_raw(free).expect("room"));
    }
    handler.allocate_raw(64).expect("room");
    freed.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    handler.heal().expect("a slot");
}

#[test]
fn a_cell_lies_at_its_position_and_is_as_high_as_its_live_share() {
    const CELLS: u64 = 32;
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    let sector = handler.stats().expect("sound").sector_bytes;
    let cell = (sector / CELLS) as usize;
    holes(&handler, (1..8).map(|eighths| (cell * eighths / 8, cell)));
    let size = [&id, "--width", "29", "--rows", "2"];
    let seen = dir.json(&[&["map"], &size[..]].concat(), 0);
    let cells = seen["cells"].as_array().expect("a list");
    assert_eq!(cells.len() as u64, CELLS);
    let mut expected = String::new();
    for (number, cell) in cells.iter().enumerate() {
        let amount = |state: &str| cell[state].as_u64().expect("a number");
        assert_eq!(amount("position"), number as u64 * sector / CELLS, "cell {number}");
        let [live, free, parked, in_flight] = ["live", "free", "parked", "in_flight"].map(amount);
        assert_eq!((parked, in_flight), (0, 0), "all is merged");
        expected.push(match live {
            0 => '·',
            _ if free == 0 => '█',
            _ => ['▁', '▂', '▃', '▄', '▅', '▆', '▇'][((live * 8).div_ceil(live + free) - 1).min(6) as usize],
        });
    }
    let drawn = dir.matrix(&[&["map"], &size[..]].concat()).out;
    let rows: Vec<Vec<&str>> =
        drawn.lines().map(|line| line.split('│').collect()).filter(|row: &Vec<_>| row.len() == 3).collect();
    assert_eq!(rows.iter().map(|row| row[1]).collect::<String>(), expected, "{drawn}");
    assert!(rows[0][0].trim() == "0 B" && rows[1][0].trim() != "0 B", "{drawn}");
    let partly: std::collections::BTreeSet<char> = expected.chars().filter(|glyph| !"·█".contains(*glyph)).collect();
    assert!(partly.len() > 3, "different heights: {expected}");
}

#[test]
fn all_that_is_drawn_lies_in_the_picture() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    holes(&handler, (1..8).map(|k| (k * 5000, k * 3000)));
    let svg = dir.matrix(&["map", &handler.id().to_string(), "--svg", "-", "--rows", "7"]).out;
    let number = |tag: &str, name: &str| -> Option<f64> {
        let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()?.parse().ok()
    };
    let (width, height) = (number(&svg, "width").expect("a width"), number(&svg, "height").expect("a height"));
    let (mut rectangles, mut rows) = (0, 0);
    for tag in svg.split("<rect").skip(1).filter_map(|rest| rest.split('>').next()) {
        // Those without a place are patterns, and the ground.
        let (Some(x), Some(y)) = (number(tag, "x"), number(tag, "y")) else { continue };
        let (wide, high) = (number(tag, "width").expect("a width"), number(tag, "height").expect("a height"));
        assert!(x >= 0.0 && y >= 0.0 && x + wide <= width && y + high <= height, "{tag}");
        rectangles += 1;
        rows += usize::from(wide == 1000.0);
    }
    assert!(rows == 7 && rectangles > rows + 7, "{rows} rows, {rectangles} in all");
}

#[test]
fn the_histogram_has_every_free_block_and_hints_stand_where_they_are_due() {
    for (number, by) in [(5, "size class"), (24, "power of two")] {
        let dir = Dir::new();
        let handler = dir.segment(MIB);
        // Each of a class of its own, and none so small that several are cut at once.
        holes(&handler, (0..number).map(|k| (2000, ((8 + k % 8) << (4 + k / 8)) * 16)));
        let stats = handler.stats().expect("sound");
        let text = dir.matrix(&["stat", &handler.id().to_string(), "--width", "100"]).out;
        let (summary, rest) = text.split_once("free blocks by ").expect("a histogram");
        assert!(rest.starts_with(by), "{text}");
        let table = rest.split("\n\n").next().expect("its rows");
        let counted: u64 = table
            .lines()
            .skip(2)
            .map(|row| row.split_whitespace().nth(2).and_then(|blocks| blocks.parse::<u64>().ok()).expect("a number"))
            .sum();
        assert_eq!((counted, counted >= number as u64), (stats.free_blocks, true), "{text}");
        // Nothing is to be done.
        assert!(
            summary.contains("  0 pairs of free neighbours\n") && summary.contains("1 participant alive, 0 dead\n"),
            "{text}"
        );
    }
}

/// Runs the tool with a terminal of so many rows and columns for its output and its errors; none where there are no
/// terminals to be had.
pub(crate) fn on_a_terminal(command: &mut Command, (rows, columns): (u16, u16)) -> Option<String> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).ok()?;
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
    let name = ptsname(&master, vec![]).expect("it has a name");
    let slave =
        rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("it opens");
    tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a terminal");
    let errors = slave.try_clone().expect("a descriptor");
    let mut child = command.stdout(slave).stderr(errors).spawn().expect("it runs");
    // The command has the other side open, too.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (mut master, mut out, mut part) = (File::from(master), vec![], [0; 4096]);
    // It ends by an error: nobody has the other side open any more.
    while let Ok(length @ 1..) = master.read(&mut part) {
        out.extend_from_slice(&part[..length]);
    }
    assert!(child.wait().expect("it ends").success());
    Some(String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    handler.allocate_raw(100_000).expect("room");
    for (no_color, coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let mut command = dir.command(&["map", &id, "--rows", "5"]);
        command.env_remove("NO_COLOR").envs(no_color.map(|value| ("NO_COLOR", value)));
        let Some(out) = on_a_terminal(&mut command, (40, 50)) else {
            return println!("skipped: there is no terminal to be had");
        };
        assert_eq!(out.contains("\x1b[38;5;32m█"), coloured, "{no_color:?}: {out}");
        assert_eq!(out.contains('\x1b'), coloured, "{no_color:?}: {out}");
        if !coloured {
            let rows: Vec<&str> = out.lines().filter(|line| line.ends_with('│')).collect();
            assert!(rows.len() == 5 && rows.iter().all(|row| row.chars().count() == 50), "{out}");
        }
    }
    let Ran { out, .. } = dir.matrix(&["map", &id]);
    assert!(!out.contains('\x1b'), "no colours into a pipe");
}
