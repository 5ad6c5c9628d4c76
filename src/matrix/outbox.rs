//! The outbox: what a cache has freed for others goes home in batches.
//!
//! Full batches go to their owner's homes in the transfer cache. What finds no home free waits with the cache
//! that freed it, and goes home later. When that is more than an eighth of all homes could hold, what belongs to
//! threads of this process is merged behind one heavy fence; what belongs to other processes goes into limbo, until it
//! is worth a fence that reaches them (matrix::steal).

use super::thread_cache::{RemoteBatch, ThreadCache, WAYS};
use super::transfer_cache::{ALL, places};
use super::words::{Heap, view};
use crate::backend::Word;
use crate::segment::layout::{BATCH, Granule};
use crate::segment::region::Region;
use crate::segment::size_class::Bin;

/// Homes for each batch that a cache's outbox may have.
const HOMES_PER_OUTBOX: usize = 8;

view! {
    /// What was freed for others goes home.
    pub(super) struct RemoteFrees, remote_frees
}

impl<R: Region> RemoteFrees<'_, R> {
    /// Collects the index of a block for its owner; a full batch goes to the transfer cache.
    #[inline]
    pub(super) fn send_home(self, cache: &mut ThreadCache, bin: Bin, owner: u16, g: Granule) {
        let full = BATCH.min(cache.stacks[bin.0].ceiling());
        let at = bin.0 * WAYS + owner as usize % WAYS;
        let mut way = cache.way(at);
        if way.length as usize >= full || way.length > 0 && way.owner != owner {
            self.dispatch(cache, at);
            self.heap.stealing().empty_full_limbo(cache);
            way = cache.way(at);
        }
        if way.length as usize + 4 == BATCH
            && let Some(next) = places(way.next_home, self.heap.layout().ring()).next()
        {
            self.heap.word(self.heap.layout().home_of(owner, bin.0, next)).expect_write();
        }
        if way.length > 0 {
            self.expect_next(way.items[(way.length as usize - 1) % BATCH], g);
        }
        (way.owner, way.bin) = (owner, bin.0 as u8);
        way.items[way.length as usize % BATCH] = g.0;
        way.length += 1;
    }

    /// Blocks of one run come back in a row, up or down, as their cache handed them out: fetches the header
    /// line behind this one's before it is asked for. A line comes from another core's cache: it costs more
    /// than all else here.
    #[inline(always)]
    fn expect_next(self, before: u32, g: Granule) {
        let step = g.0.wrapping_sub(before) as i32;
        let line = self.heap.header_line();
        if step.unsigned_abs() <= 2 * line {
            let next = g.0.wrapping_add_signed(step.signum() * line as i32);
            if next < self.heap.layout().granules {
                self.heap.header(Granule(next)).expect_write();
            }
        }
    }

    /// Sends a batch home. Without room in the transfer cache it waits, with its likes, until there is some;
    /// too many of them are merged.
    #[cold]
    #[inline(never)]
    pub(super) fn dispatch(self, cache: &mut ThreadCache, at: usize) {
        self.heap.made().sent(cache);
        let mut way = *cache.way(at);
        let new = (way.owner, way.bin);
        let mut outbox = cache.outbox.take().unwrap_or_default();
        if outbox.0.is_empty() {
            if !self.heap.transfer_cache().give_home(cache, &mut way, ALL) {
                outbox.0.push_back(way);
            }
        } else {
            // The oldest first, which keeps to the order in which their owner handed them out. Two each time:
            // a cache that has caught up is soon rid of them.
            outbox.0.push_back(way);
            for looks in [ALL, 1] {
                let Some(mut oldest) = outbox.0.pop_front() else { break };
                let own = (oldest.owner, oldest.bin) == new;
                if own {
                    oldest.next_home = way.next_home;
                }
                let given = self.heap.transfer_cache().give_home(cache, &mut oldest, looks);
                if own {
                    way.next_home = oldest.next_home;
                }
                match given {
                    true => {}
                    // Another owner's may be for one that takes nothing any more.
                    false if own => outbox.0.push_front(oldest),
                    false => outbox.0.push_back(oldest),
                }
            }
        }
        *cache.way(at) = RemoteBatch { length: 0, ..way };
        let full = outbox.0.len() > self.heap.layout().homes() / HOMES_PER_OUTBOX;
        cache.outbox = Some(outbox);
        if full {
            self.merge_outbox(cache);
        }
    }

    /// Merges what waits for a home.
    pub(super) fn merge_outbox(self, cache: &mut ThreadCache) {
        if let Some(outbox) = cache.outbox.take() {
            let mut blocks = vec![];
            outbox.0.iter().for_each(|batch| blocks.extend_from_slice(batch.batch()));
            self.heap.stealing().merge_batch(cache, &blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::decorators::{Counts, Probe};
    use crate::backend::orderings::BATCH_MAP;
    use crate::matrix::heap::{Kind, Live};
    use crate::matrix::thread_cache::STACK;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    /// A bit of the map that leads to no batch is cleared by the first that follows it.
    #[test]
    fn l4_who_finds_no_batch_where_the_map_says_one_clears_its_bit() {
        let params = Params { biased: true, ..Params::for_segment(16 << 20) };
        let heap = Heap::format(BoxedRegion::<Native>::new(Layout::fit(16 << 20, params).expect("room for a sector")));
        let map = heap.word(heap.layout().batch_map(8));
        map.fetch_or(0b101, &BATCH_MAP);
        assert!(!heap.transfer_cache().get_batch(&mut ThreadCache::new(1), Bin(8)));
        assert_eq!(map.load(&BATCH_MAP), 0);
    }

    /// What is freed for a cache that takes nothing waits, without a fence, and is cut no second time when
    /// that cache takes again; more than that is merged, many blocks behind one fence.
    #[test]
    fn l4_what_finds_no_home_waits_and_goes_home_later() {
        const BYTES: u64 = 16 << 20;
        let params = Params { biased: true, ..Params::for_segment(BYTES) };
        let layout = Layout::fit(BYTES, params).expect("room for a sector");
        let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout));
        let (mut producer, mut consumer) = (ThreadCache::new(1), ThreadCache::new(2));
        let mut send = |count: usize| -> Vec<Live> {
            (0..count).map(|_| heap.allocate(&mut producer, 8, 1, Kind::Raw).expect("room")).collect()
        };
        let mut receive = |sent: Vec<Live>| {
            Counts::reset();
            let waiting = sent.iter().map(|live| {
                heap.free(&mut consumer, live.at, Some(live.header.generation())).expect("live");
                consumer.outbox.as_ref().map_or(0, |outbox| outbox.0.len())
            });
            let (most, last) = waiting.fold((0, 0), |(most, _), now| (now.max(most), now));
            (Counts::get().heavy_fences, last, most)
        };
        let ring = heap.layout().ring();
        let burst = send(2 * ring * BATCH);
        let mut seen: std::collections::BTreeSet<u32> = burst.iter().map(|live| live.at.0).collect();
        let (fences, waiting, _) = receive(burst);
        assert_eq!(fences, 0);
        assert!(waiting >= ring / 2, "half of them find no home: {waiting}");
        for _ in 0..4 * ring {
            let sent = send(2 * BATCH);
            seen.extend(sent.iter().map(|live| live.at.0));
            let (fences, ..) = receive(sent);
            assert_eq!(fences, 0);
        }
        assert!(seen.len() <= 2 * ring * BATCH + STACK, "cut once more: {}", seen.len());
        let many = send(20_000);
        let (fences, waiting, most) = receive(many);
        assert!((1..200).contains(&fences), "{fences} fences");
        assert!(waiting <= most && most == heap.layout().homes() / HOMES_PER_OUTBOX, "{waiting} batches wait");
        heap.parking().flush(&mut consumer);
        heap.parking().flush(&mut producer);
        heap.heal(&mut producer);
        let tally = heap.verify().expect("at rest");
        assert_eq!((tally.free.blocks, tally.free.granules), (1, heap.layout().granules as u64));
    }
}
