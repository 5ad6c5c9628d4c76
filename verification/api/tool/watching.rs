//! What changes while somebody looks on, and what a terminal gets of it.

use crate::drawing::on_a_terminal;
use crate::{Dir, Holder, MIB};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn each_view_says_what_has_changed_since_the_last_one() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let child = dir.command(&["watch", &handler.id().to_string(), "--interval", "0.1"]).stdout(Stdio::piped()).spawn();
    let mut child = Holder(child.expect("a child"));
    let lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let mut changes = lines.map_while(Result::ok).filter(|line| line.contains(" live since the last view")).take(200);
    let mut seen = BTreeSet::new();
    // What is done here is seen in one of the next views.
    let mut until = |sign: &str| {
        for change in changes.by_ref() {
            let (change, _) = change.split_once(" live").expect("it has that");
            seen.insert(change.trim_start().to_owned());
            if change.contains(sign) {
                break;
            }
        }
    };
    until("+0 B");
    let block = handler.allocate_raw(5000).expect("room");
    until("+4");
    handler.free_raw(block).expect("live");
    until("-4");
    let told = ["+0 B", "+4.9 KiB", "-4.9 KiB"].map(|change| format!("change      {change}"));
    assert_eq!(Vec::from_iter(seen), told);
    child.kill();
}

#[test]
fn the_first_view_comes_at_once_and_the_end_is_told() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    // Nobody waits for the interval before the first view, nor behind the last.
    let mut once = dir.command(&["watch", &id, "--count", "1", "--interval", "86400"]);
    let mut once = Holder(once.stdout(Stdio::null()).spawn().expect("it runs"));
    let until = Instant::now() + Duration::from_secs(60);
    while once.0.try_wait().expect("ours").is_none() {
        assert!(Instant::now() < until, "it waits before it has shown anything");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut watch = dir.command(&["watch", &id, "--interval", "0.01"]);
    let mut watch = Holder(watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs"));
    let mut out = watch.0.stdout.take().expect("piped");
    out.read_exact(&mut [0; 7]).expect("a view");
    handler.unlink().expect("removed");
    let (mut rest, mut err) = (String::new(), String::new());
    out.read_to_string(&mut rest).expect("read to its end");
    watch.0.stderr.take().expect("piped").read_to_string(&mut err).expect("read");
    assert_eq!(err, format!("matrix: {} was removed\n", dir.file(handler.id()).display()));
    assert!(!rest.contains('\x1b'), "no way home in a pipe");
}

#[test]
fn a_view_fills_the_terminal_and_no_more() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    let all = dir.matrix(&["watch", &id, "--count", "1", "--width", "60"]).out.lines().count();
    // Of some heights nobody can tell what fits.
    for (rows, shown) in [(0, all), (1, all), (2, 1), (9, 8), (500, all)] {
        let mut command = dir.command(&["watch", &id, "--count", "1", "--width", "60"]);
        let Some(out) = on_a_terminal(command.env("NO_COLOR", "1"), (rows, 60)) else {
            return println!("skipped: there is no terminal to be had");
        };
        let view = out.strip_prefix("\x1b[H").and_then(|rest| rest.strip_suffix("\x1b[J")).expect("home, and the rest");
        let lines: Vec<&str> = view.lines().collect();
        assert_eq!(lines.len(), shown, "{rows} rows: {out}");
        assert!(lines[0].starts_with("segment ") && lines.iter().all(|line| line.ends_with("\x1b[K")), "{out}");
    }
}

#[test]
fn a_terminal_without_a_width_has_the_variables() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let mut command = dir.command(&["map", &handler.id().to_string(), "--rows", "2"]);
    let Some(out) = on_a_terminal(command.env("NO_COLOR", "1").env("COLUMNS", "33"), (40, 0)) else {
        return println!("skipped: there is no terminal to be had");
    };
    let widths: Vec<usize> =
        out.lines().map(str::trim_end).filter(|line| line.ends_with('│')).map(|line| line.chars().count()).collect();
    assert_eq!(widths, [33, 33], "{out}");
    // There are no more cells than granules.
    let map = dir.json(&["map", &handler.id().to_string(), "--rows", "500", "--width", "1000"], 0);
    let granules = handler.stats().expect("sound");
    let granules = granules.sector_bytes / granules.granule_bytes;
    assert_eq!(map["cells"].as_array().map(|cells| cells.len() as u64), Some(granules));
}
