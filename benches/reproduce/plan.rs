//! The sections of a run, their lengths, and the order of things.

use crate::files::{self, Folders};
use crate::model::family::Family;
use crate::support::arguments::{Arguments as Runner, Cargo};
use crate::support::conductor::{self, Progress};
use crate::support::drift::{self, Phase};
use crate::support::machine::{Machine, Origin};
use crate::support::noise::{self, Noise};
use crate::support::registry::{self, HARNESS, MALLOC, MATRIX, PROCESSES, STRICT, TALC};
use crate::support::{Outcome, processes, report};
use crate::{calibrate, endurance, latency, packing, plots, predict};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// Reproduces every figure: measures, writes CSV under papers/data, draws under papers/figures, and prints tables.
#[derive(Debug, Parser)]
#[command(name = "reproduce")]
pub(crate) struct Arguments {
    /// Long durations (60 s for each number of workers, 600 s of endurance): about 75 minutes instead of five.
    #[arg(long)]
    full: bool,
    /// A few seconds: shows that everything runs; the figures mean little. Writes to a folder under the build's.
    #[arg(long, conflicts_with = "full")]
    smoke: bool,
    /// Only these sections.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SECTION,...")]
    only: Vec<Section>,
    /// Skips the sections whose files were measured by this commit, on this machine, with this profile.
    #[arg(long)]
    resume: bool,
    /// Measures nothing: draws the plots and prints the tables from the files that there are.
    #[arg(long)]
    plots: bool,
    /// The folder with data/ and figures/.
    #[arg(long, value_name = "FOLDER")]
    papers: Option<PathBuf>,
    #[command(flatten)]
    cargo: Cargo,
    /// (internal) this process is a worker.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// The peers side by side: A at 1, 2 and 4 workers, B, C, D.
    Peers,
    /// A and the endurance mix at 1, 2, 4, 8 and 16 workers.
    Scaling,
    /// The endurance run, with fragmentation and entropy over time.
    Endurance,
    /// Percentiles of allocate and free at two threads.
    Latency,
    /// Payload of a full segment by granule and sizes.
    Packing,
    /// What phases of drifting sizes leave of the memory.
    Drift,
    /// Predicted scaling on more cores: a simulation, not a measurement.
    Simulate,
}

const SECTIONS: [Section; 7] = [
    Section::Peers,
    Section::Latency,
    Section::Packing,
    Section::Drift,
    Section::Scaling,
    Section::Endurance,
    Section::Simulate,
];

impl Section {
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Scaling => "scaling",
            Self::Endurance => "endurance",
            Self::Latency => "latency",
            Self::Packing => "packing",
            Self::Drift => "drift",
            Self::Simulate => "simulated-scaling",
        }
    }
}

/// How long everything takes, in seconds.
struct Profile {
    name: &'static str,
    peers: (u32, f64),
    /// Repetitions and seconds of A, and of the endurance mix.
    scaling: [(u32, f64); 2],
    workers: &'static [u16],
    endurance: (usize, f64),
    latency: f64,
    /// Phases of drifting sizes.
    phases: usize,
    /// Cores of the simulation.
    cores: &'static [usize],
    /// Virtual microseconds of the simulation, before anything is counted and counted, and seconds that it
    /// takes, about.
    simulate: (f64, f64, f64),
    /// Runs of each point that a machine is calibrated by.
    calibrate: usize,
}

const QUICK: Profile = Profile {
    name: "quick",
    peers: (3, 0.3),
    scaling: [(3, 0.3), (2, 0.5)],
    workers: &[1, 2, 4, 8, 16],
    endurance: (8, 20.0),
    latency: 2.0,
    phases: 60,
    cores: &[1, 2, 4, 8, 16],
    simulate: (500.0, 200.0, 10.0),
    calibrate: 41,
};
const FULL: Profile = Profile {
    name: "full",
    peers: (9, 0.7),
    scaling: [(5, 2.0), (1, 60.0)],
    workers: &[1, 2, 4, 8, 16],
    endurance: (8, 600.0),
    latency: 20.0,
    phases: 3000,
    cores: &[1, 2, 4, 8, 16, 32, 64, 128],
    simulate: (6000.0, 300.0, 240.0),
    calibrate: 201,
};
const SMOKE: Profile = Profile {
    name: "smoke",
    peers: (2, 0.02),
    scaling: [(1, 0.02), (1, 0.02)],
    workers: &[1, 2],
    endurance: (4, 0.6),
    latency: 0.1,
    phases: 6,
    cores: &[1, 2],
    simulate: (100.0, 50.0, 1.0),
    calibrate: 2,
};

