//! Predictions: the runs, their tables, CSV files and plot.

use crate::calibrate::Measured;
use crate::files::{self, Folders, Origin};
use crate::model::costs::Costs;
use crate::model::workloads::{self, Plan, Workload, simulate};
use crate::style::{self, Mark, Panel, Scale, Words};
use crate::support::Outcome;
use crate::support::conductor::DISTURBED;
use crate::support::registry::{HARNESS, MALLOC, MATRIX, PROCESSES, TALC};
use crate::support::report::{self, number};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::path::Path;

/// The distances of a whole run, in nanoseconds a transfer: those in which two virtual cores of one machine were found, by round trips
/// of 94 and of about 500 ns. Cores of one die are near, those of different dies far.
const DISTANCES: [f64; 2] = [25.0, 125.0];

/// One prediction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Says in each row that nothing here was measured, but for the column `measured`.
    pub(crate) method: String,
    pub(crate) workload: Workload,
    #[serde(rename = "simulated_cores")]
    pub(crate) cores: usize,
    pub(crate) transfer_ns: f64,
    pub(crate) seed: u64,
    pub(crate) simulated: f64,
    pub(crate) unit: String,
    /// The rate of the fewest cores, times the cores.
    pub(crate) ideal: f64,
    /// Share of the cores' time between asking for lines and their coming (some of it behind the cores' back: stores and prefetches),
    pub(crate) waiting: f64,
    /// and the part of it behind other transfers of the same line.
    pub(crate) queued: f64,
    pub(crate) barriers: u64,
    /// The best measured rate, where there is one, and how far the prediction is off.
    pub(crate) measured: Option<f64>,
    pub(crate) error_percent: Option<f64>,
}

/// What is waited for in a run: one kind of line at one site, or one line at all sites.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) workload: Workload,
    #[serde(rename = "simulated_cores")]
    pub(crate) cores: usize,
    pub(crate) transfer_ns: f64,
    pub(crate) line: String,
    pub(crate) site: String,
    pub(crate) transfers: Option<u64>,
    pub(crate) waited_us: f64,
    pub(crate) queued_us: Option<f64>,
    /// Of everything waited for in this run.
    pub(crate) share: f64,
}

/// The calibrated machine: its costs, the points measured there, and which machine it was.
pub(crate) fn machine() -> Outcome<(Costs, Vec<Measured>, Origin)> {
    let data = Folders::make(&Path::new(env!("CARGO_MANIFEST_DIR")).join("papers"))?;
    let path = data.csv("simulated-machine");
    let costs: Costs =
        *files::read(&path)?.first().ok_or("no costs yet: cargo bench --bench simulate -- --calibrate")?;
    Ok((costs, files::read(&data.csv("simulated-points"))?, files::read(&path)?.remove(0)))
}

/// What is to be simulated.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) cores: Vec<usize>,
    pub(crate) transfers: Vec<f64>,
    /// What a transfer took while the points were measured: simulated at one and two cores only, to be held against them.
    calibrated: f64,
    pub(crate) seed: u64,
    /// Batches of a class that the exchange holds, if not as many as in production.
    pub(crate) batches: Option<usize>,
    /// Virtual microseconds before anything is counted, and counted.
    pub(crate) warm_up: f64,
    pub(crate) counted: f64,
}

impl Task {
    /// All workloads, near and far, and what was measured.
    pub(crate) fn new(cores: &[usize], warm_up: f64, counted: f64) -> Outcome<Self> {
        let calibrated = machine()?.0.transfer;
        let workloads = vec![Workload::A, Workload::C, Workload::Strict];
        Ok(Self {
            workloads,
            cores: cores.to_vec(),
            transfers: [DISTANCES.as_slice(), &[calibrated]].concat(),
            calibrated,
            seed: 1,
            batches: None,
            warm_up,
            counted,
        })
    }
    /// Runs it, writes the files and the plot.
    pub(crate) fn run(&self, folders: &Folders, say: impl FnMut(&str)) -> Outcome<(Vec<Row>, Vec<Traffic>)> {
        let (costs, points, origin) = machine()?;
        let (rows, lines) = predict(self, costs, &points, say);
        write(folders, &rows, &lines, &origin)?;
        draw(folders)?;
        Ok((rows, lines))
    }
    pub(crate) fn runs(&self) -> Vec<(Workload, f64, usize)> {
        let mut runs = vec![];
        for &workload in &self.workloads {
            for &transfer in &self.transfers {
                let most = if transfer == self.calibrated { 2 } else { usize::MAX };
                let cores = self.cores.iter().filter(|&&cores| (workload.least_cores()..=most).contains(&cores));
                runs.extend(cores.map(|&cores| (workload, transfer, cores)));
            }
        }
        runs
    }
}

