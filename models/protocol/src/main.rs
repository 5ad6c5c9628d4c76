//! The protocol of announced operations, explored state by state: every schedule of a scenario, sequentially
//! consistent.
//!
//! loom runs the allocator itself and knows weak memory, but only a few preemptions of two or three threads.
//! This model has no memory orderings and no hints; in return it is exhaustive where loom is bounded. A
//! helper is tried from every state, so participants that stop for ever at any step are included, any number
//! of them at once.
//!
//! Each fault that can be planted (`steps::Mutant`) must be noticed in some scenario, or the run fails.

#[path = "../../exploring.rs"]
mod exploring;
mod model;
mod protocol;
mod steps;
mod words;

use clap::Parser;
use exploring::Args;
use model::Task::{Free, Give, Sweep, Take};
use model::{Protocol, Scenario};
use std::process::ExitCode;
use steps::{MUTANTS, Mutant};

/// Explored by every run, also with planted faults.
const QUICK: &[Scenario] = &[
    Scenario {
        name: "two neighbours freed",
        blocks: &[(1, Some(0)), (1, Some(1))],
        scripts: &[&[Free(0)], &[Free(1)]],
    },
    Scenario {
        name: "two large neighbours freed beside a free block",
        blocks: &[(2, None), (2, Some(0)), (2, Some(1))],
        scripts: &[&[Free(2)], &[Free(4)]],
    },
    Scenario {
        name: "three neighbours freed",
        blocks: &[(1, Some(0)), (1, Some(1)), (1, Some(2))],
        scripts: &[&[Free(0)], &[Free(1)], &[Free(2)]],
    },
    Scenario {
        name: "two cuts of one free block, given back",
        blocks: &[(4, None)],
        scripts: &[&[Take(1), Give], &[Take(2), Give]],
    },
    Scenario {
        name: "a cut of a block that a free is merged into",
        blocks: &[(2, None), (1, Some(0)), (1, Some(1))],
        scripts: &[&[Free(2)], &[Free(3)], &[Take(1)]],
    },
    Scenario {
        name: "a block is taken whole, given back and taken while it is joined",
        blocks: &[(1, Some(0)), (2, None)],
        scripts: &[&[Free(0)], &[Take(2), Give], &[Take(2)]],
    },
    Scenario {
        name: "a sweep beside a free and a cut",
        blocks: &[(2, None), (2, Some(0))],
        scripts: &[&[Free(2)], &[Take(1)], &[Sweep]],
    },
];

/// As far as minutes reach. (Four freers of one neighbourhood do not end in seven.)
const DEEP: &[Scenario] = &[
    Scenario {
        name: "three neighbours of two sizes freed between free blocks",
        blocks: &[(1, None), (2, Some(0)), (1, Some(1)), (2, Some(2)), (1, None)],
        scripts: &[&[Free(1)], &[Free(3)], &[Free(4)]],
    },
    Scenario {
        name: "three cuts of one free block",
        blocks: &[(4, None)],
        scripts: &[&[Take(1), Give], &[Take(1), Give], &[Take(1)]],
    },
];

/// States, seconds, and the names of the properties that failed.
fn check(scenario: Scenario, mutant: Option<Mutant>, args: &Args) -> (usize, f64, Vec<&'static str>) {
    exploring::check(Protocol { scenario, mutant }, mutant.is_some(), args, |state, access| {
        println!("  {access:?}  {:?}", state.memory.headers);
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut sound = true;
    let scenarios = || QUICK.iter().filter(|scenario| scenario.name.contains(&args.only));
    let deep = DEEP.iter().filter(|scenario| args.deep && scenario.name.contains(&args.only));
    println!("{:<66} {:>12} {:>8}", "scenario (every schedule)", "states", "seconds");
    for scenario in scenarios().chain(deep) {
        let (states, seconds, failed) = check(*scenario, None, &args);
        let result = if failed.is_empty() { String::new() } else { format!("  FAILED: {failed:?}") };
        println!("{:<66} {states:>12} {seconds:>8.1}{result}", scenario.name);
        sound &= failed.is_empty();
    }
    if !args.sound {
        println!("\n{:<24} noticed by", "fault");
        for mutant in MUTANTS {
            let caught = scenarios().find_map(|scenario| {
                let (states, _, failed) = check(*scenario, Some(mutant), &args);
                let failed = failed.first()?;
                Some(format!("{failed}: {} ({states} states)", scenario.name))
            });
            println!("{:<24} {}", format!("{mutant:?}"), caught.as_deref().unwrap_or("NOTHING"));
            sound &= caught.is_some();
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