/// Seconds of a run by which a machine is calibrated; what is measured so, the probes included.
const CALIBRATE: f64 = 0.02;
const CALIBRATED: f64 = 8.0;
/// What the packing section takes, about.
const PACKING: f64 = 12.0;
/// Peers of that section: those whose memory has a bound.
const DRIFTING: [&str; 3] = [MATRIX, STRICT, TALC];
/// Peers of the scaling section.
const SCALED: [&str; 5] = [HARNESS, MATRIX, PROCESSES, TALC, MALLOC];

impl Profile {
    fn runner(&self, only: &str, peers: &[&str], workers: &[u16], (repeat, seconds): (u32, f64)) -> Outcome<Runner> {
        let workers: Vec<String> = workers.iter().map(u16::to_string).collect();
        let mut runner = Runner::try_parse_from(["workloads", "--only", only, "--threads", &workers.join(",")])?;
        (runner.repeat, runner.seconds, runner.profile) = (repeat, seconds, self.name.to_owned());
        runner.retry = if self.name == SMOKE.name { 0 } else { 1 };
        runner.peers = peers.iter().map(|&peer| peer.to_owned()).collect();
        Ok(runner)
    }
    /// The runs that a section gives to the workloads' runner.
    fn runners(&self, section: Section) -> Outcome<Vec<Runner>> {
        Ok(match section {
            Section::Peers => {
                let workers = if self.name == SMOKE.name { self.workers } else { &[1, 2, 4] };
                vec![self.runner("A,B,C,D", &[], workers, self.peers)?]
            }
            Section::Scaling => vec![
                self.runner("A", &SCALED, self.workers, self.scaling[0])?,
                self.runner("S", &SCALED, self.workers, self.scaling[1])?,
            ],
            _ => vec![],
        })
    }
    fn planned(&self, section: Section) -> Outcome<f64> {
        let peers = registry::in_tree();
        let runs: f64 = self.runners(section)?.iter().map(|runner| conductor::planned(runner, &peers)).sum();
        Ok(runs
            + match section {
                Section::Endurance => 2.0 * self.endurance.1,
                Section::Latency => 4.0 * self.latency,
                Section::Packing => PACKING,
                Section::Drift => drift::SECONDS * (DRIFTING.len() * self.phases) as f64,
                Section::Simulate => self.simulate.2,
                _ => 0.0,
            })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Outcome<()> {
    if let Some(worker) = &arguments.worker {
        return processes::work(worker, processes::no_other);
    }
    if !arguments.cargo.means("reproduce") {
        return Ok(());
    }
    let smoke = arguments.smoke || arguments.cargo.only_tests();
    let profile = match (smoke, arguments.full) {
        (true, _) => &SMOKE,
        (_, true) => &FULL,
        _ => &QUICK,
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let papers = arguments.papers.clone().unwrap_or_else(|| match smoke {
        true => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("papers"),
        false => root.join("papers"),
    });
    let folders = Folders::make(&papers)?;
    let failed = if arguments.plots { vec![] } else { measure(arguments, profile, &folders)? };
    plots::all(&folders)?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

/// Measures what is asked for; says which sections failed, and why.
fn measure(arguments: &Arguments, profile: &Profile, folders: &Folders) -> Outcome<Vec<String>> {
    let origin = Origin::new(profile.name, &Machine::this());
    let mut sections = vec![];
    for section in SECTIONS {
        let wanted = arguments.only.is_empty() || arguments.only.contains(&section);
        let there = arguments.resume && files::read::<Origin>(&folders.csv(section.file()))?.first() == Some(&origin);
        if wanted && !there {
            sections.push(section);
        }
    }
    let mut seconds = 0.0;
    for &section in &sections {
        seconds += profile.planned(section)?;
    }
    let calibrate = sections.contains(&Section::Simulate) && predict::machine(folders).is_err();
    if calibrate {
        eprintln!("no costs of a simulated machine are kept: this machine is calibrated before it is simulated");
        seconds += CALIBRATED * CALIBRATE * profile.calibrate as f64;
    }
    eprintln!(
        "{} profile, {} section(s), about {:.0} minute(s): {}",
        profile.name,
        sections.len(),
        (seconds / 60.0).ceil(),
        origin.caption()
    );
    let progress = Progress::over(seconds)?;
    let mut failed = vec![];
    for section in sections {
        let measured = one(section, profile, folders, &origin, &progress);
        failed.extend(measured.err().map(|error| format!("{} was not measured: {error}", section.file())));
    }
    progress.finish();
    Ok(failed)
}

/// Measures a section and writes its file.
fn one(section: Section, profile: &Profile, folders: &Folders, origin: &Origin, progress: &Progress) -> Outcome<()> {
    let around = noise::Section::begin(section.file().to_owned());
    let mut noises = vec![];
    match section {
        Section::Peers | Section::Scaling => {
            let mut rows = vec![];
            for runner in profile.runners(section)? {
                let figures = conductor::conduct(&runner, &registry::in_tree(), progress)?;
                rows.extend(report::rows(&figures));
                noises.extend(figures.noise);
            }
            files::write(&folders.csv(section.file()), &rows)?;
        }
        Section::Endurance => {
            let (workers, seconds) = profile.endurance;
            let mut samples = vec![];
            type Endure = fn(usize, f64, &mut dyn FnMut(f64)) -> Outcome<Vec<endurance::Sample>>;
            for (name, endure) in [("threads", endurance::threads as Endure), ("processes", endurance::processes)] {
                progress.say(&format!("endurance, {workers} {name}"));
                let mut before = 0.0;
                samples.extend(endure(workers, seconds, &mut |now| {
                    progress.done(now - before);
                    before = now;
                })?);
            }
            write(folders, section, &samples, origin)?;
        }
        Section::Latency => {
            let points = latency::all(profile.latency, |what| {
                progress.say(&format!("latency, {what}"));
                progress.done(profile.latency);
            })?;
            write(folders, section, &points, origin)?;
        }
        Section::Packing => {
            let steps = packing::RANGES.len() * (packing::GRANULES.len() + 1);
            let rows = packing::all(|what| {
                progress.say(&format!("packing, {what}"));
                progress.done(PACKING / steps as f64);
            })?;
            write(folders, section, &rows, origin)?;
        }
        Section::Drift => {
            let mut rows: Vec<Phase> = vec![];
            for peer in registry::in_tree().iter().filter(|peer| DRIFTING.contains(&peer.name)) {
                progress.say(&format!("drifting sizes, {}", peer.name));
                rows.extend(peer.drift(profile.phases)?);
                progress.done(drift::SECONDS * profile.phases as f64);
            }
            write(folders, section, &rows, origin)?;
        }
        Section::Simulate => {
            let (warm_up, counted, seconds) = profile.simulate;
            if predict::machine(folders).is_err() {
                let (costs, points) = calibrate::calibrate(profile.calibrate, CALIBRATE, |what| {
                    progress.say(&format!("calibration, {what}"))
                })?;
                predict::keep(folders, costs, &points, &Origin { profile: "calibrate".to_owned(), ..origin.clone() })?;
                progress.done(CALIBRATED * CALIBRATE * profile.calibrate as f64);
            }
            let task = predict::Task::new(folders, Family::Heap, profile.cores, (warm_up, counted))?;
            let step = seconds / task.runs().len() as f64;
            let (rows, lines) = task.run(folders, |what| {
                progress.say(what);
                progress.done(step);
            })?;
            predict::print(&rows, &lines);
        }
    }
    noises.push(around.end());
    // The probes of the other sections stay.
    let path = folders.csv("noise");
    let own = |noise: &Noise| noises.iter().any(|new| new.section == noise.section);
    let others = files::read::<Noise>(&path)?.into_iter().zip(files::read::<Origin>(&path)?);
    let mut rows: Vec<(Noise, Origin)> = others.filter(|(noise, _)| !own(noise)).collect();
    rows.extend(noises.into_iter().map(|noise| (noise, origin.clone())));
    files::write(&path, &rows)
}

fn write<T: Serialize>(folders: &Folders, section: Section, rows: &[T], origin: &Origin) -> Outcome<()> {
    files::write(&folders.csv(section.file()), &rows.iter().map(|row| (row, origin)).collect::<Vec<_>>())
}