fn traffic(workload: Workload, transfer_ns: f64, cores: usize, outcome: &workloads::Outcome) -> Vec<Traffic> {
    let all = outcome.seen.waited().max(1) as f64;
    let us = |ps: u64| ps as f64 / 1e6;
    let row = |line: String, site: &str, waited: u64| Traffic {
        workload,
        cores,
        transfer_ns,
        line,
        site: site.to_owned(),
        transfers: None,
        waited_us: us(waited),
        queued_us: None,
        share: waited as f64 / all,
    };
    let mut kinds: Vec<_> = outcome.seen.waits.iter().collect();
    kinds.sort_by_key(|(_, waits)| Reverse(waits.waited));
    let kinds = kinds.into_iter().take(12).map(|(&(kind, site), waits)| Traffic {
        transfers: Some(waits.transfers),
        queued_us: Some(us(waits.queued)),
        ..row(kind.to_owned(), site, waits.waited)
    });
    let lines = outcome.seen.hottest.iter().map(|(line, waited)| row(line.clone(), "(this line, all sites)", *waited));
    kinds.chain(lines).collect()
}

/// Runs everything, one after the other.
fn predict(task: &Task, costs: Costs, measured: &[Measured], mut say: impl FnMut(&str)) -> (Vec<Row>, Vec<Traffic>) {
    let (mut rows, mut lines) = (Vec::<Row>::new(), vec![]);
    for (workload, transfer, cores) in task.runs() {
        say(&format!("simulated {}, {cores} core(s), {transfer:.0} ns a transfer", workload.name()));
        let plan = Plan { cores, seed: task.seed, batches: task.batches, warm_up: task.warm_up, counted: task.counted };
        let outcome = simulate(workload, Costs { transfer, ..costs }, plan);
        let first = rows.iter().find(|row| row.workload == workload && row.transfer_ns == transfer);
        let each = first.map_or(outcome.rate / cores as f64, |row| row.simulated / row.cores as f64);
        // The points were measured at this machine's own distance.
        let point = measured.iter().find(|point| point.workload == workload && point.cores == cores);
        // Nor does one that others disturbed say anything.
        let valid = |point: &&Measured| transfer == costs.transfer && point.share >= DISTURBED;
        let point = point.filter(valid).map(|point| point.best);
        let time = task.counted * 1e6 * cores as f64;
        let queued: u64 = outcome.seen.waits.values().map(|waits| waits.queued).sum();
        rows.push(Row {
            method: "simulation".to_owned(),
            workload,
            cores,
            transfer_ns: transfer,
            seed: task.seed,
            simulated: outcome.rate,
            unit: workload.unit().to_owned(),
            ideal: each * cores as f64,
            waiting: outcome.seen.waited() as f64 / time,
            queued: queued as f64 / time,
            barriers: outcome.seen.barriers,
            measured: point,
            error_percent: point.map(|point| (outcome.rate / point - 1.0) * 100.0),
        });
        lines.extend(traffic(workload, transfer, cores, &outcome));
    }
    (rows, lines)
}

pub(crate) fn print(rows: &[Row], lines: &[Traffic]) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let header = [
        "workload",
        "ns a transfer",
        "cores",
        "simulated",
        "unit",
        "of ideal",
        "waiting",
        "queued",
        "barriers",
        "measured",
        "error",
    ];
    let mut table = report::table(&header, 1);
    for row in rows {
        table.add_row([
            row.workload.name().to_owned(),
            number(row.transfer_ns),
            row.cores.to_string(),
            number(row.simulated),
            row.unit.clone(),
            percent(row.simulated / row.ideal),
            percent(row.waiting),
            percent(row.queued),
            row.barriers.to_string(),
            row.measured.map_or("–".to_owned(), number),
            row.error_percent.map_or("–".to_owned(), |error| format!("{error:+.1} %")),
        ]);
    }
    println!("SIMULATION, not measured (the column \"measured\" is): rates by virtual time\n\n{table}\n");
    for (workload, transfer, cores) in hot_runs(lines) {
        let mut table = report::table(&["line", "site", "transfers", "waited, µs", "queued, µs", "share"], 2);
        for line in
            lines.iter().filter(|line| (line.workload, line.transfer_ns, line.cores) == (workload, transfer, cores))
        {
            table.add_row([
                line.line.clone(),
                line.site.clone(),
                line.transfers.map_or("–".to_owned(), |n| n.to_string()),
                number(line.waited_us),
                line.queued_us.map_or("–".to_owned(), number),
                percent(line.share),
            ]);
        }
        println!(
            "SIMULATION: what {} waits for at {cores} cores, {transfer:.1} ns a transfer\n\n{table}\n",
            workload.name()
        );
    }
}

