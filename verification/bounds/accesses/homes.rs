//! Blocks that others free come home: their owner hands them out again before it cuts new ones. Only the work
//! that it saves would notice otherwise.

use atomic_matrix::backend::Native;
use atomic_matrix::matrix::heap::{Heap, Kind, ThreadCache};
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::BoxedRegion;
use std::collections::HashSet;

/// An owner's blocks of `size` granules are all freed by another; how many of its next ones are the same.
fn come_home(size: u32, freed: usize, next: usize) -> usize {
    let params = Params { biased: true, participants: 4, batches: 8, ..Params::for_segment(4 << 20) };
    let layout = Layout::fit(4 << 20, params).expect("room for a sector");
    let heap = Heap::<BoxedRegion<Native>>::format(BoxedRegion::new(layout));
    let (mut owner, mut other) = (ThreadCache::new(1), ThreadCache::new(2));
    let block = |cache: &mut ThreadCache| heap.allocate(cache, size, 1, Kind::Raw).expect("room").at;
    let blocks: HashSet<_> = (0..freed).map(|_| block(&mut owner)).collect();
    blocks.iter().for_each(|&at| heap.free(&mut other, at, None).expect("live"));
    (0..next).filter(|_| blocks.contains(&block(&mut owner))).count()
}

#[test]
fn l4_blocks_that_others_free_are_their_owners_next_ones() {
    // Small ones go home in batches of 14, and the owner's own stack comes first.
    let small = come_home(4, 84, 84);
    assert!(small >= 42, "{small} of 84");
    // Large ones in batches of a 64th of the sector.
    let large = come_home(704, 6, 4);
    assert_eq!(large, 4);
}
