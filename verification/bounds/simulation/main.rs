//! The simulated machine (benches/simulate) is what it says: the same by seed, free of transfers on one core,
//! and able to tell a design that scales from one that doesn't.

#[path = "../../../benches/simulate/model/mod.rs"]
mod model;

use model::costs::Costs;
use model::workloads::{Outcome, Plan, Workload, simulate};

const STRUCTURES: [Workload; 3] = [Workload::Channel, Workload::Pairs, Workload::Topic];

fn run(workload: Workload, cores: usize, seed: u64) -> Outcome {
    run_after(40.0, workload, cores, seed)
}

fn run_after(warm_up: f64, workload: Workload, cores: usize, seed: u64) -> Outcome {
    simulate(workload, Costs::default(), Plan { cores, seed, batches: None, warm_up, counted: 40.0 })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let heap = [Workload::A, Workload::Strict, Workload::C, Workload::Small, Workload::Large, Workload::Log];
    // A structure's seeds say when its cores begin: it forgets them soon.
    let (heap, structures) = (heap.map(|it| (it, 200.0)), STRUCTURES.map(|it| (it, 0.0)));
    for (workload, warm_up) in heap.into_iter().chain(structures) {
        let run = |seed| run_after(warm_up, workload, 4, seed);
        let (first, second, other) = (run(1), run(1), run(2));
        assert!(first.rate > 0.0);
        assert_eq!(first, second, "{workload:?}");
        assert_ne!(first.seen, other.seen, "{workload:?}: the seed means something");
    }
}

#[test]
fn one_core_pays_no_transfer() {
    for workload in [Workload::A, Workload::Strict, Workload::Lock, Workload::Small, Workload::Large, Workload::Log] {
        // Behind the first blocks, whose lines no core has.
        let alone = run_after(400.0, workload, 1, 1);
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

/// That none is received twice, lost, or read out of turn is checked within the run, message by message.
#[test]
fn each_message_is_received_or_still_there() {
    for workload in STRUCTURES {
        for (cores, seed) in [(2, 1), (6, 2), (16, 3)] {
            let books = run(workload, cores, seed).books.expect("messages are counted");
            let readers = if workload == Workload::Topic { cores as u64 - 1 } else { 1 };
            assert!(books.received > 100, "{workload:?}, {cores} cores: {} received", books.received);
            assert_eq!(books.sent * readers, books.received + books.left, "{workload:?}, {cores} cores");
        }
    }
}

#[test]
fn one_channel_does_not_scale_and_one_for_each_pair_does() {
    let rate = |workload, cores| run_after(400.0, workload, cores, 1).rate;
    let gain = |workload| rate(workload, 16) / rate(workload, 2);
    let (one, pairs) = (gain(Workload::Channel), gain(Workload::Pairs));
    assert!(one < 1.5, "a channel that sixteen cores share is predicted to gain {one:.2} over two");
    assert!(pairs > 4.0, "channels of eight pairs are predicted to gain {pairs:.2} over one's");
}

#[test]
fn kept_large_blocks_scale() {
    for workload in [Workload::Small, Workload::Large] {
        let rate = |cores| run_after(1000.0, workload, cores, 1).rate;
        let gain = rate(4) / rate(1);
        assert!(gain > 3.0, "{workload:?} is predicted to gain {gain:.2} by four cores");
    }
}
