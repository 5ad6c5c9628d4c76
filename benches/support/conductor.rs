//! Runs everything in turn.

use super::arguments::{Arguments, Workload};
use super::mixes;
use super::noise::{self, Noise};
use super::registry::Entry;
use super::work::{Filled, Packing, Role};
use super::{Outcome, Work};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::time::{Duration, Instant};

/// A run with a smaller share of the cores was disturbed.
pub(crate) const DISTURBED: f64 = 0.9;

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
    /// Requests that the allocator refused.
    pub(crate) refused: u64,
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
    /// Why there are no (more) runs: not installed, or how it ended.
    pub(crate) end: Option<String>,
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

/// A series' best value; or, if others had the core of a single worker, what its processor time comes to:
/// alone, it waits for nobody.
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

/// One mix's filling of a peer's arena.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fill {
    pub(crate) peer: &'static str,
    pub(crate) mix: &'static str,
    pub(crate) result: Filled,
}

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) cores: usize,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    pub(crate) seconds: f64,
    /// How the run was asked for; in every row.
    pub(crate) profile: String,
    pub(crate) series: Vec<Series>,
    pub(crate) packing: Vec<Packed>,
    pub(crate) fills: Vec<Fill>,
    /// Around each section.
    pub(crate) noise: Vec<Noise>,
}

