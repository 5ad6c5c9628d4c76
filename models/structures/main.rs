//! The structures of the standard library, explored state by state: every schedule of a scenario and every death in it,
//! sequentially consistent. The schedules of `verification/schedules` run the code itself, as many orders as a seed draws;
//! here every order of a small scenario is met, with deaths at every access, and those of who recovers among them.
//!
//! Each planted fault must be noticed in some scenario, or the run fails.

mod call;
mod channel;
mod engine;
mod explored;
#[path = "../exploring.rs"]
mod exploring;
mod map;
mod scenarios;
mod stream;
mod stream_recovery;
mod sync;
mod topic;
mod waiting;

use clap::Parser;
use engine::Structure;
use explored::{Explored, Scenario};
use exploring::Args;
use std::process::ExitCode;

/// States, seconds, and the obligation that failed.
fn check<S: Structure>(
    scenario: Scenario<S>,
    planted: Option<S::Fault>,
    args: &Args,
) -> (usize, f64, Option<&'static str>) {
    let model = Explored { scenario, planted };
    let (states, seconds, failed) =
        exploring::check(model, planted.is_some(), args, |state, happens| println!("  {state:?}\n{happens:?}"));
    (states, seconds, failed.into_iter().next())
}

/// Every scenario without a fault, then each fault until a scenario notices it, a large one at last. False if one failed,
/// or none noticed.
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
    let chosen = quick.iter().any(|scenario| wanted(&scenario));
    for &fault in faults.iter().filter(|_| chosen && !args.sound) {
        let may_show = |scenario: &&Scenario<S>| scenario.structure.may_show(fault);
        let noticed = quick.iter().chain(deep).filter(wanted).filter(may_show).find_map(|scenario| {
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
        explore("waiting", scenarios::WAITING, scenarios::DEEP_WAITING, waiting::FAULTS, &args),
        explore("call", scenarios::CALLS, scenarios::DEEP_CALLS, call::FAULTS, &args),
        explore("stream", scenarios::STREAMS, scenarios::DEEP_STREAMS, stream::FAULTS, &args),
    ];
    if sound.into_iter().all(|sound| sound) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