/// The runs whose traffic is printed: 64 cores, or the most below, at the first distance.
fn hot_runs(lines: &[Traffic]) -> Vec<(Workload, f64, usize)> {
    let mut runs: Vec<(Workload, f64, usize)> = vec![];
    for line in lines.iter().filter(|line| line.cores <= 64) {
        match runs.iter_mut().find(|run| run.0 == line.workload) {
            Some(run) if run.1 == line.transfer_ns => run.2 = run.2.max(line.cores),
            Some(_) => {}
            None => runs.push((line.workload, line.transfer_ns, line.cores)),
        }
    }
    runs
}

fn write(folders: &Folders, rows: &[Row], lines: &[Traffic], origin: &Origin) -> Outcome<()> {
    files::write(&folders.csv("simulated-scaling"), &rows.iter().map(|row| (row, origin)).collect::<Vec<_>>())?;
    files::write(&folders.csv("simulated-lines"), &lines.iter().map(|line| (line, origin)).collect::<Vec<_>>())
}

/// Draws the plot from the file, if it is there.
pub(crate) fn draw(folders: &Folders) -> Outcome<bool> {
    let path = folders.csv("simulated-scaling");
    let Some(origin) = files::read::<Origin>(&path)?.first().map(Origin::caption) else { return Ok(false) };
    plot(&files::read::<Row>(&path)?, &origin, &folders.figures.join("simulated-scaling.svg"))?;
    Ok(true)
}

fn plot(rows: &[Row], origin: &str, path: &Path) -> Outcome<()> {
    let mut workloads: Vec<Workload> = vec![];
    let mut transfers: Vec<f64> = vec![];
    for row in rows {
        if !workloads.contains(&row.workload) {
            workloads.push(row.workload);
        }
        if !transfers.contains(&row.transfer_ns) {
            transfers.push(row.transfer_ns);
        }
    }
    // The distance of the measured points has one and two cores only: marks, no line.
    let line = |&transfer: &f64| rows.iter().any(|row| row.transfer_ns == transfer && row.cores > 2);
    let (lines, points): (Vec<f64>, Vec<f64>) = transfers.into_iter().partition(line);
    let transfers = [lines, points].concat();
    let ideal = style::mark(HARNESS, 0);
    let measured = Mark { shape: 1, ..style::mark(MALLOC, 0) };
    let simulated = |place: usize| match place {
        0 => style::mark(MATRIX, 0),
        1 => style::mark(PROCESSES, 0),
        _ => style::mark(TALC, 0),
    };
    let title = "Simulation: predicted scaling of AtomicMatrix";
    let subtitle = "predicted by discrete events with the production heap, not measured, except for the points marked so; see papers/simulation.md";
    let origin = format!("calibrated on {origin}");
    style::figure(path, (1320, 540), title, subtitle, &origin, |area| {
        let (panels, below) = area.split_vertically(area.dim_in_pixel().1 as i32 - 34);
        for (area, &workload) in panels.split_evenly((1, workloads.len().max(1))).iter().zip(&workloads) {
            let own: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
            let mut cores: Vec<f64> = own.iter().map(|row| row.cores as f64).collect();
            cores.sort_by(f64::total_cmp);
            cores.dedup();
            let (name, unit) = match workload {
                Workload::A => ("Simulation of A, mix of sizes", "million operations a second (logarithmic)"),
                Workload::C => ("Simulation of C, hand-over in pairs", "million messages a second (logarithmic)"),
                Workload::Strict => ("Simulation of A in strict mode", "million operations a second (logarithmic)"),
                _ => ("Simulation of A behind one lock", "million operations a second (logarithmic)"),
            };
            let values = own.iter().flat_map(|row| [row.simulated, row.ideal]);
            let words = Words { title: name, x: "cores (logarithmic)", y: unit, left: 52 };
            let panel = Panel::new(area, &words, Scale::places(&cores), Scale::log(values))?;
            for (place, &transfer) in transfers.iter().enumerate() {
                let of = || own.iter().filter(|row| row.transfer_ns == transfer);
                if place == 0 {
                    panel.line(&of().map(|row| (row.cores as f64, row.ideal)).collect::<Vec<_>>(), ideal, true)?;
                }
                let points: Vec<_> = of().map(|row| (row.cores as f64, row.simulated)).collect();
                if own.iter().any(|row| row.transfer_ns == transfer && row.cores > 2) {
                    panel.line(&points, simulated(place), false)?;
                }
                panel.markers(&points, simulated(place))?;
                let points: Vec<_> = of().filter_map(|row| Some((row.cores as f64, row.measured?))).collect();
                panel.markers(&points, measured)?;
            }
        }
        let mut names = vec![("ideal".to_owned(), ideal), ("measured, best".to_owned(), measured)];
        let all = transfers.iter().enumerate();
        names.extend(all.map(|(place, ns)| (format!("simulated, {ns:.0} ns a transfer"), simulated(place))));
        for (name, area) in names.into_iter().zip(below.split_evenly((1, 5))) {
            style::legend(&area, &[name])?;
        }
        Ok(())
    })
}
