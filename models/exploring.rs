//! How a state model is explored: the command line of both programs, and one scenario from its beginning to its end.

use clap::Parser;
use stateright::{Checker, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

#[derive(Parser)]
pub struct Args {
    /// The large scenarios as well (minutes, gigabytes).
    #[arg(long)]
    pub deep: bool,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    pub only: String,
    /// Shows the steps that lead to a failure.
    #[arg(long)]
    pub explain: bool,
    /// No planted faults.
    #[arg(long)]
    pub sound: bool,
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
}

/// States, seconds, and the names of the properties that failed. `show` prints a state, and what happens in it.
pub fn check<M>(
    model: M,
    has_fault: bool,
    args: &Args,
    show: impl Fn(&M::State, Option<M::Action>),
) -> (usize, f64, Vec<&'static str>)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Clone + PartialEq + Hash + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync + 'static,
{
    let start = Instant::now();
    let builder = model.checker().threads(args.threads).finish_when(HasDiscoveries::AnyFailures);
    // Depth first takes least memory; breadth first gives the shortest way to a failure.
    let (states, found) = if !has_fault && !args.explain {
        let checker = builder.spawn_dfs().join();
        (checker.unique_state_count(), checker.discoveries())
    } else {
        let checker = builder.spawn_bfs().join();
        (checker.unique_state_count(), checker.discoveries())
    };
    if args.explain {
        for (name, path) in found.clone() {
            println!("{name}: {} steps", path.clone().into_actions().len());
            path.into_vec().into_iter().for_each(|(state, happens)| show(&state, happens));
        }
    }
    (states, start.elapsed().as_secs_f64(), found.into_keys().collect())
}
