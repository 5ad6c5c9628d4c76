//! Predictions: the runs, their tables, CSV files and plot.

use crate::calibrate::Measured;
use crate::files::{self, Folders};
use crate::model::costs::Costs;
use crate::model::family::Family;
use crate::model::workloads::{self, Plan, Workload, simulate};
use crate::style::{self, Mark, Panel, Scale, Words};
use crate::support::Outcome;
use crate::support::conductor::DISTURBED;
use crate::support::machine::Origin;
use crate::support::registry::{HARNESS, MALLOC, MATRIX, PROCESSES, TALC};
use crate::support::report::{self, number};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The distances of a whole run, in nanoseconds a transfer: those in which two virtual cores of one machine
/// were found, by round trips of 94 and of about 500 ns. Cores of one die are near, those of different dies
/// far.
const DISTANCES: [f64; 2] = [25.0, 125.0];
/// The seeds of a whole run: with many cores one sample says little.
pub(crate) const SEEDS: [u64; 3] = [1, 2, 3];

/// One prediction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Says in each row that nothing here was measured, but for the column `measured`.
    pub(crate) method: String,
    pub(crate) workload: Workload,
    #[serde(rename = "simulated_cores")]
    pub(crate) cores: usize,
    pub(crate) transfer_ns: f64,
    /// `near` and `far` of a whole run, `calibrated` where the points were measured, else `given`.
    pub(crate) distance: String,
    pub(crate) seed: u64,
    pub(crate) simulated: f64,
    pub(crate) unit: String,
    /// The rate of the fewest cores, times the cores; of a topic, which has one publisher, that rate.
    pub(crate) ideal: f64,
    /// Share of the cores' time between asking for lines and their coming (some of it behind the cores' back:
    /// stores and prefetches),
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
type Calibrated = (Costs, Vec<Measured>, Origin);

/// What is kept of a calibrated machine: in these folders, or in the repository's.
pub(crate) fn machine(folders: &Folders) -> Outcome<Calibrated> {
    let repository = Folders::make(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../papers"))?;
    for folders in [folders, &repository] {
        let path = folders.csv("simulated-machine");
        if let Some(costs) = files::read::<Costs>(&path)?.first() {
            return Ok((*costs, files::read(&folders.csv("simulated-points"))?, files::read(&path)?.remove(0)));
        }
    }
    Err("no costs of a simulated machine are kept: cargo bench --bench simulate -- --calibrate".into())
}

/// Keeps what was measured of this machine.
pub(crate) fn keep(folders: &Folders, costs: Costs, points: &[Measured], origin: &Origin) -> Outcome<()> {
    files::write(&folders.csv("simulated-machine"), &[(costs, origin)])?;
    let points: Vec<_> = points.iter().map(|point| (point, origin)).collect();
    files::write(&folders.csv("simulated-points"), &points)
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    workload: Workload,
    transfer: f64,
    cores: usize,
    seed: u64,
}

/// What is to be simulated.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    family: Family,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) cores: Vec<usize>,
    pub(crate) transfers: Vec<f64>,
    /// What a transfer took while the points were measured: simulated at one and two cores only, to be held
    /// against them.
    calibrated: f64,
    /// One sample each.
    pub(crate) seeds: Vec<u64>,
    /// Batches of a class that the transfer cache holds, if not as many as in production.
    pub(crate) batches: Option<usize>,
    /// Virtual microseconds before anything is counted, and counted.
    pub(crate) warm_up: f64,
    pub(crate) counted: f64,
}

