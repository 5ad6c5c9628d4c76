//! What the simulated machine's costs are on this one, and the points that its predictions are held against.
#![allow(clippy::disallowed_types, reason = "the probed word is the benchmark's own, not the allocator's")]

use crate::model::costs::Costs;
use crate::model::workloads::{Plan, Workload, simulate};
use crate::support::conductor::DISTURBED;
use crate::support::registry::{self, HARNESS, MATRIX, STRICT};
use crate::support::work::Role;
use crate::support::{Outcome, noise};
use rustix::thread::{MembarrierCommand, membarrier};
use serde::{Deserialize, Serialize};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

/// A measured rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    #[serde(rename = "workers")]
    pub(crate) cores: usize,
    /// The best and the median of the runs.
    pub(crate) best: f64,
    pub(crate) median: f64,
    pub(crate) runs: usize,
    /// The least share of their cores that the workers of these runs had.
    pub(crate) share: f64,
    pub(crate) unit: String,
}

/// The best of some batches, in nanoseconds for one.
fn least(batches: u32, each: u32, mut act: impl FnMut()) -> f64 {
    let batch = |_| {
        let started = Instant::now();
        (0..each).for_each(|_| act());
        started.elapsed().as_nanos() as f64 / each as f64
    };
    (0..batches).map(batch).fold(f64::INFINITY, f64::min)
}

/// Tries for each run that counts.
const TRIES: usize = 20;

/// The rates of so many runs, lowest first, and the least share of the cores that they had. Runs that others
/// disturbed don't count as long as there are undisturbed ones.
fn rates(peer: &str, roles: &[Role], runs: usize, seconds: f64) -> Outcome<(Vec<f64>, f64)> {
    let entries = registry::in_tree();
    let entry = entries.iter().find(|entry| entry.name == peer).ok_or("an unknown peer")?;
    let mut all: Vec<(f64, f64)> = vec![];
    for _ in 0..runs * TRIES {
        let work = entry.measure(roles, seconds)?;
        let operations: u64 = work.done.iter().map(|done| done.operations).sum();
        let processor: u64 = work.done.iter().map(|done| done.processor).sum();
        let window = work.window.as_secs_f64();
        let share = processor as f64 / 1e9 / (window * roles.len() as f64);
        // Alone, a worker waits for nobody: its processor time leaves out what others took.
        match roles.len() {
            1 => all.push((1.0, operations as f64 / processor as f64 * 1e3)),
            _ => all.push((share, operations as f64 / window / 1e6)),
        }
        if all.iter().filter(|(share, _)| *share >= DISTURBED).count() >= runs {
            break;
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let undisturbed = all.partition_point(|(share, _)| *share >= DISTURBED);
    all.truncate(undisturbed.max(1));
    let share = all.last().map_or(f64::NAN, |(share, _)| *share);
    let mut rates: Vec<f64> = all.into_iter().map(|(_, rate)| rate).collect();
    rates.sort_by(f64::total_cmp);
    Ok((rates, share))
}

/// Measures and fits: the costs, and the points at one and two cores.
pub(crate) fn calibrate(runs: usize, seconds: f64, mut say: impl FnMut(&str)) -> Outcome<(Costs, Vec<Measured>)> {
    let mut costs = Costs::default();
    let word = AtomicU64::new(0);
    say("read-modify-write, fence, wait, barrier, round trip");
    costs.rmw = least(50, 20_000, || {
        black_box(word.fetch_add(1, Ordering::AcqRel));
    });
    costs.fence = least(50, 20_000, || {
        word.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    });
    costs.wait = least(50, 1000, || (0..32).for_each(|_| spin_loop()));
    membarrier(MembarrierCommand::RegisterPrivateExpedited)?;
    costs.barrier = least(50, 200, || {
        let _ = membarrier(MembarrierCommand::PrivateExpedited);
    });
    // The best of some, as with the rates: the cores are sometimes near, sometimes far.
    let trip = (0..runs).map(|_| noise::round_trip()).fold(f64::NAN, f64::min);
    if trip.is_nan() {
        return Err("the round trip needs two cores".into());
    }
    costs.transfer = trip / 4.0;

    let mut measured = vec![];
    let points: [(Workload, &str, &[Role]); 5] = [
        (Workload::A, MATRIX, &[Role::Mix]),
        (Workload::A, MATRIX, &[Role::Mix, Role::Mix]),
        (Workload::Strict, STRICT, &[Role::Mix]),
        (Workload::Strict, STRICT, &[Role::Mix, Role::Mix]),
        (Workload::C, MATRIX, &[Role::Produce, Role::Consume]),
    ];
    for (workload, peer, roles) in points {
        say(&format!("{} at {} core(s)", workload.name(), roles.len()));
        let (rates, share) = rates(peer, roles, runs, seconds)?;
        measured.push(Measured {
            workload,
            cores: roles.len(),
            best: rates[rates.len() - 1],
            median: rates[rates.len() / 2],
            runs: rates.len(),
            share,
            unit: workload.unit().to_owned(),
        });
    }
    say("the harness alone, and the fit");
    let (alone, _) = rates(HARNESS, &[Role::Mix], runs, seconds)?;
    costs.harness = 1000.0 / alone[alone.len() - 1];
    // The time of an operation at one core grows evenly with the work around an access: two runs tell how.
    // Twice in turn, since each workload has a little of the other's accesses.
    let time = |workload, costs| {
        let plan = Plan { cores: 1, seed: 1, batches: None, warm_up: 1000.0, counted: 1000.0 };
        1000.0 / simulate(workload, costs, plan).rate
    };
    for _ in 0..2 {
        let fit = |workload, set: fn(&mut Costs, f64), costs: &mut Costs| {
            let at = |ns: f64| {
                let mut costs = *costs;
                set(&mut costs, ns);
                time(workload, costs)
            };
            let point = measured.iter().find(|point| point.workload == workload && point.cores == 1);
            let wanted = point.map_or(f64::NAN, |point| 1000.0 / point.best);
            let (none, one) = (at(0.0), at(1.0));
            set(costs, ((wanted - none) / (one - none)).max(0.0));
        };
        fit(Workload::A, |costs, ns| costs.work = ns, &mut costs);
        fit(Workload::Strict, |costs, ns| costs.search = ns, &mut costs);
    }
    Ok((costs, measured))
}
