//! Tables and files.

use super::Outcome;
use super::arguments::Arguments;
use super::conductor::{Figures, HARNESS, Run, TALC};
use super::targets;
use comfy_table::{CellAlignment, Table, presets};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The files asked for, made before the measurements, so that a wrong path costs no time.
pub(crate) struct Files {
    csv: Option<(PathBuf, File)>,
    json: Option<(PathBuf, File)>,
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
        Ok(Self { csv: create(arguments.csv.as_ref())?, json: create(arguments.json.as_ref())? })
    }

    pub(crate) fn write(&mut self, figures: &Figures) -> Outcome<()> {
        let failed = |path: &Path, error: std::io::Error| format!("can't write {}: {error}", path.display());
        if let Some((path, file)) = &mut self.csv {
            csv(figures, &mut BufWriter::new(file)).map_err(|error| failed(path, error))?;
        }
        if let Some((path, file)) = &mut self.json {
            let all = serde_json::json!({ "figures": figures, "targets": targets::check(figures) });
            let mut out = BufWriter::new(file);
            serde_json::to_writer_pretty(&mut out, &all)?;
            writeln!(out).and_then(|()| out.flush()).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }
}

/// One line for each run. No field holds a quotation mark.
fn csv(figures: &Figures, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "workload,workers,peer,repetition,value,unit,processor_ns_per_operation,share_of_cores")?;
    for series in &figures.series {
        for (repetition, run) in series.runs.iter().enumerate() {
            let (workload, workers, peer, unit) = (series.workload, series.workers, series.peer, series.unit);
            let Run { value, processor, share } = run;
            writeln!(out, "{workload},{workers},\"{peer}\",{repetition},{value},{unit},{processor},{share}")?;
        }
    }
    for packed in &figures.packing {
        writeln!(out, "D,1,\"{}\",0,{},packed,,", packed.peer, packed.result.packed)?;
        writeln!(out, "D,1,\"{}\",0,{},whole,,", packed.peer, packed.result.whole as u8)?;
    }
    out.flush()
}

fn table(header: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header.to_vec());
    for column in numbers_from..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "–".to_owned(),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub(crate) fn print(figures: &Figures, arguments: &Arguments) {
    println!(
        "{} core(s), load {} before and {} after; {} repetition(s) of {} s, peers in turn; 64 MiB each",
        figures.cores, figures.load_before, figures.load_after, arguments.repeat, arguments.seconds
    );
    if !figures.series.is_empty() {
        let header =
            ["", "peer", "workers", "best", "median", "min..max", "unit", "cpu ns/op", "cores", "× talc", "× harness"];
        let mut table = table(&header, 2);
        for series in &figures.series {
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
                format!("{}..{}", number(series.least()), number(series.most())),
                series.unit.to_owned(),
                number(series.best_run().map_or(f64::NAN, |run| run.processor)),
                format!("{:.0} %", 100.0 * series.best_run().map_or(f64::NAN, |run| run.share)),
                times(TALC),
                times(HARNESS),
            ]);
        }
        println!("{table}\n");
        println!(
            "cores: the share of the cores that the best run had; below 90 %, it slept, or something else had them.\n"
        );
    }
    if !figures.packing.is_empty() {
        let mut table = table(&["D", "payload / 64 MiB", "90 % block at the first try"], 1);
        for packed in &figures.packing {
            let whole = if packed.result.whole { "yes" } else { "no" };
            table.add_row([packed.peer.to_owned(), format!("{:.3}", packed.result.packed), whole.to_owned()]);
        }
        println!("{table}\n");
    }
    println!("Targets, best against best:\n");
    let mut table = table(&["AtomicMatrix", "measured", "verdict"], 3);
    for target in targets::check(figures) {
        table.add_row([target.name.clone(), target.measured.clone(), target.verdict.to_string()]);
    }
    println!("{table}\n");
}