impl Task {
    /// All workloads of a family, near and far, and what was measured.
    pub(crate) fn new(folders: &Folders, family: Family, cores: &[usize], length: (f64, f64)) -> Outcome<Self> {
        let calibrated = machine(folders)?.0.transfer;
        let (warm_up, counted) = length;
        Ok(Self {
            family,
            workloads: family.workloads().to_vec(),
            cores: cores.to_vec(),
            transfers: [DISTANCES.as_slice(), &[calibrated]].concat(),
            calibrated,
            seeds: SEEDS.to_vec(),
            batches: None,
            warm_up,
            counted,
        })
    }
    /// Runs it, writes the files and the plot.
    pub(crate) fn run(&self, folders: &Folders, say: impl Fn(&str) + Sync) -> Outcome<(Vec<Row>, Vec<Traffic>)> {
        let (costs, points, origin) = machine(folders)?;
        let (rows, lines) = predict(self, costs, &points, say);
        write(folders, self.family, &rows, &lines, &origin)?;
        draw(folders, self.family)?;
        Ok((rows, lines))
    }
    pub(crate) fn runs(&self) -> Vec<Run> {
        let mut runs = vec![];
        for &workload in &self.workloads {
            for &transfer in &self.transfers {
                let most = if transfer == self.calibrated { 2 } else { usize::MAX };
                let cores = self.cores.iter().filter(|&&cores| (workload.least_cores()..=most).contains(&cores));
                let seeds = |cores| match cores > self.family.most_cores_of_all_seeds() {
                    true => &self.seeds[..1],
                    false => &self.seeds[..],
                };
                let each = |&cores| seeds(cores).iter().map(move |&seed| Run { workload, transfer, cores, seed });
                runs.extend(cores.flat_map(each));
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

/// Runs everything, as many at a time as this machine has processors; what comes out does not depend on that.
fn predict(task: &Task, costs: Costs, measured: &[Measured], say: impl Fn(&str) + Sync) -> (Vec<Row>, Vec<Traffic>) {
    let runs = task.runs();
    let mut outcomes: Vec<Option<workloads::Outcome>> = vec![None; runs.len()];
    // The longest begin first.
    let mut order: Vec<_> = runs.iter().zip(&mut outcomes).collect();
    order.sort_by_key(|(run, _)| run.cores);
    let todo = Mutex::new(order);
    let work = || {
        while let Some((run, outcome)) = { todo.lock().unwrap_or_else(PoisonError::into_inner).pop() } {
            let Run { workload, transfer, cores, seed } = *run;
            say(&format!("simulated {}, {cores} core(s), {transfer:.0} ns a transfer, seed {seed}", workload.name()));
            let plan = Plan { cores, seed, batches: task.batches, warm_up: task.warm_up, counted: task.counted };
            *outcome = Some(simulate(workload, Costs { transfer, ..costs }, plan));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (mut rows, mut lines) = (Vec::<Row>::new(), vec![]);
    for (Run { workload, transfer, cores, seed }, outcome) in runs.into_iter().zip(outcomes.into_iter().flatten()) {
        let first = rows.iter().find(|row| (row.workload, row.transfer_ns, row.seed) == (workload, transfer, seed));
        let (least, rate) = first.map_or((cores, outcome.rate), |row| (row.cores, row.simulated));
        let gain = if workload.may_gain() { cores as f64 / least as f64 } else { 1.0 };
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
            distance: distance(transfer, costs.transfer).to_owned(),
            seed,
            simulated: outcome.rate,
            unit: workload.unit().to_owned(),
            ideal: rate * gain,
            waiting: outcome.seen.waited() as f64 / time,
            queued: queued as f64 / time,
            barriers: outcome.seen.barriers,
            measured: point,
            error_percent: point.map(|point| (outcome.rate / point - 1.0) * 100.0),
        });
        if task.seeds.first() == Some(&seed) {
            lines.extend(traffic(workload, transfer, cores, &outcome));
        }
    }
    (rows, lines)
}

fn distance(transfer: f64, calibrated: f64) -> &'static str {
    match transfer {
        ns if ns == calibrated => "calibrated",
        ns if ns == DISTANCES[0] => "near",
        ns if ns == DISTANCES[1] => "far",
        _ => "given",
    }
}

/// The rows that differ by their seed alone, in their order.
fn by_seed(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = vec![];
    for row in rows {
        let same = |it: &Row| (it.workload, it.transfer_ns, it.cores) == (row.workload, row.transfer_ns, row.cores);
        match groups.iter_mut().find(|group| same(group[0])) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// The least, the median and the most of a value.
fn spread(rows: &[&Row], value: impl Fn(&Row) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = rows.iter().map(|row| value(row)).collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

pub(crate) fn print(rows: &[Row], lines: &[Traffic]) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let header = [
        "workload",
        "ns a transfer",
        "cores",
        "simulated",
        "least to most",
        "unit",
        "of ideal",
        "waiting",
        "queued",
        "barriers",
        "measured",
        "error",
    ];
    let mut table = report::table(&header, 1);
    for seeds in by_seed(rows) {
        let row = seeds[0];
        let [least, median, most] = spread(&seeds, |row| row.simulated);
        let middle = |value: fn(&Row) -> f64| spread(&seeds, value)[1];
        table.add_row([
            row.workload.name().to_owned(),
            number(row.transfer_ns),
            row.cores.to_string(),
            number(median),
            format!("{} to {}", number(least), number(most)),
            row.unit.clone(),
            percent(middle(|row| row.simulated / row.ideal)),
            percent(middle(|row| row.waiting)),
            percent(middle(|row| row.queued)),
            number(middle(|row| row.barriers as f64)),
            row.measured.map_or("–".to_owned(), number),
            row.measured.map_or("–".to_owned(), |point| format!("{:+.1} %", (median / point - 1.0) * 100.0)),
        ]);
    }
    println!(
        "SIMULATION, not measured (the column \"measured\" is): rates by virtual time, medians of the \
            seeds\n\n{table}\n"
    );
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

fn write(folders: &Folders, family: Family, rows: &[Row], lines: &[Traffic], origin: &Origin) -> Outcome<()> {
    files::write(&folders.csv(family.rates()), &rows.iter().map(|row| (row, origin)).collect::<Vec<_>>())?;
    files::write(&folders.csv(family.lines()), &lines.iter().map(|line| (line, origin)).collect::<Vec<_>>())
}

/// Draws a family's plot from its file, if that is there.
pub(crate) fn draw(folders: &Folders, family: Family) -> Outcome<Option<String>> {
    let path = folders.csv(family.rates());
    let Some(origin) = files::read::<Origin>(&path)?.first().map(Origin::caption) else { return Ok(None) };
    let name = format!("{}.svg", family.rates());
    plot(&files::read::<Row>(&path)?, &origin, &folders.figures.join(&name))?;
    Ok(Some(name))
}

fn title_of(workload: Workload) -> &'static str {
    match workload {
        Workload::A => "Simulation of A, mix of sizes",
        Workload::C => "Simulation of C, hand-over in pairs",
        Workload::Strict => "Simulation of A in strict mode",
        Workload::Small => "Simulation of blocks of 4 KiB, 200 live",
        Workload::Large => "Simulation of blocks of 64 KiB, 100 live",
        Workload::Log => "Simulation of 64 B to 256 KiB, 200 live",
        Workload::Channel => "Simulation of one channel for all",
        Workload::Pairs => "Simulation of channels in pairs",
        Workload::Topic => "Simulation of one topic, all but one read",
        Workload::Lock => "Simulation of A behind one lock",
        Workload::PingPong => "Simulation of a word between two cores",
    }
}

fn axis_of(workload: Workload) -> &'static str {
    match workload.unit() {
        "Mmsg/s" => "million messages a second (logarithmic)",
        _ => "million operations a second (logarithmic)",
    }
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
    let subtitle = "predicted by discrete events with the production heap, not measured, except for the points \
        marked so; medians, bars from least to most of the seeds";
    let origin = format!("calibrated on {origin}");
    style::figure(path, (1320, 540), title, subtitle, &origin, |area| {
        let (panels, below) = area.split_vertically(area.dim_in_pixel().1 as i32 - 34);
        for (area, &workload) in panels.split_evenly((1, workloads.len().max(1))).iter().zip(&workloads) {
            let own: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
            let mut cores: Vec<f64> = own.iter().map(|row| row.cores as f64).collect();
            cores.sort_by(f64::total_cmp);
            cores.dedup();
            let (name, unit) = (title_of(workload), axis_of(workload));
            let values = own.iter().flat_map(|row| [row.simulated, row.ideal]);
            let words = Words { title: name, x: "cores (logarithmic)", y: unit, left: 52 };
            let panel = Panel::new(area, &words, Scale::places(&cores), Scale::log(values))?;
            for (place, &transfer) in transfers.iter().enumerate() {
                let of = rows.iter().filter(|row| (row.workload, row.transfer_ns) == (workload, transfer));
                let of: Vec<Row> = of.cloned().collect();
                let seeds = by_seed(&of);
                let points = |value: fn(&Row) -> f64| -> Vec<(f64, f64)> {
                    seeds.iter().map(|rows| (rows[0].cores as f64, spread(rows, value)[1])).collect()
                };
                if place == 0 {
                    panel.line(&points(|row| row.ideal), ideal, true)?;
                }
                if of.iter().any(|row| row.cores > 2) {
                    panel.line(&points(|row| row.simulated), simulated(place), false)?;
                }
                for rows in &seeds {
                    let [least, _, most] = spread(rows, |row| row.simulated);
                    let cores = rows[0].cores as f64;
                    panel.line(&[(cores, least), (cores, most)], simulated(place), false)?;
                }
                panel.markers(&points(|row| row.simulated), simulated(place))?;
                let known = seeds.iter().filter_map(|rows| Some((rows[0].cores as f64, rows[0].measured?)));
                panel.markers(&known.collect::<Vec<_>>(), measured)?;
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
