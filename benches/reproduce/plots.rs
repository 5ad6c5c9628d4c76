//! Tables in the terminal and plots, both from the CSV files.

use crate::endurance::Sample;
use crate::files::{self, Folders};
use crate::latency::{PERCENTILES, Point};
use crate::mixes;
use crate::model::family::Family;
use crate::packing::{GRANULES, Packed, RANGES};
use crate::plan::Section;
use crate::predict;
use crate::style::{self, Mark, Panel, Scale, Words, mark};
use crate::support::Outcome;
use crate::support::drift::{Phase, SIZES};
use crate::support::machine::Origin;
use crate::support::noise::Noise;
use crate::support::registry::{HARNESS, MATRIX, PROCESSES, TALC};
use crate::support::report::{self, Row, number};
use std::path::Path;

/// All runs of one peer in one workload with so many workers.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) workload: String,
    pub(crate) workers: usize,
    pub(crate) peer: String,
    unit: String,
    /// Sorted.
    pub(crate) values: Vec<f64>,
    end: String,
}

impl Group {
    fn rising(&self) -> bool {
        self.workload != "B"
    }
    fn median(&self) -> f64 {
        let n = self.values.len();
        if n == 0 { f64::NAN } else { (self.values[(n - 1) / 2] + self.values[n / 2]) / 2.0 }
    }
    pub(crate) fn least(&self) -> f64 {
        self.values.first().copied().unwrap_or(f64::NAN)
    }
    pub(crate) fn most(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }
    pub(crate) fn best(&self) -> f64 {
        if self.rising() { self.most() } else { self.least() }
    }
}

fn groups(rows: &[Row]) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    for row in rows {
        let key = |g: &Group| {
            (g.workload == row.workload, g.workers == row.workers, g.peer == row.peer, g.unit == row.unit)
                == (true, true, true, true)
        };
        let at = groups.iter().position(key).unwrap_or_else(|| {
            let (workload, peer, unit) = (row.workload.clone(), row.peer.clone(), row.unit.clone());
            groups.push(Group { workload, workers: row.workers, peer, unit, values: vec![], end: String::new() });
            groups.len() - 1
        });
        groups[at].values.extend(row.value);
        if !row.end.is_empty() {
            groups[at].end = row.end.clone();
        }
    }
    groups.iter_mut().for_each(|group| group.values.sort_by(f64::total_cmp));
    groups
}

/// A file's rows, and where they come from; none if there is no such file.
fn load<T: serde::de::DeserializeOwned>(folders: &Folders, name: &str) -> Outcome<Option<(Vec<T>, String)>> {
    let path = folders.csv(name);
    let origin = files::read::<Origin>(&path)?.first().map(Origin::caption);
    Ok(match origin {
        Some(origin) => Some((files::read(&path)?, origin)),
        None => None,
    })
}

pub(crate) fn all(folders: &Folders) -> Outcome<()> {
    let mut drawn = vec![];
    let package = load::<Row>(folders, "peers-package")?;
    if let Some((mut rows, mut origin)) = load::<Row>(folders, Section::Peers.file())? {
        // A run of the package has the peers of the tree as well: one run's rows are compared with each other alone.
        if let Some((others, theirs)) = &package {
            (rows, origin) = (others.clone(), theirs.clone());
        }
        peers(&groups(&rows), &origin, &folders.figures.join("peers.svg"))?;
        drawn.push("peers.svg");
    }
    if let Some((rows, origin)) = load::<Row>(folders, Section::Scaling.file())? {
        let mut groups = groups(&rows);
        if let Some((others, _)) = &package {
            let known: Vec<String> = groups.iter().map(|group| group.peer.clone()).collect();
            let new = |group: &Group| ["A", "S"].contains(&group.workload.as_str()) && !known.contains(&group.peer);
            groups.extend(self::groups(others).into_iter().filter(new));
        }
        scaling(&groups, "A", &origin, &folders.figures.join("scaling-mix.svg"))?;
        scaling(&groups, "S", &origin, &folders.figures.join("scaling-endurance.svg"))?;
        drawn.extend(["scaling-mix.svg", "scaling-endurance.svg"]);
    }
    if let Some((samples, origin)) = load::<Sample>(folders, Section::Endurance.file())? {
        endurance(&samples, &origin, &folders.figures.join("endurance.svg"))?;
        drawn.push("endurance.svg");
    }
    if let Some((points, origin)) = load::<Point>(folders, Section::Latency.file())? {
        latency(&points, &origin, &folders.figures.join("latency.svg"))?;
        drawn.push("latency.svg");
    }
    if let Some((rows, origin)) = load::<Packed>(folders, Section::Packing.file())? {
        packing(&rows, &origin, &folders.figures.join("packing.svg"))?;
        drawn.push("packing.svg");
    }
    if let Some((rows, origin)) = load::<Row>(folders, "mixes")? {
        mixes::draw(&groups(&rows), &origin, &folders.figures.join("mixes.svg"))?;
        drawn.push("mixes.svg");
    }
    let package = load::<Phase>(folders, "drift-package")?;
    let own = load::<Phase>(folders, Section::Drift.file())?;
    if let Some((rows, origin)) = package.or(own) {
        drift(&rows, &origin, &folders.figures.join("drift.svg"))?;
        drawn.push("drift.svg");
    }
    let simulated: Vec<_> = Family::ALL.iter().map(|&family| predict::draw(folders, family)).collect::<Outcome<_>>()?;
    drawn.extend(simulated.iter().flatten().map(String::as_str));
    if let Some((noises, _)) = load::<Noise>(folders, "noise")? {
        report::noise(&noises);
    }
    println!("data: {}\nfigures: {}: {}", folders.data.display(), folders.figures.display(), drawn.join(", "));
    Ok(())
}

