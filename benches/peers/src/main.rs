//! AtomicMatrix and its peers under the same workloads, in one interleaved run. See README.md.

#![allow(clippy::disallowed_types, reason = "the allocator's own rule; this is not it")]

mod boost;
mod child;
mod disrupt;
mod dpdk;
mod drift;
mod iceoryx;
mod list;
mod published;
#[path = "../../support/mod.rs"]
mod support;
mod tlsf;
mod zenoh;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use support::arguments::{Arguments as Runner, Workload};
use support::control::Control;
use support::registry::{Entry, HARNESS};
use support::work::{Done, Role};
use support::{Outcome, conductor, processes, report};

/// Runs workloads A (mix), B (ping), C (hand-over) and D (packing), and those of other sizes (W: mixes, H: hand-over,
/// P: packing, F: first use) on AtomicMatrix and its peers, in turn.
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// 3 repetitions of 0.2 s, within four minutes (the default).
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// 9 repetitions of 0.7 s, about half an hour.
    #[arg(long)]
    full: bool,
    /// Another number of repetitions.
    #[arg(long, value_name = "N")]
    repeat: Option<u32>,
    /// Another length of each run, in seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Repeats a run that had less than 90 % of the cores, up to N times, and keeps the one that had most.
    #[arg(long, value_name = "N")]
    retry: Option<u32>,
    /// Workloads.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["A", "B", "C", "D"])]
    only: Vec<Workload>,
    /// Workers of A and W: threads, or processes where the peer's name says so.
    #[arg(long, value_delimiter = ',', default_values = ["1", "2", "4", "8", "16"], value_name = "N,...")]
    workers: Vec<u16>,
    /// Of W and P, only the mixes whose name contains one of these words.
    #[arg(long, value_delimiter = ',', value_name = "WORD,...")]
    mixes: Vec<String>,
    /// Only the peers whose name contains one of these words, and the harness alone.
    #[arg(long, value_delimiter = ',', value_name = "WORD,...")]
    peers: Vec<String>,
    /// Lists the peers, what each is, and those that are missing here, and ends.
    #[arg(long)]
    list: bool,
    /// Before each run, waits up to so many seconds until nothing else keeps the machine busy.
    #[arg(long, default_value_t = 0, value_name = "S")]
    settle: u64,
    /// Writes every single run to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Writes the targets, what was measured and the verdicts to this file.
    #[arg(long, value_name = "FILE")]
    targets: Option<PathBuf>,
    /// Writes runs, environment and targets to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes one line for each noise probe to this file.
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Measures what so many phases of drifting sizes leave of the memory, and nothing else (`benches/support/drift.rs`).
    #[arg(long, value_name = "PHASES", conflicts_with_all = ["only", "mixes", "workers", "targets", "json", "noise"])]
    drift: Option<usize>,
    /// (internal) this process makes one run of one peer.
    #[arg(long, hide = true)]
    task: Option<String>,
    /// (internal) this process is a worker of such a run.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

impl Arguments {
    /// What the workloads' conductor is told, by its own options, so that it checks them.
    fn runner(&self) -> Outcome<Runner> {
        let (profile, repeat, seconds, retry) = if self.full { ("full", 9, 0.7, 2) } else { ("quick", 3, 0.2, 1) };
        let (repeat, seconds) = (self.repeat.unwrap_or(repeat), self.seconds.unwrap_or(seconds));
        let profile = if self.repeat.or(self.retry).is_some() || self.seconds.is_some() { "own" } else { profile };
        let mut words = vec!["peers".to_owned(), "--profile".to_owned(), profile.to_owned()];
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("--repeat", repeat.to_string());
        add("--seconds", seconds.to_string());
        add("--retry", self.retry.unwrap_or(retry).to_string());
        add("--settle", self.settle.to_string());
        add("--threads", self.workers.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        let mut runner = Runner::try_parse_from(words)?.effective();
        runner.only.clone_from(&self.only);
        runner.only.sort_unstable();
        runner.only.dedup();
        runner.mixes.clone_from(&self.mixes);
        (runner.csv, runner.targets) = (self.csv.clone(), self.targets.clone());
        (runner.json, runner.noise) = (self.json.clone(), self.noise.clone());
        Ok(runner)
    }
    /// The peers asked for; the harness alone is in every table.
    fn chosen(&self) -> Outcome<Vec<Entry>> {
        let asked = |entry: &Entry| {
            let name = entry.name.to_lowercase();
            self.peers.is_empty() || self.peers.iter().any(|word| name.contains(&word.to_lowercase()))
        };
        if !list::all().iter().any(asked) {
            let names: Vec<_> = list::all().iter().map(|entry| entry.name).collect();
            return Err(format!("no peer's name contains {:?}; there are: {}", self.peers, names.join("; ")).into());
        }
        Ok(list::all().into_iter().filter(|entry| entry.name == HARNESS || asked(entry)).collect())
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    if let Some(worker) = &arguments.worker {
        return processes::work(worker, other);
    }
    if let Some(task) = &arguments.task {
        return child::work(task);
    }
    let runner = arguments.runner()?;
    if arguments.list {
        print_list(&arguments.chosen()?);
        return Ok(());
    }
    if let Some(phases) = arguments.drift {
        return drift::run(arguments.chosen()?, phases, arguments.csv.as_deref());
    }
    let mut files = report::Files::create(&runner)?;
    let peers: Vec<Entry> = arguments.chosen()?.into_iter().map(child::apart).collect();
    let seconds = conductor::planned(&runner, &peers);
    eprintln!("{} peer(s), about {:.1} minute(s)", peers.len(), seconds / 60.0);
    let _leftovers = Leftovers;
    let progress = conductor::Progress::over(seconds)?;
    let figures = conductor::conduct(&runner, &peers, &progress)?;
    progress.finish();
    print_list(&peers);
    report::print(&figures, &runner);
    files.write(&figures)
}

/// A worker process of another peer than AtomicMatrix.
fn other(peer: &str, arena: &str, control: &Control, role: Role, number: u64) -> Outcome<Done> {
    match peer {
        boost::PEER => boost::worker(arena, control, role, number),
        iceoryx::PEER => iceoryx::worker(arena, control, role),
        _ => Err(format!("no peer {peer} works in processes").into()),
    }
}

/// Removes at the end, however it comes, what peers leave behind.
struct Leftovers;

impl Drop for Leftovers {
    fn drop(&mut self) {
        iceoryx::clean(std::process::id());
        zenoh::clean();
    }
}

fn print_list(peers: &[Entry]) {
    let mut table = report::table(&["peer", "blocks", "workloads", "here"], 4);
    for peer in peers {
        let here = peer.there().err().unwrap_or("yes");
        let workloads: String = list::letters(peer.workloads);
        table.add_row([peer.name, peer.kind, &workloads, here]);
    }
    println!("{table}");
}
