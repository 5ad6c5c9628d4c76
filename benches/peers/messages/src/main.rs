//! Channels and topics and their peers under the same workloads, in one interleaved run. See README.md.

#![allow(clippy::disallowed_types, reason = "the allocator's own rule; this is not it")]

mod boards;
mod control;
mod fan;
mod goals;
mod kills;
mod maps;
mod memory;
mod peers;
mod report;
mod run;
mod setting;
mod streams;
mod wake;
mod worker;

use clap::Parser;
use setting::Kind;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs workloads S (a stream of 64 bytes), L (latency), M (many to many), Z (large messages), F (fan-out), B (board),
/// K (map), W (waking), D (memory) and X (kills), peers in turn.
#[derive(Debug, Parser)]
#[command(name = "messages")]
struct Arguments {
    /// Repetitions of each run.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 0.3, value_name = "S")]
    seconds: f64,
    /// Only workloads whose name begins with one of these.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// Only peers whose name contains one of these words.
    #[arg(long, value_delimiter = ',', value_name = "WORD,...")]
    peers: Vec<String>,
    /// Writes every single run to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Writes the goals to this file.
    #[arg(long, value_name = "FILE")]
    goals: Option<PathBuf>,
    /// Writes runs, ratios and the machine to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// (internal) this process takes part in one run.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.worker {
        Some(task) => run::work(task),
        None => conduct(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("messages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn conduct(arguments: &Arguments) -> Outcome<()> {
    let mut figures = vec![];
    for setting in setting::all() {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| setting.name.starts_with(name.as_str())) {
            continue;
        }
        let asked = |name: &str| arguments.peers.is_empty() || arguments.peers.iter().any(|word| name.contains(word));
        // Who is killed is a process, and memory is one's.
        let placed = |entry: &peers::Entry| !(entry.threads && matches!(setting.kind, Kind::Kill | Kind::Memory));
        let answers = |entry: &peers::Entry| (entry.answers)(&setting) && asked(entry.name) && placed(entry);
        let entries: Vec<_> = peers::all().into_iter().filter(answers).collect();
        let mut series: Vec<_> = entries.iter().map(|entry| report::Series::new(&setting, entry)).collect();
        for repetition in 0..arguments.repeat as usize {
            // Another one begins each time, so that none always comes after the same.
            for turn in 0..entries.len() {
                let at = (repetition + turn) % entries.len();
                if series[at].end.is_none() {
                    let run = match setting.kind {
                        Kind::Memory => memory::once(&entries[at], &setting),
                        Kind::Kill => kills::once(&entries[at], &setting),
                        _ => run::once(&entries[at], &setting, arguments.seconds),
                    };
                    match run {
                        Ok(run) => series[at].runs.push(run),
                        Err(error) => series[at].end = Some(error.to_string()),
                    }
                }
            }
        }
        report::print(&setting, &series);
        figures.extend(series);
    }
    goals::report(&figures, arguments.goals.as_deref())?;
    report::write(&figures, arguments.seconds, arguments.csv.as_deref(), arguments.json.as_deref())
}
