//! `stat` and `watch`: what is in a segment.

use crate::args::{Stat, State, Watch};
use crate::look::{Amount, Holding, Sight, alive_and_dead, identity, merged};
use crate::structures::Structures;
use crate::target::Found;
use crate::{FINE, Outcome, map, print, text};
use atomic_matrix::handlers::{KEPT, LINKED};
use atomic_matrix::ipc::ReadOnly;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Rows of the histogram, before classes are put together by powers of two.
const HISTOGRAM_ROWS: usize = 20;
/// Participants shown; those with the most bytes first.
const HOLDERS: usize = 20;
/// Rows of the small picture in `watch`.
const SMALL_MAP: usize = 4;

pub(crate) fn stat(asked: &Stat) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    let sight = Sight::of(&looker)?;
    let all = Structures::of(&looker)?;
    if asked.one.json {
        return Ok((text::json(&whole(&found, &looker, &sight, &all)), FINE));
    }
    let width = text::width(asked.width);
    let out = head(&found, &looker) + &summary(&sight, width) + &histogram(&sight, width) + &holders(&sight);
    Ok((out + &structures(&all, &sight), FINE))
}

pub(crate) fn watch(asked: &Watch) -> Outcome {
    let (found, looker) = asked.one.target.look()?;
    let terminal = std::io::stdout().is_terminal();
    let mut before: Option<(u64, Structures, Instant)> = None;
    let mut views = 0;
    while asked.count.is_none_or(|count| views < count) {
        if views > 0 {
            std::thread::sleep(Duration::from_secs_f64(asked.interval));
        }
        if std::fs::symlink_metadata(&found.path).is_err() {
            eprintln_quietly(&format!("matrix: {} was removed", found.path.display()));
            break;
        }
        let sight = Sight::of(&looker)?;
        let (mut all, now) = (Structures::of(&looker)?, Instant::now());
        if let Some((_, last, then)) = &before {
            all = all.since(last, (now - *then).as_secs_f64());
        }
        views += 1;
        if asked.one.json {
            print(&format!("{}\n", whole(&found, &looker, &sight, &all)))?;
            before = Some((0, all, now));
            continue;
        }
        let width = text::width(asked.width);
        let mut view = head(&found, &looker) + &summary(&sight, width);
        let live = sight.stats.live_bytes;
        let change = before.map_or(0, |(before, ..)| live as i64 - before as i64);
        let sign = if change < 0 { "-" } else { "+" };
        let _ = writeln!(view, "  change      {sign}{} live since the last view", text::bytes(change.unsigned_abs()));
        view += "\n";
        view += &map::picture(&looker, width, SMALL_MAP)?;
        view += &structures(&all, &sight);
        view += &holders(&sight);
        before = Some((live, all, now));
        if terminal {
            // Home, each line cleared to its end, then everything below: no flicker.
            print(&format!("\x1b[H{}\x1b[J", text::on_screen(&view)))?;
        } else {
            print(&format!("{}{view}", if views > 1 { "\n" } else { "" }))?;
        }
    }
    Ok((String::new(), FINE))
}

/// All that is seen.
fn whole(found: &Found, looker: &ReadOnly, sight: &Sight, all: &Structures) -> Value {
    let structures = json!({ "structures": all.json(&sight.participants) });
    merged(merged(identity(found, looker), sight.json()), structures)
}

/// What processes talk with, if they do.
fn structures(all: &Structures, sight: &Sight) -> String {
    let table = all.table(&sight.participants);
    let indented = |line: &str| format!("  {line}\n");
    if table.is_empty() {
        table
    } else {
        "\nstructures\n".to_owned() + &table.lines().map(indented).collect::<String>()
    }
}

