//! Parking: freed blocks of small sizes wait unmerged in a thread's cache for the next request of their size.
//!
//! A cache keeps the indices of its parked blocks on a small stack for each bin; the policy of what stays
//! there and what is let go is this file's. A full stack's older half goes to the cache's own homes: it comes
//! back to the same header lines. Without room there it becomes unowned and goes to a transfer slot
//! (matrix::transfer_cache). What finds no transfer slot is merged. An empty stack is filled from the cache's
//! own homes, then from the transfer slots, and else from a run that is cut up (matrix::runs).

use super::thread_cache::{FEW, MOST_SHORT_LOOKS, RemoteBatch, ThreadCache, WAYS};
use super::transfer_cache::ALL;
use super::words::{Heap, view};
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::segment::size_class::Bin;

view! {
    /// What waits in a thread cache, and for how long.
    pub struct Parking, parking
}

impl<R: Region> Parking<'_, R> {
    /// The bin in which blocks of `size` granules are parked by this cache when freed, if they are.
    #[inline(always)]
    pub(super) fn parking_bin(self, cache: &ThreadCache, size: u32) -> Option<Bin> {
        self.heap.layout().bin_of(size).filter(|_| cache.parks())
    }

    /// Remembers a block that this cache has just parked. Full: half of the stack goes to the transfer cache,
    /// or is merged.
    #[inline]
    pub(super) fn remember(self, cache: &mut ThreadCache, bin: Bin, g: Granule) {
        if !cache.stacks[bin.0].push(g) {
            self.flush_half(cache, bin);
            cache.stacks[bin.0].push(g);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn flush_half(self, cache: &mut ThreadCache, bin: Bin) {
        self.heap.made().sent(cache);
        let stack = &mut cache.stacks[bin.0];
        let mut half = RemoteBatch {
            owner: cache.owner,
            bin: bin.0 as u8,
            next_home: stack.next_own_home,
            ..RemoteBatch::default()
        };
        half.length = stack.oldest_half(&mut half.items) as u8;
        stack.refill_holdoff = 8;
        if self.heap.biased() && self.heap.transfer_cache().give_home(cache, &mut half, ALL) {
            cache.stacks[bin.0].next_own_home = half.next_home;
            return;
        }
        if self.heap.biased() {
            half.batch().iter().for_each(|&g| self.heap.bias().renounce(cache, bin, Granule(g)));
        }
        if !self.heap.transfer_cache().put_batch(cache, bin, half.batch()) {
            self.heap.stealing().merge_batch(cache, half.batch());
        }
    }

    /// Takes a batch from the transfer cache onto the own stack; false if there is none for this cache.
    ///
    /// Its own batches come first: blocks that wander between caches make them write each other's header
    /// lines. A cache that frees blocks of the size itself leaves unowned ones to those that only allocate, for a
    /// while.
    pub(super) fn take_batch(self, cache: &mut ThreadCache, bin: Bin) -> bool {
        let looks = if cache.short_looks > 0 { FEW } else { ALL };
        if self.heap.transfer_cache().take_home(cache, bin, looks) {
            (cache.short_looks, cache.patience) = (0, 0);
            return true;
        }
        match looks {
            FEW => cache.short_looks -= 1,
            _ => {
                cache.patience = (2 * cache.patience + 1).min(MOST_SHORT_LOOKS);
                cache.short_looks = cache.patience;
            }
        }
        let stack = &mut cache.stacks[bin.0];
        if stack.refill_holdoff > 0 {
            stack.refill_holdoff -= 1;
            return false;
        }
        self.heap.transfer_cache().get_batch(cache, bin)
    }

    /// Merges everything that this cache has parked, or has on its way home to other caches.
    pub fn flush(self, cache: &mut ThreadCache) {
        self.flush_near(cache);
        self.heap.stealing().empty_limbo(cache);
    }

    /// The same but for what needs a fence that reaches other processes.
    pub(super) fn flush_near(self, cache: &mut ThreadCache) {
        self.flush_own(cache);
        self.heap.remote_frees().merge_outbox(cache);
    }

    /// Merges what this cache has parked on its own stacks and in its pool.
    pub(super) fn merge_own(self, cache: &mut ThreadCache) {
        let elsewhere = cache.remote.is_some()
            || cache.outbox.as_ref().is_some_and(|outbox| !outbox.0.is_empty())
            || cache.limbo.as_ref().is_some_and(|limbo| !limbo.0.is_empty());
        if elsewhere {
            self.heap.made().sent(cache);
        }
        for bin in (0..self.heap.layout().bins).map(Bin) {
            while let Some(g) = cache.stacks[bin.0].pop() {
                self.heap.stealing().merge_parked(cache, g);
            }
        }
        self.heap.large().merge_pool(cache);
    }

    /// Merges what this cache has parked, and sends home what it has of other caches. What finds no home, and
    /// what waits for a fence that takes milliseconds, stays parked where it is. For a cache that ends.
    pub(super) fn retire(self, cache: &mut ThreadCache) {
        self.flush_own(cache);
        cache.forget();
    }

    fn flush_own(self, cache: &mut ThreadCache) {
        for bin in (0..self.heap.layout().bins).map(Bin) {
            loop {
                while let Some(g) = cache.stacks[bin.0].pop() {
                    self.heap.stealing().merge_parked(cache, g);
                }
                if !self.heap.transfer_cache().take_home(cache, bin, ALL) {
                    break;
                }
            }
            for at in bin.0 * WAYS..(bin.0 + 1) * WAYS {
                if cache.remote.is_some() && cache.way(at).length > 0 {
                    self.heap.remote_frees().dispatch(cache, at);
                }
            }
        }
        self.heap.large().flush_large(cache);
        cache.remote = None;
    }
}
