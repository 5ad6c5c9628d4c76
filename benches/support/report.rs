//! Tables and files.

use super::Outcome;
use super::arguments::Arguments;
use super::conductor::{Figures, Run, Series};
use super::machine::Machine;
use super::noise::Noise;
use super::registry::{HARNESS, TALC};
use super::{mixes, targets};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The files asked for, made before the measurements, so that a wrong path costs no time.
pub(crate) struct Files {
    csv: Option<(PathBuf, File)>,
    noise: Option<(PathBuf, File)>,
    json: Option<(PathBuf, File)>,
    targets: Option<(PathBuf, File)>,
}

fn create(path: Option<&PathBuf>) -> Outcome<Option<(PathBuf, File)>> {
    let make = |path: &PathBuf| {
        File::create(path)
            .map(|file| (path.clone(), file))
            .map_err(|error| format!("can't write {}: {error}", path.display()))
    };
    Ok(path.map(make).transpose()?)
}

impl Files {
    pub(crate) fn create(arguments: &Arguments) -> Outcome<Self> {
        Ok(Self {
            csv: create(arguments.csv.as_ref())?,
            noise: create(arguments.noise.as_ref())?,
            json: create(arguments.json.as_ref())?,
            targets: create(arguments.targets.as_ref())?,
        })
    }

    pub(crate) fn write(&mut self, figures: &Figures) -> Outcome<()> {
        let failed = |path: &Path, error: std::io::Error| format!("can't write {}: {error}", path.display());
        if let Some((path, file)) = &mut self.csv {
            let mut out = csv::Writer::from_writer(file);
            for row in rows(figures) {
                out.serialize(row)?;
            }
            out.flush().map_err(|error| failed(path, error))?;
        }
        if let Some((path, file)) = &mut self.noise {
            let mut out = csv::Writer::from_writer(file);
            for noise in &figures.noise {
                out.serialize(noise)?;
            }
            out.flush().map_err(|error| failed(path, error))?;
        }
        if let Some((path, file)) = &mut self.targets {
            let mut out = csv::Writer::from_writer(file);
            out.write_record(["target", "measured", "verdict"])?;
            for target in targets::check(figures) {
                out.write_record([target.name, target.measured, target.verdict.to_string()])?;
            }
            out.flush().map_err(|error| failed(path, error))?;
        }
        if let Some((path, file)) = &mut self.json {
            let all = serde_json::json!({ "machine": Machine::this(), "figures": figures, "targets": targets::check(figures) });
            let mut out = BufWriter::new(file);
            serde_json::to_writer_pretty(&mut out, &all)?;
            writeln!(out).and_then(|()| out.flush()).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }
}

/// One run, or one result of D, or the reason why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) workers: usize,
    pub(crate) peer: String,
    pub(crate) repetition: usize,
    pub(crate) value: Option<f64>,
    pub(crate) unit: String,
    pub(crate) processor_ns_per_operation: Option<f64>,
    pub(crate) share_of_cores: Option<f64>,
    pub(crate) seconds: f64,
    /// Requests that the allocator refused in this run; they are in no other figure.
    #[serde(default)]
    pub(crate) refused: Option<u64>,
    /// Why there is no value.
    pub(crate) end: String,
    pub(crate) profile: String,
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
}