fn eprintln_quietly(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn head(found: &Found, looker: &ReadOnly) -> String {
    let info = looker.info();
    let strict = if info.strict { ", strict: nothing is parked" } else { "" };
    format!(
        "segment {}\n  file        {}\n  size        {}, granules of {}, {} participant slots{strict}\n",
        looker.id(),
        text::plain(&found.path.to_string_lossy()),
        text::bytes(info.bytes),
        text::bytes(info.granule_bytes),
        info.participants,
    )
}

fn summary(sight: &Sight, width: usize) -> String {
    let stats = &sight.stats;
    let all = stats.sector_bytes;
    let mut out = format!("  sector      {}\n", text::bytes(all));
    for state in State::ALL {
        let Amount { blocks, bytes } = sight.amount(state);
        let line = format!(
            "  {:<10}  {:>10}  {:>8}  in {:<16}",
            state.name(),
            text::bytes(bytes),
            text::percent(bytes, all),
            text::count(blocks, "block")
        );
        let bar = text::bar(bytes, all, width.saturating_sub(54).min(40));
        let _ = writeln!(out, "{}", format!("{line} {bar}").trim_end());
    }
    let _ = writeln!(out, "  largest     {} free in one piece", text::bytes(stats.largest_free));
    let _ = writeln!(out, "  fragmented  {:.4} (1 - largest free / free)", stats.fragmentation);
    let _ = writeln!(out, "  entropy     {:.3} bits", stats.entropy_bits);
    let hint = if stats.missed_merges == 0 { "" } else { " (0 at rest; matrix heal merges them)" };
    let _ = writeln!(out, "  unmerged    {}{hint}", text::count(stats.missed_merges, "pair") + " of free neighbours");
    let (alive, dead) = alive_and_dead(&sight.participants);
    let hint = if dead == 0 { "" } else { " (matrix reap recovers them)" };
    let _ = writeln!(out, "  in use by   {} alive, {dead} dead{hint}", text::count(alive, "participant"));
    out
}

fn histogram(sight: &Sight, width: usize) -> String {
    if sight.free_by_class.is_empty() {
        return "\nno free block\n".to_owned();
    }
    let fine = sight.free_by_class.len() <= HISTOGRAM_ROWS;
    let mut rows: BTreeMap<u64, Amount> = BTreeMap::new();
    for (&class, amount) in &sight.free_by_class {
        let row = rows.entry(if fine { class } else { 1 << class.max(1).ilog2() }).or_default();
        row.blocks += amount.blocks;
        row.bytes += amount.bytes;
    }
    let most = rows.values().map(|amount| amount.blocks).max().unwrap_or(0);
    let by = if fine { "size class" } else { "power of two (all classes: --json)" };
    let mut out = format!("\nfree blocks by {by}\n  {:>10}  {:>8}  {:>10}\n", "from", "blocks", "bytes");
    for (class, Amount { blocks, bytes }) in &rows {
        let bar = text::bar(*blocks, most, width.saturating_sub(37).clamp(5, 60));
        let line = format!("  {:>10}  {:>8}  {:>10}  {bar}", text::bytes(*class), blocks, text::bytes(*bytes));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// Who holds how much: participants and, as number 0, nobody.
fn holders(sight: &Sight) -> String {
    let mut rows: Vec<(u16, String, String, Holding)> = vec![];
    let holding = |number| sight.holdings.get(&number).copied().unwrap_or_default();
    for p in &sight.participants {
        let state = match (p.alive, p.recovered_by) {
            (true, _) => "alive".to_owned(),
            (false, Some(by)) => format!("dead, recovered by {by}"),
            (false, None) => "dead".to_owned(),
        };
        rows.push((p.number, p.pid.to_string(), state, holding(p.number)));
    }
    for (&number, &holding) in &sight.holdings {
        if sight.participants.iter().all(|p| p.number != number) {
            let who = match number {
                0 => "nobody",
                LINKED => "in structures",
                KEPT => "kept from the dead",
                _ => "gone",
            };
            rows.push((number, "-".to_owned(), who.to_owned(), holding));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by_key(|(number, .., holding)| (std::cmp::Reverse(holding.live.bytes), *number));
    let all = rows.len();
    let rows = rows.into_iter().take(HOLDERS).map(|(number, pid, state, holding)| {
        let Holding { live, parked, in_flight } = holding;
        let amounts = [live, parked, in_flight].map(|amount| text::bytes(amount.bytes));
        let mut row = vec![number.to_string(), pid, state, live.blocks.to_string()];
        row.extend(amounts);
        row
    });
    let header = ["OWNER", "PID", "STATE", "LIVE BLOCKS", "LIVE", "PARKED", "IN FLIGHT"];
    let mut out = "\nwho holds how much\n".to_owned();
    for line in text::table(&header, &[0, 1, 3, 4, 5, 6], rows).lines() {
        let _ = writeln!(out, "  {line}");
    }
    if all > HOLDERS {
        let _ = writeln!(out, "  and {} more (--json shows all)", all - HOLDERS);
    }
    out
}