/// A table with a row for each group.
fn print_groups(title: &str, groups: &[&Group]) {
    let header = ["", "peer", "workers", "runs", "best", "median", "min..max", "unit", "median / harness"];
    let mut table = report::table(&header, 2);
    for group in groups.iter().filter(|group| !group.values.is_empty()) {
        let same = |g: &&&Group| (&g.workload, g.workers, &*g.peer) == (&group.workload, group.workers, HARNESS);
        let harness = groups.iter().find(same).map_or(f64::NAN, |harness| match group.rising() {
            true => group.median() / harness.median(),
            false => harness.median() / group.median(),
        });
        table.add_row([
            group.workload.clone(),
            group.peer.clone(),
            group.workers.to_string(),
            group.values.len().to_string(),
            number(group.best()),
            number(group.median()),
            format!("{}..{}", number(group.least()), number(group.most())),
            group.unit.clone(),
            number(harness),
        ]);
    }
    println!("{title}\n\n{table}\n");
    let mut ends: Vec<_> = groups.iter().filter(|group| !group.end.is_empty()).map(|g| (&g.peer, &g.end)).collect();
    ends.dedup();
    ends.iter().for_each(|(peer, end)| println!("{peer}: {end}"));
    if !ends.is_empty() {
        println!();
    }
}

/// One panel for each workload; the peers below each other, best first.
fn peers(all: &[Group], origin: &str, path: &Path) -> Outcome<()> {
    let timed: Vec<&Group> = all.iter().filter(|group| group.workload != "D").collect();
    print_groups("Peers side by side: median of interleaved runs", &timed);
    let mut panels: Vec<(String, String, Vec<&Group>)> = vec![];
    for (workload, workers, title, axis) in [
        ("A", 1, "A, mix of sizes: 1 worker", "million operations a second; right is better"),
        ("A", 2, "A, mix of sizes: 2 workers", "million operations a second; right is better"),
        ("A", 4, "A, mix of sizes: 4 workers", "million operations a second; right is better"),
        ("B", 1, "B, allocate and free 64 bytes", "ns a pair; left is better"),
        ("C", 2, "C, hand-over of 128 bytes", "million messages a second; right is better"),
        ("D", 1, "D, payload of a full 64 MiB segment", "share; right is better"),
    ] {
        let of =
            |g: &&Group| g.workload == workload && g.workers == workers && g.unit != "whole" && !g.values.is_empty();
        let mut groups: Vec<&Group> = all.iter().filter(of).collect();
        groups.sort_by(|a, b| {
            let order = a.median().total_cmp(&b.median());
            if a.rising() { order } else { order.reverse() }
        });
        if !groups.is_empty() {
            panels.push((title.to_owned(), axis.to_owned(), groups));
        }
    }
    let rows = panels.iter().map(|(_, _, groups)| groups.len()).max().unwrap_or(1);
    let height = 100 + 22 * rows as i32;
    let size = (1320, 90 + height as u32 * panels.len().div_ceil(2) as u32);
    let subtitle =
        "median (mark) and range of interleaved runs; the harness alone is what a workload costs without an allocator";
    style::figure(path, size, "Peers side by side", subtitle, origin, |area| {
        for (area, (title, axis, groups)) in area.split_evenly((panels.len().div_ceil(2), 2)).iter().zip(&panels) {
            let names: Vec<String> = groups.iter().map(|group| group.peer.clone()).collect();
            let values = groups.iter().flat_map(|group| [group.least(), group.most()]);
            let x = if title.starts_with('D') { Scale::linear(values) } else { Scale::log(values) };
            let words = Words { title, x: axis, y: "", left: 250 };
            let panel = Panel::new(area, &words, x, Scale::names(&names))?;
            for (place, group) in groups.iter().enumerate() {
                let own = group.peer.starts_with("AtomicMatrix");
                let mut mark = mark(&group.peer, 7);
                if !own && group.peer != HARNESS {
                    mark = Mark { colour: style::mark("", 7).colour, shape: 0 };
                }
                let y = place as f64;
                panel.span((group.least(), y), (group.most(), y), mark)?;
                panel.markers(&[(group.median(), y)], mark)?;
                panel.note((group.least(), group.most()), y, &number(group.median()))?;
            }
        }
        Ok(())
    })
}