/// All runs, one row each.
pub(crate) fn rows(figures: &Figures) -> Vec<Row> {
    let machine = Machine::this();
    let row = |workload: &str, workers, peer: &str, unit: &str| Row {
        workload: workload.to_owned(),
        workers,
        peer: peer.to_owned(),
        repetition: 0,
        value: None,
        unit: unit.to_owned(),
        processor_ns_per_operation: None,
        share_of_cores: None,
        seconds: figures.seconds,
        refused: None,
        end: String::new(),
        profile: figures.profile.clone(),
        commit: machine.commit.clone(),
        cpu: machine.cpu.clone(),
        cores: machine.cores,
        kernel: machine.kernel.clone(),
        rustc: machine.rustc.clone(),
    };
    let mut rows = vec![];
    for series in &figures.series {
        let blank = row(series.workload, series.workers, series.peer, series.unit);
        for (repetition, &Run { value, processor, share, refused }) in series.runs.iter().enumerate() {
            let (processor_ns_per_operation, share_of_cores) = (Some(processor), Some(share));
            let (value, refused) = (Some(value), Some(refused));
            rows.push(Row { repetition, value, refused, processor_ns_per_operation, share_of_cores, ..blank.clone() });
        }
        if let Some(end) = &series.end {
            rows.push(Row { repetition: series.runs.len(), end: end.clone(), ..blank });
        }
    }
    for packed in &figures.packing {
        let result = packed.result;
        rows.push(Row { value: Some(result.packed), ..row("D", 1, packed.peer, "packed") });
        rows.push(Row { value: Some(result.whole as u8 as f64), ..row("D", 1, packed.peer, "whole") });
    }
    for fill in &figures.fills {
        let (workload, result) = (format!("P, {}", fill.mix), fill.result);
        rows.push(Row { value: Some(result.fresh), ..row(&workload, 1, fill.peer, "fresh") });
        rows.push(Row { value: Some(result.churned), ..row(&workload, 1, fill.peer, "churned") });
    }
    rows
}

pub(crate) fn table(header: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header.to_vec());
    for column in numbers_from..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(crate) fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "–".to_owned(),
        _ if value != 0.0 && value.abs() < 0.1 => format!("{value:.4}"),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub(crate) fn print(figures: &Figures, arguments: &Arguments) {
    println!(
        "{} core(s), load {} before and {} after; {} repetition(s) of {} s, peers in turn",
        figures.cores, figures.load_before, figures.load_after, arguments.repeat, arguments.seconds
    );
    let (wide, usual): (Vec<_>, Vec<_>) = figures.series.iter().partition(|series| is_wide(series));
    if !wide.is_empty() {
        println!("W, H: best (median)\n\n{}\n", side_by_side(&wide));
    }
    if !usual.is_empty() {
        println!("{}\n", series_table(figures, &usual));
        println!(
            "cores: the share of the cores that the best run had; below 90 %, it slept, or something else had them.\n"
        );
    }
    refusals(&figures.series);
    ends(&figures.series);
    noise(&figures.noise);
    if !figures.packing.is_empty() {
        let mut table = table(&["D", "payload / 64 MiB", "90 % block at the first try"], 1);
        for packed in &figures.packing {
            let whole = if packed.result.whole { "yes" } else { "no" };
            table.add_row([packed.peer.to_owned(), format!("{:.3}", packed.result.packed), whole.to_owned()]);
        }
        println!("{table}\n");
    }
    if !figures.fills.is_empty() {
        println!("P: payload of 128 MiB when a request is refused: fresh, and after churn\n\n{}\n", fills(figures));
    }
    println!("Targets, best against best:\n");
    let mut table = table(&["AtomicMatrix", "measured", "verdict"], 3);
    for target in targets::check(figures) {
        table.add_row([target.name.clone(), target.measured.clone(), target.verdict.to_string()]);
    }
    println!("{table}\n");
}

/// Whether there are many of its workload, so that peers stand side by side.
fn is_wide(series: &Series) -> bool {
    series.workload.starts_with("H, ") || mixes::all().any(|number| number.mix().name == series.workload)
}

/// Every name once, in the order of their first appearance.
fn distinct<T: PartialEq>(names: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = vec![];
    names.for_each(|name| {
        if !seen.contains(&name) {
            seen.push(name)
        }
    });
    seen
}

