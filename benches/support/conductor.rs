//! Runs everything in turn.

use super::arguments::{Arguments, Workload};
use super::control::Control;
use super::peers::{Malloc, Matrix, Mutex, Nothing, Peer, Spin, Talc};
use super::work::{self, Packing, Role};
use super::{Outcome, Work, processes};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::time::{Duration, Instant};

/// A run with a smaller share of the cores was disturbed.
pub(crate) const DISTURBED: f64 = 0.9;

/// The peers' names.
pub(crate) const HARNESS: &str = "harness alone";
pub(crate) const MATRIX: &str = "AtomicMatrix, threads";
pub(crate) const PROCESSES: &str = "AtomicMatrix, processes";
pub(crate) const STRICT: &str = "AtomicMatrix strict, threads";
pub(crate) const TALC: &str = "talc 5 + spin lock";
pub(crate) const TALC_MUTEX: &str = "talc 5 + Mutex";
pub(crate) const MALLOC: &str = "glibc malloc";
const PEERS: [&str; 7] = [HARNESS, MATRIX, PROCESSES, STRICT, TALC, TALC_MUTEX, MALLOC];

/// One run's figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    /// In the workload's unit.
    pub(crate) value: f64,
    /// Nanoseconds of processor time for one operation, over all workers.
    pub(crate) processor: f64,
    /// Processor time as a share of the cores that the workers could have had: less than 1 if they slept, or if others
    /// (other programs, the hypervisor) had the cores.
    pub(crate) share: f64,
}

/// All runs of one peer in one workload.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    pub(crate) workload: &'static str,
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) rising: bool,
    pub(crate) workers: usize,
    pub(crate) peer: &'static str,
    pub(crate) runs: Vec<Run>,
}

impl Series {
    fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.runs.iter().map(|run| run.value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
    pub(crate) fn least(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }
    pub(crate) fn most(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }
    pub(crate) fn best(&self) -> f64 {
        if self.rising { self.most() } else { self.least() }
    }
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        (at((sorted.len().max(1) - 1) / 2) + at(sorted.len() / 2)) / 2.0
    }
    /// The best run.
    pub(crate) fn best_run(&self) -> Option<&Run> {
        let best = self.best();
        self.runs.iter().find(|run| run.value == best)
    }
}

/// A series' best value; or, if others had the core of a single worker, what its processor time comes to: alone, it waits for
/// nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) value: f64,
    /// The share of the cores behind it.
    pub(crate) share: f64,
    pub(crate) note: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Packed {
    pub(crate) peer: &'static str,
    pub(crate) result: Packing,
}

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) cores: usize,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    pub(crate) seconds: f64,
    pub(crate) series: Vec<Series>,
    pub(crate) packing: Vec<Packed>,
}

impl Figures {
    fn series(&self, workload: &str, workers: usize, peer: &str) -> Option<&Series> {
        self.series.iter().find(|s| (s.workload, s.workers, s.peer) == (workload, workers, peer))
    }
    pub(crate) fn best(&self, workload: &str, workers: usize, peer: &str) -> Option<f64> {
        self.series(workload, workers, peer).map(Series::best)
    }
    /// What targets are judged by.
    pub(crate) fn judged(&self, workload: &str, workers: usize, peer: &str) -> Option<Judged> {
        let series = self.series(workload, workers, peer)?;
        let best = series.best_run()?;
        if workers > 1 || best.share >= DISTURBED {
            return Some(Judged { value: best.value, share: best.share, note: "" });
        }
        let processor = series.runs.iter().map(|run| run.processor).min_by(f64::total_cmp)?;
        let value = if series.rising { 1000.0 / processor } else { processor };
        Some(Judged { value, share: 1.0, note: ", by processor time" })
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Ticks that all cores were idle, and all ticks, since the machine started.
fn ticks() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    Some((fields.get(3)? + fields.get(4)?, fields.iter().take(8).sum()))
}

/// Waits until the machine is idle for nine tenths of a moment, or the limit is over.
fn settle(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(100));
        let (Some((idle, all)), Some((idle_then, all_then))) = (before, ticks()) else { return };
        if (idle_then - idle) * 10 >= (all_then - all) * 9 {
            return;
        }
    }
}

/// One row of the plan: a workload with a number of workers.
struct Setting {
    workload: &'static str,
    unit: &'static str,
    roles: Vec<Role>,
}

fn settings(arguments: &Arguments) -> Vec<Setting> {
    let mut settings = vec![];
    for workload in &arguments.only {
        match workload {
            Workload::Mix => settings.extend(arguments.threads.iter().map(|&workers| Setting {
                workload: "A",
                unit: "Mop/s",
                roles: vec![Role::Mix; workers as usize],
            })),
            Workload::Ping => settings.push(Setting { workload: "B", unit: "ns/pair", roles: vec![Role::Ping] }),
            Workload::HandOver => {
                settings.push(Setting { workload: "C", unit: "Mmsg/s", roles: vec![Role::Produce, Role::Consume] })
            }
            Workload::Packing => {}
        }
    }
    settings
}

