//! Predicts how the heap scales on machines larger than this one: a simulation, not a measurement.
//!
//! ```console
//! cargo bench --bench simulate                  # everything at 1 to 128 cores: papers/data, papers/figures; 20 min
//! cargo bench --bench simulate -- --quick       # up to 8 cores, a second
//! cargo bench --bench simulate -- --calibrate   # measures this machine first
//! ```
//!
//! The production heap runs on words of a simulated machine (`model/machine.rs`): virtual time, a directory
//! of cache lines, a cost for each transfer. `papers/simulation.md` has the method, what the costs come from,
//! how well the measured points are met, and the limits. Deterministic by `--seed`.

mod calibrate;
#[path = "../reproduce/files.rs"]
mod files;
mod model;
mod predict;
#[path = "../reproduce/style.rs"]
#[allow(dead_code, reason = "one plot needs a part of it")]
mod style;
#[path = "../support/mod.rs"]
mod support;

use clap::Parser;
use files::Folders;
use indicatif::{ProgressBar, ProgressStyle};
use model::family::Family;
use model::machine::MOST;
use model::workloads::Workload;
use predict::{SEEDS, Task};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use support::Outcome;
use support::arguments::Cargo;
use support::machine::{Machine, Origin};

/// Predicts scaling beyond this machine, by simulation.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// Up to 8 cores and a short virtual time: shows that it runs.
    #[arg(long)]
    quick: bool,
    /// Numbers of cores; what needs two or more leaves out those below.
    #[arg(long, value_delimiter = ',', value_name = "N,...",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=MOST as u64))]
    cores: Vec<usize>,
    /// Workloads; `lock` is the mix behind one lock, to see that the simulation tells good from bad.
    #[arg(long, value_enum, ignore_case = true, value_delimiter = ',',
          default_values = ["A", "C", "strict", "4KiB", "64KiB", "log", "channel", "pairs", "topic"])]
    workload: Vec<Workload>,
    /// The same seed gives the same figures; one sample each.
    #[arg(long, value_delimiter = ',', default_values_t = SEEDS, value_name = "N,...")]
    seed: Vec<u64>,
    /// Nanoseconds that a line takes from core to core, instead of 25 (near) and 125 (far).
    #[arg(long, value_delimiter = ',', value_name = "NS,...")]
    transfer: Vec<f64>,
    /// Virtual microseconds before anything is counted.
    #[arg(long, value_name = "US")]
    warm_up: Option<f64>,
    /// Batches of each class that the transfer cache holds, instead of production's 64: to see what depends on them.
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    batches: Option<usize>,
    /// Measures costs and points on this machine first (about a minute), and writes them to papers/data.
    #[arg(long)]
    calibrate: bool,
    /// Prints the rows as CSV instead of tables.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Prints rows and traffic as JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// The folder with data/ and figures/. Partial runs write to a folder under the build's unless this is given.
    #[arg(long, value_name = "FOLDER")]
    papers: Option<PathBuf>,
    #[command(flatten)]
    cargo: Cargo,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    if !arguments.cargo.means("simulate") {
        return Ok(());
    }
    let quick = arguments.quick || arguments.cargo.only_tests();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../papers");
    // What of each family is asked for.
    let of =
        |family: Family| arguments.workload.iter().copied().filter(move |&workload| Family::of(workload) == family);
    let families: Vec<_> = Family::ALL.into_iter().filter(|&family| of(family).next().is_some()).collect();
    let whole = !quick
        && (arguments.cores.is_empty() && arguments.transfer.is_empty() && arguments.warm_up.is_none())
        && arguments.batches.is_none()
        && (families.iter().all(|&family| of(family).eq(family.workloads().iter().copied())))
        && arguments.seed == SEEDS;
    let papers = arguments.papers.clone().unwrap_or_else(|| match whole {
        true => root.clone(),
        false => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("papers"),
    });
    let machine = Folders::make(&root)?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed}: {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(250));
    if arguments.calibrate {
        let (runs, seconds) = if quick { (2, 0.02) } else { (201, 0.02) };
        let (costs, points) = calibrate::calibrate(runs, seconds, |what| bar.set_message(what.to_owned()))?;
        let origin = Origin::new("calibrate", &Machine::this());
        predict::keep(&machine, costs, &points, &origin)?;
    }
    let mut cores = arguments.cores.clone();
    if cores.is_empty() {
        cores = if quick { vec![1, 2, 8] } else { vec![1, 2, 4, 8, 16, 32, 64, 128] };
    }
    let mut tasks = vec![];
    for &family in &families {
        let (warm_up, counted) = if quick { (300.0, 100.0) } else { family.length() };
        let length = (arguments.warm_up.unwrap_or(warm_up), counted);
        let mut task = Task::new(&machine, family, &cores, length)?;
        (task.workloads, task.seeds, task.batches) = (of(family).collect(), arguments.seed.clone(), arguments.batches);
        if !arguments.transfer.is_empty() {
            task.transfers = arguments.transfer.clone();
        }
        tasks.push(task);
    }
    bar.set_length(tasks.iter().map(|task| task.runs().len() as u64).sum());
    let folders = Folders::make(&papers)?;
    let (mut rows, mut lines) = (vec![], vec![]);
    for task in &tasks {
        let (of_rows, of_lines) = task.run(&folders, |what| {
            bar.set_message(what.to_owned());
            bar.inc(1);
        })?;
        rows.extend(of_rows);
        lines.extend(of_lines);
    }
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&(rows, lines))?);
    } else if arguments.csv {
        let mut writer = csv::Writer::from_writer(std::io::stdout());
        rows.iter().try_for_each(|row| writer.serialize(row))?;
        writer.flush()?;
    } else {
        predict::print(&rows, &lines);
        println!("data: {}\nfigures: {}", folders.data.display(), folders.figures.display());
    }
    Ok(())
}