/// One row for each workload and number of workers, one column for each peer.
fn side_by_side(series: &[&Series]) -> Table {
    let peers = distinct(series.iter().filter(|series| !series.runs.is_empty()).map(|series| series.peer));
    let mut table = table(&[&["", "workers", "unit"], peers.as_slice()].concat(), 3);
    for (workload, workers, unit) in
        distinct(series.iter().map(|series| (series.workload, series.workers, series.unit)))
    {
        let cell = |peer: &&str| {
            let of = |series: &&&Series| (series.workload, series.workers, series.peer) == (workload, workers, *peer);
            match series.iter().find(of).filter(|series| !series.runs.is_empty()) {
                Some(series) => format!("{} ({})", number(series.best()), number(series.median())),
                None => "–".to_owned(),
            }
        };
        let head = [workload.to_owned(), workers.to_string(), unit.to_owned()];
        table.add_row(head.into_iter().chain(peers.iter().map(cell)));
    }
    table
}

/// One row for each mix, one column for each peer that has an arena to fill.
fn fills(figures: &Figures) -> Table {
    let peers = distinct(figures.fills.iter().map(|fill| fill.peer));
    let mut table = table(&[&[""], peers.as_slice()].concat(), 1);
    for mix in distinct(figures.fills.iter().map(|fill| fill.mix)) {
        let cell = |&peer: &&str| match figures.filled(mix, peer) {
            Some(result) => format!("{:.3}, {:.3}", result.fresh, result.churned),
            None => "–".to_owned(),
        };
        table.add_row(std::iter::once(mix.to_owned()).chain(peers.iter().map(cell)));
    }
    table
}

/// One row for each series that has runs.
pub(crate) fn series_table(figures: &Figures, of: &[&Series]) -> Table {
    let header =
        ["", "peer", "workers", "best", "median", "min..max", "unit", "cpu ns/op", "cores", "× talc", "× harness"];
    let mut table = table(&header, 2);
    for series in of {
        // How many times as fast as the other, best against best.
        let times = |other: &str| match figures.best(series.workload, series.workers, other) {
            Some(other) if series.rising => number(series.best() / other),
            Some(other) => number(other / series.best()),
            None => number(f64::NAN),
        };
        table.add_row([
            series.workload.to_owned(),
            series.peer.to_owned(),
            series.workers.to_string(),
            number(series.best()),
            number(series.median()),
            match series.runs.is_empty() {
                true => number(f64::NAN),
                false => format!("{}..{}", number(series.least()), number(series.most())),
            },
            series.unit.to_owned(),
            number(series.best_run().map_or(f64::NAN, |run| run.processor)),
            series.best_run().map_or("–".to_owned(), |run| format!("{:.0} %", 100.0 * run.share)),
            times(TALC),
            times(HARNESS),
        ]);
    }
    table
}

/// Who has no (more) runs, and why; each reason once.
pub(crate) fn ends(series: &[Series]) {
    let mut seen = vec![];
    for series in series {
        if let Some(end) = &series.end {
            let this = (series.peer, end.as_str());
            if !seen.contains(&this) {
                println!("{}: {end}", series.peer);
                seen.push(this);
            }
        }
    }
    if !seen.is_empty() {
        println!();
    }
}

/// Who refused requests, and how many in the run that refused most.
pub(crate) fn refusals(series: &[Series]) {
    for series in series {
        let most = series.runs.iter().map(|run| run.refused).max().unwrap_or(0);
        if most > 0 {
            let Series { workload, workers, peer, .. } = series;
            println!("{peer}, {workload} with {workers}: refused up to {most} requests in a run");
        }
    }
}

/// How quiet the machine was.
pub(crate) fn noise(noise: &[Noise]) {
    let header = ["section", "round trip before, ns", "after, ns", "others' share", "stolen"];
    let mut table = table(&header, 1);
    for noise in noise {
        let percent = |share: f64| if share.is_nan() { "–".to_owned() } else { format!("{:.1} %", 100.0 * share) };
        table.add_row([
            noise.section.clone(),
            number(noise.round_trip_before_ns),
            number(noise.round_trip_after_ns),
            percent(noise.others),
            percent(noise.stolen),
        ]);
    }
    println!("Noise: a message from core to core and back; processor time of other programs and of other guests.\n");
    println!("{table}\n");
}