fn scaling(all: &[Group], workload: &str, origin: &str, path: &Path) -> Outcome<()> {
    let groups: Vec<&Group> =
        all.iter().filter(|group| group.workload == workload && !group.values.is_empty()).collect();
    let (title, subtitle) = match workload {
        "A" => ("Scaling of the mix (A)", "up to 200 live blocks of 32 to 544 bytes for each worker"),
        _ => ("Scaling of the endurance mix", "up to 10 000 live blocks of 32 to 544 bytes for each worker"),
    };
    print_groups(title, &groups);
    let mut names: Vec<String> = vec![];
    for group in &groups {
        if !names.contains(&group.peer) {
            names.push(group.peer.clone());
        }
    }
    let mut workers: Vec<f64> = groups.iter().map(|group| group.workers as f64).collect();
    workers.sort_by(f64::total_cmp);
    workers.dedup();
    let marks: Vec<(String, Mark)> =
        names.iter().enumerate().map(|(place, name)| (name.clone(), mark(name, place))).collect();
    let subtitle =
        format!("{subtitle}; real operations only; median and range; more workers than cores share the cores");
    style::figure(path, (1000, 560), title, &subtitle, origin, |area| {
        let (left, right) = area.split_horizontally(720);
        let values = groups.iter().flat_map(|group| [group.least(), group.most()]);
        let words = Words {
            title: "",
            x: "workers (threads, or processes where said)",
            y: "million operations a second (logarithmic)",
            left: 60,
        };
        let panel = Panel::new(&left, &words, Scale::places(&workers), Scale::log(values))?;
        for (name, mark) in &marks {
            let own: Vec<&&Group> = groups.iter().filter(|group| group.peer == *name).collect();
            let points: Vec<_> = own.iter().map(|group| (group.workers as f64, group.median())).collect();
            panel.line(&points, *mark, name == HARNESS)?;
            for group in own {
                let x = group.workers as f64;
                panel.span((x, group.least()), (x, group.most()), *mark)?;
            }
            panel.markers(&points, *mark)?;
        }
        style::legend(&right, &marks)
    })
}

type Measure = (&'static str, &'static str, bool, fn(&Sample) -> f64);

