//! The structures of the standard library, explored state by state: every schedule of a scenario and every death in it,
//! sequentially consistent. The schedules of `verification/schedules` run the code itself, as many orders as a seed draws;
//! here every order of a small scenario is met, with deaths at every access, and those of who recovers among them.
//!
//! Each planted fault must be noticed in some scenario, or the run fails.

mod channel;
mod engine;
mod map;
mod scenarios;
mod topic;

use clap::Parser;
use engine::{Explored, Scenario, Structure};
use stateright::{Checker, HasDiscoveries, Model};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// The large scenarios as well (minutes, gigabytes).
    #[arg(long)]
    deep: bool,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Shows the steps that lead to a failure.
    #[arg(long)]
    explain: bool,
    /// No planted faults.
    #[arg(long)]
    sound: bool,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// States, seconds, and the obligation that failed.
fn check<S: Structure>(
    scenario: Scenario<S>,
    planted: Option<S::Fault>,
    args: &Args,
) -> (usize, f64, Option<&'static str>) {
    let start = Instant::now();
    let builder =
        Explored { scenario, planted }.checker().threads(args.threads).finish_when(HasDiscoveries::AnyFailures);
    // Depth first takes least memory; breadth first gives the shortest way to a failure.
    let (states, found) = if planted.is_none() && !args.explain {
        let checker = builder.spawn_dfs().join();
        (checker.unique_state_count(), checker.discoveries())
    } else {
        let checker = builder.spawn_bfs().join();
        (checker.unique_state_count(), checker.discoveries())
    };
    if args.explain {
        for (name, path) in found.clone() {
            println!("{name}: {} steps", path.clone().into_actions().len());
            for (state, happens) in path.into_vec() {
                println!("  {:?}\n{happens:?}", state);
            }
        }
    }
    (states, start.elapsed().as_secs_f64(), found.into_keys().next())
}

/// Every scenario without a fault, then each fault until a scenario notices it. False if one failed, or none noticed.
fn explore<S: Structure>(
    what: &str,
    quick: &[Scenario<S>],
    deep: &[Scenario<S>],
    faults: &[S::Fault],
    args: &Args,
) -> bool {
    let mut sound = true;
    let wanted = |scenario: &&Scenario<S>| format!("{what}: {}", scenario.name).contains(&args.only);
    for scenario in quick.iter().filter(wanted).chain(deep.iter().filter(|scenario| args.deep && wanted(scenario))) {
        let (states, seconds, failed) = check(*scenario, None, args);
        let result = failed.map_or(String::new(), |failed| format!("  FAILED: {failed}"));
        println!("{:<72} {states:>10} states {seconds:>6.1} s{result}", format!("{what}: {}", scenario.name));
        sound &= failed.is_none();
    }
    for &fault in faults.iter().filter(|_| !args.sound) {
        let noticed = quick.iter().filter(wanted).find_map(|scenario| {
            let (states, _, failed) = check(*scenario, Some(fault), args);
            Some(format!("{}: {} ({states} states)", failed?, scenario.name))
        });
        println!("  {:<24} {}", format!("{fault:?}"), noticed.as_deref().unwrap_or("NOTHING"));
        sound &= noticed.is_some();
    }
    sound
}

fn main() -> ExitCode {
    let args = Args::parse();
    let sound = [
        explore("channel", scenarios::CHANNEL, scenarios::DEEP_CHANNEL, channel::FAULTS, &args),
        explore("topic", scenarios::TOPIC, scenarios::DEEP_TOPIC, topic::FAULTS, &args),
        explore("map", scenarios::MAP, scenarios::DEEP_MAP, map::FAULTS, &args),
    ];
    if sound.into_iter().all(|sound| sound) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
