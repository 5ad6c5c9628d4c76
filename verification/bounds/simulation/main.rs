//! The simulated machine (benches/simulate) is what it says: the same by seed, free of transfers on one core,
//! and able to tell a design that scales from one that doesn't.

#[path = "../../../benches/simulate/model/mod.rs"]
mod model;

use model::costs::Costs;
use model::workloads::{Outcome, Plan, Workload, simulate};

fn run(workload: Workload, cores: usize, seed: u64) -> Outcome {
    run_after(40.0, workload, cores, seed)
}

fn run_after(warm_up: f64, workload: Workload, cores: usize, seed: u64) -> Outcome {
    simulate(workload, Costs::default(), Plan { cores, seed, batches: None, warm_up, counted: 40.0 })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for workload in [Workload::A, Workload::Strict, Workload::C] {
        let (first, second, other) = (run(workload, 4, 1), run(workload, 4, 1), run(workload, 4, 2));
        assert!(first.rate > 0.0);
        assert_eq!(first, second, "{workload:?}");
        assert_ne!(first.seen, other.seen, "{workload:?}: the seed means something");
    }
}

#[test]
fn one_core_pays_no_transfer() {
    for workload in [Workload::A, Workload::Strict, Workload::Lock] {
        let alone = run(workload, 1, 1);
        assert!(alone.rate > 1.0 && alone.seen.accesses > 1000, "{workload:?}: {alone:?}");
        assert_eq!(alone.seen.transfers(), 0, "{workload:?}");
        assert!(run(workload, 2, 1).seen.transfers() > 0, "{workload:?}");
    }
}

#[test]
fn a_lock_does_not_scale_and_parking_does() {
    // Until every cache has parked blocks of each size, all of them cut from one free block: that is not what
    // is asked here.
    let rate = |workload, cores| run_after(400.0, workload, cores, 1).rate;
    let gain = |workload| rate(workload, 8) / rate(workload, 1);
    let (lock, parking) = (gain(Workload::Lock), gain(Workload::A));
    assert!(lock < 1.2, "a heap behind a lock is predicted to gain {lock:.2} by eight cores");
    assert!(parking > 4.0, "biased parking is predicted to gain {parking:.2} by eight cores");
}

#[test]
fn the_probe_gives_the_cost_of_a_transfer_back() {
    let costs = Costs::default();
    let trip = 1000.0 / run(Workload::PingPong, 2, 1).rate;
    let expected = 4.0 * costs.transfer;
    assert!((trip / expected - 1.0).abs() < 0.25, "{trip:.0} ns a round trip, {expected:.0} expected");
}