impl Figures {
    fn series(&self, workload: &str, workers: usize, peer: &str) -> Option<&Series> {
        self.series.iter().find(|s| (s.workload, s.workers, s.peer) == (workload, workers, peer))
    }
    pub(crate) fn best(&self, workload: &str, workers: usize, peer: &str) -> Option<f64> {
        self.series(workload, workers, peer).map(Series::best)
    }
    /// How full a mix makes a peer's arena.
    pub(crate) fn filled(&self, mix: &str, peer: &str) -> Option<Filled> {
        self.fills.iter().find(|fill| (fill.mix, fill.peer) == (mix, peer)).map(|fill| fill.result)
    }
    pub(crate) fn median(&self, workload: &str, workers: usize, peer: &str) -> Option<f64> {
        self.series(workload, workers, peer).map(Series::median).filter(|median| median.is_finite())
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
    workload: Workload,
    name: &'static str,
    unit: &'static str,
    roles: Vec<Role>,
}

impl Setting {
    fn rising(&self) -> bool {
        !matches!(self.workload, Workload::Ping | Workload::First)
    }
}

/// Sizes that are handed over in H, as they are called.
pub(crate) const SIZES: [(&str, u32); 6] = [
    ("H, 128 B", 128),
    ("H, 1 KiB", 1 << 10),
    ("H, 2 KiB", 2 << 10),
    ("H, 4 KiB", 4 << 10),
    ("H, 64 KiB", 64 << 10),
    ("H, 1 MiB", 1 << 20),
];

fn settings(arguments: &Arguments) -> Vec<Setting> {
    let mut settings = vec![];
    let mut add = |workload, name, unit, roles| settings.push(Setting { workload, name, unit, roles });
    for &workload in &arguments.only {
        match workload {
            Workload::Mix | Workload::Seed => {
                let (name, role) = if workload == Workload::Mix { ("A", Role::Mix) } else { ("S", Role::Seed) };
                for &workers in &arguments.threads {
                    add(workload, name, "Mop/s", vec![role; workers as usize]);
                }
            }
            Workload::Ping => add(workload, "B", "ns/pair", vec![Role::Ping]),
            Workload::HandOver => add(workload, "C", "Mmsg/s", vec![Role::Produce, Role::Consume]),
            Workload::Packing | Workload::Filling => {}
            Workload::Wide => {
                for number in arguments.chosen_mixes() {
                    for &workers in &arguments.threads {
                        add(workload, number.mix().name, "Mop/s", vec![Role::Wide(number); workers as usize]);
                    }
                }
            }
            Workload::Sized => {
                for (name, size) in SIZES {
                    add(workload, name, "Mmsg/s", vec![Role::Send(size), Role::Receive(size)]);
                }
            }
            Workload::First => add(workload, "F", "ns/page", vec![Role::First]),
        }
    }
    settings
}

/// Seconds that a run takes besides the measurement, about: its arena's pages are touched.
fn overhead(workload: Workload) -> f64 {
    match workload {
        Workload::Wide | Workload::Sized | Workload::First => 0.3,
        Workload::Filling => 1.5,
        _ => 0.15,
    }
}

/// Seconds that [`conduct`] takes, about.
pub(crate) fn planned(arguments: &Arguments, peers: &[Entry]) -> f64 {
    let chosen = peers.iter().filter(|peer| arguments.wants(peer.name)).count() as f64;
    let each = |setting: &Setting| (arguments.seconds + overhead(setting.workload)) * arguments.repeat as f64;
    let packing = arguments.only.contains(&Workload::Packing) as u8 as f64 * overhead(Workload::Packing);
    let fills = if arguments.only.contains(&Workload::Filling) { fillings(arguments).count() as f64 } else { 0.0 };
    let runs: f64 = settings(arguments).iter().map(each).sum();
    chosen * (runs + packing + fills * overhead(Workload::Filling))
}

/// The mixes that fill an arena.
fn fillings(arguments: &Arguments) -> impl Iterator<Item = mixes::Number> {
    arguments.chosen_mixes().filter(|number| number.is_first_of_its_sizes())
}

/// A bar over the planned seconds, with the time left. On standard error, and hidden unless that is a terminal.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn over(seconds: f64) -> Outcome<Self> {
        let bar = ProgressBar::new((seconds * 1000.0) as u64);
        bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} %, {eta} left: {msg}")?);
        bar.enable_steady_tick(Duration::from_millis(250));
        Ok(Self(bar))
    }
    pub(crate) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }
    /// So many of the planned seconds are over.
    pub(crate) fn done(&self, seconds: f64) {
        self.0.inc((seconds * 1000.0) as u64);
    }
    pub(crate) fn warn(&self, what: &str) {
        self.0.suspend(|| eprintln!("{what}"));
    }
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Runs the plan over the peers, in turn.
pub(crate) fn conduct(arguments: &Arguments, peers: &[Entry], progress: &Progress) -> Outcome<Figures> {
    let chosen: Vec<&Entry> = peers.iter().filter(|peer| arguments.wants(peer.name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
        return Err(format!("no peer's name contains {:?}; there are: {}", arguments.peers, names.join("; ")).into());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut figures = Figures { cores, load_before: load(), seconds: arguments.seconds, ..Figures::default() };
    figures.profile = arguments.profile.clone();
    let settings = settings(arguments);
    for setting in settings {
        let name = format!("{} with {}", setting.name, setting.roles.len());
        let section = noise::Section::begin(name.clone());
        let mut series = vec![];
        for peer in &chosen {
            series.push(Series {
                workload: setting.name,
                unit: setting.unit,
                rising: setting.rising(),
                workers: setting.roles.len(),
                peer: peer.name,
                runs: vec![],
                end: peer.there().err().map(str::to_owned),
            });
        }
        for repetition in 0..arguments.repeat as usize {
            // Another one begins each time, so that none always comes after the same.
            for turn in 0..chosen.len() {
                let index = (repetition + turn) % chosen.len();
                progress.say(&format!("{name}, {}", chosen[index].name));
                repeat(arguments, cores, chosen[index], &setting, &mut series[index]);
                progress.done(arguments.seconds + overhead(setting.workload));
            }
        }
        figures.series.extend(series.into_iter().filter(|series| series.end.is_some() || !series.runs.is_empty()));
        figures.noise.push(section.end());
    }
    if arguments.only.contains(&Workload::Packing) {
        let section = noise::Section::begin("D".to_owned());
        for peer in &chosen {
            progress.say(&format!("D, {}", peer.name));
            match peer.pack() {
                Ok(result) => figures.packing.extend(result.map(|result| Packed { peer: peer.name, result })),
                Err(error) => figures.series.push(broken("D", peer, error.to_string())),
            }
            progress.done(overhead(Workload::Packing));
        }
        figures.noise.push(section.end());
    }
    if arguments.only.contains(&Workload::Filling) {
        let section = noise::Section::begin("P".to_owned());
        for number in fillings(arguments) {
            fill(number, &chosen, &mut figures, progress);
        }
        figures.noise.push(section.end());
    }
    figures.load_after = load();
    Ok(figures)
}

/// One mix fills every peer's arena.
fn fill(number: mixes::Number, chosen: &[&Entry], figures: &mut Figures, progress: &Progress) {
    let mix = number.mix().sizes_name();
    for peer in chosen {
        progress.say(&format!("P, {mix}, {}", peer.name));
        match peer.fill(number) {
            Ok(result) => figures.fills.extend(result.map(|result| Fill { peer: peer.name, mix, result })),
            Err(error) => figures.series.push(broken("P", peer, error.to_string())),
        }
        progress.done(overhead(Workload::Filling));
    }
}

/// A peer that has no share of an arena to tell, and why.
fn broken(workload: &'static str, peer: &Entry, why: String) -> Series {
    let (runs, end) = (vec![], Some(why));
    Series { workload, unit: "packed", rising: true, workers: 1, peer: peer.name, runs, end }
}

/// One more run of a peer, unless it has no answer to the workload, is not there, or broke down before.
fn repeat(arguments: &Arguments, cores: usize, peer: &Entry, setting: &Setting, series: &mut Series) {
    if series.end.is_some() || !peer.workloads.contains(&setting.workload) {
        return;
    }
    let run = || {
        settle(arguments.settle);
        figure(setting.rising(), cores, &peer.measure(&setting.roles, arguments.seconds)?)
    };
    let retries = if peer.sleeps { 0 } else { arguments.retry };
    match undisturbed(retries, run) {
        Ok(run) => series.runs.push(run),
        Err(error) => series.end = Some(error.to_string()),
    }
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
        refused: done.iter().map(|done| done.refused).sum(),
    })
}
