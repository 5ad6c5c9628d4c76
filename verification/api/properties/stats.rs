//! Statistics against a count by hand of what a walk over the blocks shows.

use crate::common::segment;
use atomic_matrix::handlers::{BlockState, Handler};

#[test]
fn statistics_are_what_the_blocks_say() {
    let (_scratch, h) = segment();
    let block = |size| h.allocate_raw(size).expect("room");
    // Each freed one lies between two that are kept; of the small ones, which are parked, none is merged.
    let freed = [70_000, 9000, 30_000, 64, 700].map(|size| (block(size), block(64)).0);
    let (merged, parked) = freed.split_at(3);
    merged.iter().for_each(|&block| h.free_raw(block).expect("live"));
    h.heal().expect("a slot is free");
    parked.iter().for_each(|&block| h.free_raw(block).expect("live"));

    let (mut live, mut free, mut parked) = (vec![], vec![], vec![]);
    h.blocks(|seen| match seen.state {
        BlockState::Free => free.push(seen.bytes),
        BlockState::Acked | BlockState::Marked => parked.push(seen.bytes),
        BlockState::Coalescing => panic!("nothing is in flight: {seen:?}"),
        _ => live.push(seen.bytes),
    })
    .expect("they tile");
    let stats = h.stats().expect("sound");
    let count = |sizes: &[u64]| (sizes.len() as u64, sizes.iter().sum::<u64>());
    assert_eq!((stats.live_blocks, stats.live_bytes), count(&live));
    assert_eq!((stats.free_blocks, stats.free_bytes), count(&free));
    assert_eq!((stats.parked_blocks, stats.parked_bytes), count(&parked));
    assert_eq!((stats.in_flight_blocks, stats.in_flight_bytes, stats.missed_merges), (0, 0, 0));
    assert_eq!(stats.sector_bytes, stats.live_bytes + stats.free_bytes + stats.parked_bytes);
    assert!(live.len() >= 5 && free.len() >= 4 && parked.len() >= 2, "{live:?} {free:?} {parked:?}");

    let largest = free.iter().copied().max().expect("one is free");
    let shares = free.iter().map(|&bytes| bytes as f64 / stats.free_bytes as f64);
    let entropy: f64 = shares.map(|share| -share * share.log2()).sum();
    assert_eq!(stats.largest_free, largest);
    assert!((stats.fragmentation - (1.0 - largest as f64 / stats.free_bytes as f64)).abs() < 1e-12, "{stats:?}");
    assert!((stats.entropy_bits - entropy).abs() < 1e-9 && entropy > 0.1, "{entropy}: {stats:?}");

    freed_to_one(&h);
}

/// All is free: one block, no fragmentation, no entropy.
fn freed_to_one(h: &Handler) {
    let mut all = vec![];
    h.blocks(|seen| {
        if !matches!(seen.state, BlockState::Free | BlockState::Acked | BlockState::Marked) {
            all.push(seen.offset);
        }
    })
    .expect("they tile");
    all.into_iter().for_each(|offset| h.free_at(offset).expect("live"));
    h.heal().expect("a slot is free");
    let stats = h.stats().expect("sound");
    assert_eq!((stats.free_blocks, stats.free_bytes, stats.largest_free), (1, stats.sector_bytes, stats.sector_bytes));
    assert!(stats.fragmentation.abs() < 1e-12 && stats.entropy_bits.abs() < 1e-9, "{stats:?}");
}