fn endurance(samples: &[Sample], origin: &str, path: &Path) -> Outcome<()> {
    const MEASURES: [Measure; 6] = [
        ("External fragmentation", "1 − largest free block / free bytes", false, |s| s.external_fragmentation),
        ("Shannon entropy of the free memory", "bits; 0 when one block remains", false, |s| s.entropy_bits),
        ("Internal fragmentation", "1 − bytes asked for / live bytes", false, |s| s.internal_fragmentation),
        ("Free and parked blocks", "number; parked ones are freed and wait for their size", false, |s| {
            (s.free_blocks + s.parked_blocks) as f64
        }),
        ("Missed merges", "pairs of free neighbours; 0 at rest", false, |s| s.missed_merges as f64),
        ("Free blocks / operations", "%: falls with time whatever the allocator does", true, |s| s.seed_percentage),
    ];
    print_samples(samples);
    let hows = ["threads", "processes"];
    let marks: Vec<(&str, Mark)> = hows.into_iter().zip([mark(MATRIX, 0), mark(PROCESSES, 0)]).collect();
    let running: Vec<&Sample> = samples.iter().filter(|s| s.phase == "running").collect();
    let last = samples.iter().map(|s| s.seconds).fold(0.0, f64::max);
    let workers = samples.first().map_or(0, |s| s.workers);
    let title = format!("Endurance: {workers} workers for {last:.0} s, 50 MiB, then everything freed");
    let subtitle = "lines: while they run; right of the dashed line: at rest with all live, after healing, and \
        after everything is freed and healed";
    style::figure(path, (1320, 920), &title, subtitle, origin, |area| {
        let (plots, below) = area.split_vertically(area.dim_in_pixel().1 as i32 - 34);
        for (area, (title, axis, log, measure)) in plots.split_evenly((3, 2)).iter().zip(MEASURES) {
            let values = samples.iter().map(measure);
            let y = if log { Scale::log(values) } else { Scale::linear(values) };
            let mut x = Scale::linear([0.0, last * 1.25]);
            x.ticks.retain(|(value, _)| *value <= last * 1.01);
            let words = Words { title, x: "seconds; then: at rest | healed | freed and healed", y: axis, left: 64 };
            let most = samples.iter().map(measure).fold(0.0, f64::max) * 2.0;
            let panel = Panel::new(area, &words, x, y)?;
            panel.line(&[(last, 0.0), (last, most)], style::mark(HARNESS, 0), true)?;
            for (how, mark) in &marks {
                let line: Vec<_> = running.iter().filter(|s| s.how == *how).map(|s| (s.seconds, measure(s))).collect();
                if !line.is_empty() {
                    panel.line(&line, *mark, false)?;
                }
                for (place, phase) in [(1.07, "stopped"), (1.15, "stopped, healed"), (1.23, "freed, healed")] {
                    let shift = if *how == "threads" { -0.012 } else { 0.012 };
                    let of = samples.iter().filter(|s| s.phase == phase && s.how == *how);
                    let points: Vec<_> = of.map(|s| (last * (place + shift), measure(s))).collect();
                    panel.markers(&points, *mark)?;
                }
            }
        }
        for ((how, mark), area) in marks.iter().zip(below.split_evenly((1, 6))) {
            style::legend(&area, &[((*how).to_owned(), *mark)])?;
        }
        Ok(())
    })
}

fn print_samples(samples: &[Sample]) {
    let header = [
        "workers",
        "phase",
        "s",
        "million ops",
        "Mop/s",
        "live",
        "free",
        "parked",
        "largest free",
        "ext. fragm.",
        "int. fragm.",
        "entropy, bits",
        "missed",
        "lost bytes",
        "free blocks / operations, %",
    ];
    let mut table = report::table(&header, 2);
    for (index, sample) in samples.iter().enumerate() {
        let next_runs = samples.get(index + 1).is_some_and(|next| next.phase == "running");
        if sample.phase == "running" && next_runs {
            continue; // The last one while running, and those at rest.
        }
        table.add_row([
            format!("{} {}", sample.workers, sample.how),
            sample.phase.clone(),
            number(sample.seconds),
            number(sample.operations as f64 / 1e6),
            number(sample.operations as f64 / 1e6 / sample.seconds),
            sample.live_blocks.to_string(),
            sample.free_blocks.to_string(),
            sample.parked_blocks.to_string(),
            sample.largest_free.to_string(),
            format!("{:.4}", sample.external_fragmentation),
            format!("{:.4}", sample.internal_fragmentation),
            format!("{:.2}", sample.entropy_bits),
            sample.missed_merges.to_string(),
            sample.unaccounted_bytes.to_string(),
            format!("{:.2e}", sample.seed_percentage),
        ]);
    }
    println!("Endurance, watched\n\n{table}\n");
}