pub(crate) fn conduct(arguments: &Arguments) -> Outcome<Figures> {
    let peers: Vec<&'static str> = PEERS.into_iter().filter(|peer| arguments.wants(peer)).collect();
    if peers.is_empty() {
        return Err(format!("no peer's name contains {:?}; there are: {}", arguments.peers, PEERS.join("; ")).into());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut figures = Figures { cores, load_before: load(), seconds: arguments.seconds, ..Figures::default() };
    let settings = settings(arguments);
    let packing = arguments.only.contains(&Workload::Packing);
    let steps = settings.len() * arguments.repeat as usize * peers.len() + packing as usize * peers.len();
    let bar = ProgressBar::new(steps as u64); // On standard error, and hidden unless that is a terminal.
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left: {msg}")?);
    for Setting { workload, unit, roles } in settings {
        let rising = workload != "B";
        let blank = |&peer| Series { workload, unit, rising, workers: roles.len(), peer, runs: vec![] };
        let mut series: Vec<Series> = peers.iter().map(blank).collect();
        for repetition in 0..arguments.repeat as usize {
            // Another one begins each time, so that none always comes after the same.
            for turn in 0..peers.len() {
                let series = &mut series[(repetition + turn) % peers.len()];
                bar.set_message(format!("{workload} with {}, {}", roles.len(), series.peer));
                let run = || {
                    settle(arguments.settle);
                    figure(rising, cores, &measure(series.peer, &roles, arguments.seconds)?)
                };
                let retries = if series.peer == TALC_MUTEX { 0 } else { arguments.retry }; // Those sleep by themselves.
                series.runs.push(undisturbed(retries, run)?);
                bar.inc(1);
            }
        }
        figures.series.extend(series);
    }
    if packing {
        for peer in peers {
            bar.set_message(format!("D, {peer}"));
            let result = match peer {
                MATRIX => work::pack(&Matrix::create(false)?.hide()?),
                STRICT => work::pack(&Matrix::create(true)?.hide()?),
                TALC => work::pack(&Talc::<Spin>::create()?),
                _ => None,
            };
            figures.packing.extend(result.map(|result| Packed { peer, result }));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    figures.load_after = load();
    Ok(figures)
}

/// A run that had its cores, or of some that had not, the one that had most of them. Looks at no other figure.
fn undisturbed(retries: u32, mut run: impl FnMut() -> Outcome<Run>) -> Outcome<Run> {
    let mut kept = run()?;
    for _ in 0..retries {
        if kept.share >= DISTURBED {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        let again = run()?;
        if again.share > kept.share {
            kept = again;
        }
    }
    Ok(kept)
}

/// One run of one peer, with an arena of its own.
fn measure(peer: &str, roles: &[Role], seconds: f64) -> Outcome<Work> {
    match peer {
        MATRIX => threads(&Matrix::create(false)?.hide()?, roles, seconds),
        STRICT => threads(&Matrix::create(true)?.hide()?, roles, seconds),
        PROCESSES => processes::run(roles, seconds),
        TALC => threads(&Talc::<Spin>::create()?, roles, seconds),
        TALC_MUTEX => threads(&Talc::<Mutex>::create()?, roles, seconds),
        MALLOC => threads(&Malloc, roles, seconds),
        _ => threads(&Nothing, roles, seconds),
    }
}

fn threads<P: Peer>(peer: &P, roles: &[Role], seconds: f64) -> Outcome<Work> {
    let control = &*Control::on_heap();
    std::thread::scope(|scope| {
        let worker = |(number, &role)| scope.spawn(move || work::run(peer, control, role, number as u64));
        let workers: Vec<_> = roles.iter().enumerate().map(worker).collect();
        while (control.ready() as usize) < roles.len() {
            if workers.iter().any(|worker| worker.is_finished()) {
                control.stop(); // One panicked: call the others off.
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let window = control.conduct(seconds);
        let ended = workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker thread panicked".into()));
        Ok(Work { done: ended.collect::<Outcome<_>>()?, window })
    })
}

fn figure(rising: bool, cores: usize, Work { done, window }: &Work) -> Outcome<Run> {
    let operations: u64 = done.iter().map(|done| done.operations).sum();
    if operations == 0 {
        return Err("a run did nothing: give it more time (--seconds)".into());
    }
    let processor: u64 = done.iter().map(|done| done.processor).sum();
    let window = window.as_nanos() as f64;
    let rate = operations as f64 / window; // Operations in a nanosecond.
    Ok(Run {
        value: if rising { rate * 1000.0 } else { 1.0 / rate },
        processor: processor as f64 / operations as f64,
        share: processor as f64 / (window * done.len().min(cores) as f64),
    })
}
