//! What the endurance test has its threads do, and what it reports.

use super::Rng;
use crate::handlers::{Handler, RelativePtr};
use std::sync::Mutex;
use std::time::Instant;

/// What the threads of the endurance test did, and the blocks that they still had at the end.
#[derive(Default)]
pub(super) struct Tallied {
    counts: Mutex<[u64; 3]>,
    pub(super) live: Mutex<Vec<RelativePtr<u8>>>,
}

impl Tallied {
    pub(super) fn operations(&self) -> u64 {
        let [allocations, frees, _] = *self.counts.lock().unwrap();
        allocations + frees
    }
}

/// One thread of the endurance test: only allocations and frees that were carried out are counted.
pub(super) fn churn(handler: &Handler, seed: u64, end: Instant, done: &Tallied) {
    const QUOTA: usize = 10_000;
    let mut rng = Rng(seed);
    let mut live = vec![];
    while Instant::now() < end {
        let mut counts = [0; 3];
        for _ in 0..5000 {
            if live.is_empty() || (rng.below(10) < 7 && live.len() < QUOTA) {
                match handler.allocate_raw(32 + rng.below(513) as usize) {
                    Ok(pointer) => live.push(pointer),
                    Err(_) => counts[2] += 1,
                }
                counts[0] += 1;
            } else {
                let pointer = live.swap_remove(rng.below(live.len() as u32) as usize);
                handler.free_raw(pointer).unwrap();
                counts[1] += 1;
            }
        }
        counts[0] -= counts[2];
        done.counts.lock().unwrap().iter_mut().zip(counts).for_each(|(total, n)| *total += n);
    }
    done.live.lock().unwrap().append(&mut live);
}

pub(super) fn report(handler: &Handler, done: &Tallied, passed: f64) {
    let operations = done.operations();
    let [allocations, frees, refused] = *done.counts.lock().unwrap();
    println!("Total operations: {operations} ({allocations} allocations, {frees} frees; {refused} refused besides)");
    println!("Throughput: {:.2} Mop/s", operations as f64 / passed / 1e6);
    for when in ["before heal", "after heal"] {
        let stats = handler.stats().unwrap();
        println!("Final free fragments, {when}: {} free and {} parked", stats.free_blocks, stats.parked_blocks);
        println!("  live: {} blocks, {} of {} bytes", stats.live_blocks, stats.live_bytes, stats.sector_bytes);
        println!("  largest free block: {} of {} free bytes", stats.largest_free, stats.free_bytes);
        println!("  fragmentation: {:.4} (1 - largest free / free)", stats.fragmentation);
        println!("  entropy: {:.4} bits (of the free bytes over the free blocks)", stats.entropy_bits);
        println!("  missed merges: {}", stats.missed_merges);
        // The ratio asked for at first divides the free fragments by the operations: the longer the run, the smaller.
        let percentage = stats.free_blocks as f64 / operations as f64 * 100.0;
        println!("  free fragments / operations: {percentage} % (falls with time: no entropy)");
        handler.heal().unwrap();
    }
}