fn latency(points: &[Point], origin: &str, path: &Path) -> Outcome<()> {
    let names = PERCENTILES.map(|p| if p == 100.0 { "max".to_owned() } else { format!("p{p}") });
    let mut peers: Vec<String> = vec![];
    for point in points {
        if !peers.contains(&point.peer) {
            peers.push(point.peer.clone());
        }
    }
    let value = |peer: &str, operation: &str, percentile: f64| {
        let same = |p: &&Point| p.peer == peer && p.operation == operation && p.percentile == percentile;
        points.iter().find(same)
    };
    let header: Vec<&str> = ["peer", "operation", "mean"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut table = report::table(&header, 2);
    let step = points.iter().map(|point| point.step_ns).fold(0.0, f64::max).max(1.0);
    let written = |ns: f64| if ns < step { format!("< {}", number(step)) } else { number(ns) };
    for peer in &peers {
        for operation in ["allocate", "free"] {
            let cells = PERCENTILES.map(|p| written(value(peer, operation, p).map_or(f64::NAN, |point| point.ns)));
            let mean = number(value(peer, operation, PERCENTILES[0]).map_or(f64::NAN, |point| point.mean_ns));
            table.add_row([peer.clone(), operation.to_owned(), mean].into_iter().chain(cells));
        }
    }
    let cost = points.first().map_or(f64::NAN, |point| point.time_stamps_ns);
    println!(
        "Latency in ns, A at 2 threads; {cost:.1} ns of time stamps subtracted; the counter shows nothing below \
            {step:.1} ns\n\n{table}\n"
    );
    let marks: Vec<(String, Mark)> = peers.iter().enumerate().map(|(i, name)| (name.clone(), mark(name, i))).collect();
    let subtitle = format!(
        "A at 2 threads, every operation timed; two time stamps ({cost:.1} ns) subtracted; the counter shows \
            nothing below {step:.1} ns: that stands at the bottom"
    );
    style::figure(path, (1320, 540), "Latency of single operations", &subtitle, origin, |area| {
        let (plots, right) = area.split_horizontally(1090);
        for (area, operation) in plots.split_evenly((1, 2)).iter().zip(["allocate", "free"]) {
            let all = points.iter().map(|point| point.ns.max(step));
            let words = Words { title: operation, x: "percentile", y: "ns (logarithmic)", left: 64 };
            let panel = Panel::new(area, &words, Scale::names(&names), Scale::log(all))?;
            for (peer, mark) in &marks {
                let at = |(place, p): (usize, f64)| Some((place as f64, value(peer, operation, p)?.ns.max(step)));
                let line: Vec<_> = PERCENTILES.into_iter().enumerate().filter_map(at).collect();
                panel.line(&line, *mark, peer == HARNESS)?;
                panel.markers(&line, *mark)?;
            }
        }
        style::legend(&right, &marks)
    })
}

fn packing(rows: &[Packed], origin: &str, path: &Path) -> Outcome<()> {
    let find = |range: (usize, usize), granule: usize| {
        rows.iter().find(|row| (row.least, row.most) == range && row.granule == granule)
    };
    let mut header = vec!["bytes asked for".to_owned()];
    header.extend(GRANULES.map(|granule| format!("granule {granule}")));
    header.push(TALC.to_owned());
    let mut table = report::table(&header.iter().map(String::as_str).collect::<Vec<_>>(), 1);
    for range in RANGES {
        let mut cells = vec![format!("{} to {}", range.0, range.1)];
        for granule in GRANULES.into_iter().chain([0]) {
            let cell = |row: &Packed| format!("{:.3}{}", row.packed, if row.whole { "" } else { " (no 90 % block)" });
            cells.push(find(range, granule).map_or_else(|| "–".to_owned(), cell));
        }
        table.add_row(cells);
    }
    println!("Packing: payload of a full 64 MiB segment, its metadata included\n\n{table}\n");
    let title = |range: (usize, usize)| format!("{} to {} bytes", range.0, range.1);
    let marks: Vec<_> = RANGES.into_iter().enumerate().map(|(i, range)| (range, style::mark("", i))).collect();
    let subtitle = "share of the whole segment, its metadata included, when nothing fits any more; dashed: talc \
        5, in process, no shared metadata";
    style::figure(path, (1000, 520), "Packing: payload of a full 64 MiB segment", subtitle, origin, |area| {
        let (left, right) = area.split_horizontally(760);
        let sizes: Vec<f64> = GRANULES.iter().map(|&granule| granule as f64).collect();
        let words = Words { title: "", x: "granule, bytes (16 is the default)", y: "payload / segment", left: 56 };
        let panel = Panel::new(&left, &words, Scale::places(&sizes), Scale::linear([0.0, 1.0]))?;
        for (range, mark) in &marks {
            if let Some(talc) = find(*range, 0) {
                panel.line(&[(1.0, talc.packed), (1e6, talc.packed)], *mark, true)?;
            }
            let at = |&granule: &usize| Some((granule as f64, find(*range, granule)?.packed));
            let line: Vec<_> = GRANULES.iter().filter_map(at).collect();
            panel.line(&line, *mark, false)?;
            panel.markers(&line, *mark)?;
        }
        style::legend(&right, &marks.iter().map(|(range, mark)| (title(*range), *mark)).collect::<Vec<_>>())
    })
}

/// A round of phases, at its worst.
#[derive(Debug, Clone, Copy)]
struct Round {
    terabytes: f64,
    largest: Option<f64>,
    entropy: Option<f64>,
    footprint: f64,
}

fn rounds(rows: &[Phase], peer: &str) -> Vec<Round> {
    let own: Vec<&Phase> = rows.iter().filter(|row| row.peer == peer).collect();
    let round = |phases: &[&Phase]| Round {
        terabytes: phases.iter().map(|row| row.allocated_bytes as f64 / 1e12).fold(0.0, f64::max),
        largest: phases.iter().filter_map(|row| row.largest_share()).reduce(f64::min),
        entropy: phases.iter().filter_map(|row| row.entropy_bits).reduce(f64::max),
        footprint: phases.iter().map(|row| row.footprint()).fold(0.0, f64::max),
    };
    own.chunks(SIZES.len()).map(round).collect()
}

fn drift(rows: &[Phase], origin: &str, path: &Path) -> Outcome<()> {
    type Measure = (&'static str, &'static str, fn(&Round) -> Option<f64>);
    const MEASURES: [Measure; 3] = [
        ("Largest block to be had", "share of what is not live; a round's least", |r| r.largest),
        ("Shannon entropy of the free blocks", "bits, a round's most; AtomicMatrix alone", |r| r.entropy),
        ("Memory", "resident / live; a round's most", |r| Some(r.footprint)),
    ];
    let mut peers: Vec<&str> = rows.iter().map(|row| row.peer.as_str()).collect();
    peers.dedup();
    let lines: Vec<(&str, Mark, Vec<Round>)> =
        peers.iter().enumerate().map(|(place, peer)| (*peer, mark(peer, place), rounds(rows, peer))).collect();
    print_drift(&lines);
    let phases = rows.iter().map(|row| row.phase).max().unwrap_or(0);
    let title = format!("Sizes that drift: {phases} phases in 128 MiB, half of it live");
    let subtitle = format!(
        "one thread; a round is a phase of each: {}; some blocks of each survive six phases more",
        SIZES.join("; ")
    );
    let all = || lines.iter().flat_map(|(_, _, rounds)| rounds);
    style::figure(path, (1320, 500), &title, &subtitle, origin, |area| {
        let (plots, right) = area.split_horizontally(1090);
        for (area, (title, axis, measure)) in plots.split_evenly((1, 3)).iter().zip(MEASURES) {
            let words = Words { title, x: "TB allocated", y: axis, left: 52 };
            let x = Scale::linear(all().map(|round| round.terabytes));
            let panel = Panel::new(area, &words, x, Scale::linear(all().filter_map(measure)))?;
            for (_, mark, rounds) in &lines {
                let points: Vec<_> =
                    rounds.iter().filter_map(|round| Some((round.terabytes, measure(round)?))).collect();
                if !points.is_empty() {
                    panel.line(&points, *mark, false)?;
                    panel.markers(&points[points.len() - 1..], *mark)?;
                }
            }
        }
        style::legend(&right, &lines.iter().map(|(peer, mark, _)| ((*peer).to_owned(), *mark)).collect::<Vec<_>>())
    })
}

fn print_drift(lines: &[(&str, Mark, Vec<Round>)]) {
    let header =
        ["peer", "TB allocated", "largest block, share of what is not live", "entropy, bits", "resident / live"];
    let mut table = report::table(&header, 1);
    let written = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    for (peer, _, rounds) in lines {
        for (when, round) in [("first", rounds.first()), ("last", rounds.last())] {
            let Some(round) = round else { continue };
            let cells = [round.largest, round.entropy, Some(round.footprint)].map(written);
            table.add_row([format!("{peer}, {when} round"), number(round.terabytes)].into_iter().chain(cells));
        }
    }
    println!("Sizes that drift: a round's worst\n\n{table}\n");
}
