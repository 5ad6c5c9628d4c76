//! What several commands write: sizes, tables, bars.

use comfy_table::{CellAlignment, Table, presets};
use std::io::IsTerminal;

/// Bytes as people read them; without a decimal, exact.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    // The last unit is large enough for every number.
    while value >= 1023.95 {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 { format!("{value} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A share in percent; what is there at all is never shown as 0, what is not all never as 100.
pub(crate) fn percent(part: u64, all: u64) -> String {
    if part == 0 || all == 0 {
        return "0 %".to_owned();
    }
    let share = 100.0 * part as f64 / all as f64;
    match share {
        _ if part >= all => "100 %".to_owned(),
        s if s < 0.1 => "<0.1 %".to_owned(),
        s if s > 99.9 => ">99.9 %".to_owned(),
        s => format!("{s:.1} %"),
    }
}

/// How old something is, in its largest unit: "7 s", "3 h".
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// "1 block", "2 blocks".
pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

/// A size as it is typed: 4096, 64K, 1M, 2G (powers of 1024; "KiB" and the like are understood).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number of bytes; write 4096, 64K, 1M or 2G");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Seconds between two views.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is not a number of seconds from 0.01 to 86400")),
    }
}

/// Columns of the output: those asked for, the terminal's, or 80.
pub(crate) fn width(asked: Option<u16>) -> usize {
    let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col);
    let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = asked.or_else(terminal).filter(|columns| *columns > 0).or_else(variable);
    columns.map_or(80, usize::from).clamp(8, 1000)
}

/// Whether colours are welcome (<https://no-color.org>).
pub(crate) fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text whose control characters are shown and not obeyed: a file's name may hold anything.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// As many lines of a view as fit on the terminal; all where that is not known, or makes no sense.
pub(crate) fn on_screen(view: &str) -> String {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let shown = if rows > 1 { rows - 1 } else { usize::MAX };
    view.lines().take(shown).flat_map(|line| [line, "\x1b[K\n"]).collect()
}

/// A table without lines; the columns named are aligned to the right.
pub(crate) fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>()));
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A bar of `columns` at most, in eighths of a column; what is there at all is seen.
pub(crate) fn bar(part: u64, most: u64, columns: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    if part == 0 || most == 0 {
        return String::new();
    }
    let eighths = (part as f64 / most as f64 * columns as f64 * 8.0).round().max(1.0) as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}

/// A JSON value on lines of its own.
pub(crate) fn json(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_and_read() {
        let written = [0, 1023, 1024, 1536, (1 << 20) - 1, 1 << 20, u64::MAX].map(bytes);
        assert_eq!(written, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1.0 MiB", "1 MiB", "16 EiB"].map(str::to_owned));
        let read = ["7", "64K", "1MiB", "2 g", "3t"].map(parse_bytes);
        assert_eq!(read, [Ok(7), Ok(65_536), Ok(1 << 20), Ok(2 << 30), Ok(3 << 40)]);
        for wrong in ["", "K", "-1", "1x", "99999999999999999999", "99999999999T", "ä"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let told = [0, 59, 60, 3599, 3600, 86_399, 86_400, 1_000_000].map(age).join(", ");
        assert_eq!(told, "0 s, 59 s, 1 min, 59 min, 1 h, 23 h, 1 d, 11 d");
    }

    #[test]
    fn shares_and_bars_hide_nothing() {
        assert_eq!(
            [percent(0, 5), percent(1, 100_000), percent(99_999, 100_000), percent(5, 5)].join(" "),
            "0 % <0.1 % >99.9 % 100 %"
        );
        assert_eq!([percent(1, 1000), percent(999, 1000), percent(1, 3)].join(" "), "0.1 % 99.9 % 33.3 %");
        assert_eq!(
            (bar(1, 1_000_000, 10), bar(5, 5, 3), bar(0, 5, 3)),
            ("▏".to_owned(), "███".to_owned(), String::new())
        );
    }
}
