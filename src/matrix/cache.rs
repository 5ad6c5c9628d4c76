//! The cache: freed blocks of small sizes wait unmerged for the next request of their size.
//!
//! A lane keeps the indices of its parked blocks on a small stack for each bin; the policy of what stays there and what is let go is this
//! file's. A full stack's older half goes to the lane's own homes: it comes back to the same token lines. Without room there it becomes
//! nobody's and goes to an open slot (matrix::exchange). What finds no open slot is merged. An empty stack is filled from the lane's own
//! homes, then from the open slots, and else from a run that is cut up (matrix::runs).

use super::exchange::ALL;
use super::lane::{FEW, Homeward, Lane, MOST_SHORT_LOOKS, WAYS};
use super::words::Heap;
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::segment::size_class::Bin;

impl<R: Region> Heap<R> {
    /// The bin in which blocks of `size` granules are parked by this lane when freed, if they are.
    #[inline(always)]
    pub(super) fn parking_bin(&self, lane: &Lane, size: u32) -> Option<Bin> {
        self.layout().bin_of(size).filter(|_| lane.parks())
    }

    /// Remembers a block that this lane has just parked. Full: half of the stack goes to the exchange, or is merged.
    #[inline]
    pub(super) fn remember(&self, lane: &mut Lane, bin: Bin, g: Granule) {
        if !lane.stacks[bin.0].push(g) {
            self.spill(lane, bin);
            lane.stacks[bin.0].push(g);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn spill(&self, lane: &mut Lane, bin: Bin) {
        let stack = &mut lane.stacks[bin.0];
        let mut spilt =
            Homeward { owner: lane.owner, bin: bin.0 as u8, next_home: stack.next_spill, ..Homeward::default() };
        spilt.length = stack.oldest_half(&mut spilt.items) as u8;
        stack.spilt = 8;
        if self.biased() && self.give_home(lane, &mut spilt, ALL) {
            lane.stacks[bin.0].next_spill = spilt.next_home;
            return;
        }
        if self.biased() {
            spilt.batch().iter().for_each(|&g| self.renounce(lane, bin, Granule(g)));
        }
        if !self.give_open(lane, bin, spilt.batch()) {
            self.merge_batch(lane, spilt.batch());
        }
    }

    /// Takes a batch from the exchange onto the own stack; false if there is none for this lane.
    ///
    /// Its own batches come first: blocks that wander between lanes make them write each other's token lines. A lane that
    /// frees blocks of the size itself leaves nobody's to those that only allocate, for a while.
    pub(super) fn take_batch(&self, lane: &mut Lane, bin: Bin) -> bool {
        let looks = if lane.short_looks > 0 { FEW } else { ALL };
        if self.take_home(lane, bin, looks) {
            (lane.short_looks, lane.patience) = (0, 0);
            return true;
        }
        match looks {
            FEW => lane.short_looks -= 1,
            _ => {
                lane.patience = (2 * lane.patience + 1).min(MOST_SHORT_LOOKS);
                lane.short_looks = lane.patience;
            }
        }
        let stack = &mut lane.stacks[bin.0];
        if stack.spilt > 0 {
            stack.spilt -= 1;
            return false;
        }
        self.take_open(lane, bin)
    }

    /// Merges everything that this lane has parked, or has on its way home to other lanes.
    pub fn flush(&self, lane: &mut Lane) {
        self.flush_own(lane);
        self.merge_backlog(lane);
        self.empty_limbo(lane);
    }

    /// Merges what this lane has parked, and sends home what it has of other lanes. What finds no home, and what waits for a fence that
    /// takes milliseconds, stays parked where it is. For a lane that ends.
    pub(super) fn retire(&self, lane: &mut Lane) {
        self.flush_own(lane);
        (lane.backlog, lane.limbo) = (None, None);
    }

    fn flush_own(&self, lane: &mut Lane) {
        for bin in (0..self.layout().bins).map(Bin) {
            loop {
                while let Some(g) = lane.stacks[bin.0].pop() {
                    self.merge_parked(lane, g);
                }
                if !self.take_home(lane, bin, ALL) {
                    break;
                }
            }
            for at in bin.0 * WAYS..(bin.0 + 1) * WAYS {
                if lane.homeward.is_some() && lane.way(at).length > 0 {
                    self.dispatch(lane, at);
                }
            }
        }
        self.flush_large(lane);
        lane.homeward = None;
    }
}
