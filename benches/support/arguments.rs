//! Options.

use super::mixes;
use clap::{Args, Parser, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    #[value(name = "A", alias = "a")]
    Mix,
    #[value(name = "B", alias = "b")]
    Ping,
    #[value(name = "C", alias = "c")]
    HandOver,
    #[value(name = "D", alias = "d")]
    Packing,
    #[value(name = "S", alias = "s")]
    Seed,
    #[value(name = "W", alias = "w")]
    Wide,
    #[value(name = "H", alias = "h")]
    Sized,
    #[value(name = "P", alias = "p")]
    Filling,
    #[value(name = "F", alias = "f")]
    First,
}

/// What cargo says to every benchmark.
#[derive(Debug, Clone, Args)]
pub(crate) struct Cargo {
    /// (cargo) given by `cargo bench`, not by `cargo test --benches`.
    #[arg(long, hide = true)]
    bench: bool,
    /// (cargo) run only if this benchmark's name contains the word.
    #[arg(hide = true)]
    filter: Option<String>,
}

impl Cargo {
    /// Whether the benchmark of this name is meant: `cargo bench NAME` asks every one.
    pub(crate) fn means(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }
    /// Whether this is `cargo test --benches`: unoptimised, and not asked for figures.
    pub(crate) fn only_tests(&self) -> bool {
        !self.bench && cfg!(debug_assertions)
    }
}

/// Compares AtomicMatrix with its peers under five workloads: A (mix), B (ping), C (hand-over), D (packing),
/// S (the endurance mix).
#[derive(Debug, Clone, Parser)]
#[command(name = "workloads")]
pub(crate) struct Arguments {
    /// Repetitions of each run.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 0.7, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Repeats a run that had less than 90 % of the cores, up to N times, and keeps the one that had most.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) retry: u32,
    /// Workloads.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["A", "B", "C", "D"])]
    pub(crate) only: Vec<Workload>,
    /// Workers of A, S and W: threads, and the same number of processes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_name = "N,...",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Vec<u16>,
    /// Of W and P, only the mixes whose name contains one of these words.
    #[arg(long, value_delimiter = ',', value_name = "WORD,...")]
    pub(crate) mixes: Vec<String>,
    /// Only peers whose name contains one of these words.
    #[arg(long, value_delimiter = ',', value_name = "WORD,...")]
    pub(crate) peers: Vec<String>,
    /// Two repetitions of 0.05 s: shows that everything runs; the figures mean little.
    #[arg(long, conflicts_with_all = ["repeat", "seconds"])]
    pub(crate) quick: bool,
    /// Before each run, waits up to so many seconds until nothing else keeps the machine busy.
    #[arg(long, default_value_t = 0, value_name = "S", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) settle: u64,
    /// Writes every single run to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Writes runs, environment and targets to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes each target, what was measured and the verdict to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) targets: Option<PathBuf>,
    /// Writes one line for each noise probe to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) noise: Option<PathBuf>,
    /// A name for this way to run; it stands in every row.
    #[arg(long, default_value = "workloads", value_name = "NAME")]
    pub(crate) profile: String,
    #[command(flatten)]
    pub(crate) cargo: Cargo,
    /// (internal) this process is a worker: role, number, segment, offset of the control block.
    #[arg(long, hide = true)]
    pub(crate) worker: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds from 0.001 to 3600".to_owned()),
    }
}

impl Arguments {
    /// The options with `--quick` worked in. A test run is quick, too.
    pub(crate) fn effective(mut self) -> Self {
        if self.quick || self.cargo.only_tests() {
            (self.repeat, self.seconds, self.retry) = (2, 0.05, 0);
        }
        self.threads.sort_unstable();
        self.threads.dedup();
        self.only.sort_unstable();
        self.only.dedup();
        self
    }
    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|word| peer.contains(word.as_str()))
    }
    /// The mixes that are asked for.
    pub(crate) fn chosen_mixes(&self) -> impl Iterator<Item = mixes::Number> {
        let asked = |name: &str| self.mixes.is_empty() || self.mixes.iter().any(|word| name.contains(word.as_str()));
        mixes::all().filter(move |number| asked(number.mix().name))
    }
}
