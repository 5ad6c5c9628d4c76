//! A cache's memory of its parked large blocks: indices by bin, and which of them go when there is no room.
//!
//! It is plain memory of one process, and an aid: the blocks are in the headers, open to everybody (matrix::large).

use super::block_header::Header;
use super::size_class::{LARGES, Large};
use crate::segment::layout::{BATCH, Granule};

/// Blocks that a pool remembers at most, besides each bin's newest.
const NODES: usize = 2047;
/// Bins that an eviction looks at.
const LOOKS: u32 = 16;
/// Requests that are rounded up after a block of their bin has come back.
const ROUNDED: u8 = 8;
/// Other caches whose blocks are collected at a time; a cache's place is its number's last bits.
pub(super) const WAYS: usize = 4;

/// A parked block, and its header when it was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) at: Granule,
    pub(super) header: Header,
}

impl Parked {
    #[inline(always)]
    pub(super) fn size(self) -> u32 {
        self.header.low_size()
    }
}

/// A block of a bin's list; number 0 is nobody's, and ends every list.
#[derive(Debug, Clone, Copy)]
struct Node {
    block: Parked,
    newer: u16,
    older: u16,
}

/// One bin's blocks: the newest here, since it is the one that is mostly asked for, the others in a list.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Row {
    /// The newest one's header, 0 where there is none (then there is no list either), and where it begins.
    header: Header,
    at: Granule,
    /// The list's first.
    next: u16,
    /// How many requests are rounded up to it from now on.
    rounded: u8,
    /// [`LISTED`] and [`ASKED`]: whether the pool's sets have it.
    marks: u8,
}

const LISTED: u8 = 1;
const ASKED: u8 = 2;

/// No block.
const NONE: Parked = Parked { at: Granule(u32::MAX), header: Header(0) };

impl Row {
    const EMPTY: Self = Self { header: NONE.header, at: NONE.at, next: 0, rounded: 0, marks: 0 };
}

const _: () = assert!(size_of::<Row>() == 16);

/// What only longer lists need: a list's last, and its length.
#[derive(Debug, Clone, Copy, Default)]
struct ListEnd {
    oldest: u16,
    length: u16,
}

/// Bins, one bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Set([u64; LARGES / 64]);

impl Set {
    #[inline(always)]
    fn add(&mut self, bin: usize) {
        self.0[bin / 64 % (LARGES / 64)] |= 1 << (bin % 64);
    }
    fn has(self, bin: usize) -> bool {
        self.0[bin / 64 % (LARGES / 64)] >> (bin % 64) & 1 != 0
    }
    fn remove(&mut self, bin: usize) {
        self.0[bin / 64 % (LARGES / 64)] &= !(1 << (bin % 64));
    }
    fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }
    /// The first bin from this one on, or else the first of all.
    fn first_from(self, bin: usize) -> Option<usize> {
        let in_words = |from: usize| {
            (from / 64..self.0.len()).find_map(|i| {
                let bits = if i == from / 64 { self.0[i] >> (from % 64) << (from % 64) } else { self.0[i] };
                (bits != 0).then(|| i * 64 + bits.trailing_zeros() as usize)
            })
        };
        in_words(bin).or_else(|| in_words(0))
    }
}

/// Blocks of another cache that this one has freed, on their way home.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    pub(super) owner: u16,
    pub(super) granules: u32,
    pub(super) length: usize,
    /// Where the next batch goes in the owner's ring of homes.
    pub(super) next_home: u8,
    pub(super) items: [u32; BATCH],
}

impl Way {
    pub(super) fn batch(&self) -> &[u32] {
        &self.items[..self.length.min(BATCH)]
    }
}

/// The parked large blocks of one cache.
#[derive(Debug)]
pub(super) struct Pool {
    /// Granules that may be parked here, and how many of them are not: less than none, once there may be fewer.
    budget: u32,
    room: i64,
    /// Whether memory was plentiful at the last look, and granules cut and merged since.
    plenty: bool,
    pub(super) moved: u32,
    /// Bins that have blocks, or had some lately; bins that were asked for since the hand last began anew (a row's
    /// marks say the same, so that these are written when that changes); the bin that it looks at next.
    occupied: Set,
    asked: Set,
    hand: usize,
    /// One bin more than there are: the one above the last is asked for, too.
    rows: [Row; LARGES + 1],
    ends: [ListEnd; LARGES + 1],
    nodes: Vec<Node>,
    unused: u16,
    /// Where the next batch is expected in the own ring of homes, and how many searches will look there alone.
    pub(super) next_home: u8,
    pub(super) short_looks: u8,
    pub(super) patience: u8,
    pub(super) ways: [Way; WAYS],
}

impl Pool {
    /// An empty pool, written where it is to stand: a copy of it on the stack would be a good part of what some
    /// threads have.
    pub(super) fn new() -> Box<Self> {
        let mut pool = Box::new_uninit();
        let place: *mut Self = pool.as_mut_ptr();
        // All fields, or this does not compile.
        #[rustfmt::skip]
        let _ = |Self {
            budget: _, room: _, plenty: _, moved: _, occupied: _, asked: _, hand: _, rows: _, ends: _, nodes: _,
            unused: _, next_home: _, short_looks: _, patience: _, ways: _,
        }: &Self| ();
        // SAFETY: fields of a place that is ours alone; all of them.
        unsafe {
            (&raw mut (*place).budget).write(0);
            (&raw mut (*place).room).write(0);
            (&raw mut (*place).plenty).write(false);
            (&raw mut (*place).moved).write(0);
            (&raw mut (*place).occupied).write(Set::default());
            (&raw mut (*place).asked).write(Set::default());
            (&raw mut (*place).hand).write(0);
            for bin in 0..=LARGES {
                (&raw mut (*place).rows[bin]).write(Row::EMPTY);
                (&raw mut (*place).ends[bin]).write(ListEnd::default());
            }
            (&raw mut (*place).nodes).write(vec![Node { block: NONE, newer: 0, older: 0 }]);
            (&raw mut (*place).unused).write(0);
            (&raw mut (*place).next_home).write(0);
            (&raw mut (*place).short_looks).write(0);
            (&raw mut (*place).patience).write(0);
            for way in 0..WAYS {
                (&raw mut (*place).ways[way]).write(Way::default());
            }
            pool.assume_init()
        }
    }

    /// Changes what may be parked; what is too much by now stays until the next evictions.
    pub(super) fn set_budget(&mut self, budget: u32, plenty: bool) {
        self.plenty = plenty;
        self.room += i64::from(budget) - i64::from(self.budget);
        self.budget = budget;
    }
    /// Whether a block of this size could ever be parked here.
    pub(super) fn may_have(&self, size: u32) -> bool {
        size <= self.budget
    }
    /// Granules parked.
    pub(super) fn parked(&self) -> u32 {
        (i64::from(self.budget) - self.room) as u32
    }
    /// Blocks parked.
    pub(super) fn length(&self) -> usize {
        (0..LARGES).map(|bin| self.list(bin).count()).sum()
    }
    fn list(&self, bin: usize) -> impl Iterator<Item = Parked> {
        let mut next = self.rows[bin].next;
        let others = std::iter::from_fn(move || {
            let node = self.nodes[next as usize];
            (next != 0).then(|| {
                next = node.older;
                node.block
            })
        });
        self.newest(Large(bin)).into_iter().chain(others)
    }

    #[inline(always)]
    fn row(&mut self, bin: usize) -> &mut Row {
        // Bins are within the rows: a branch for each would cost more than this.
        &mut self.rows[bin.min(LARGES)]
    }

    #[inline(always)]
    fn end(&mut self, bin: usize) -> &mut ListEnd {
        &mut self.ends[bin.min(LARGES)]
    }

    /// The bin's newest block.
    #[inline(always)]
    pub(super) fn newest(&self, bin: Large) -> Option<Parked> {
        let newest = self.newest_or_none(bin);
        (newest.header != NONE.header).then_some(newest)
    }

    /// The same; where there is none, one of no size, with a header that no parked block has.
    #[inline(always)]
    pub(super) fn newest_or_none(&self, bin: Large) -> Parked {
        let row = &self.rows[bin.0.min(LARGES)];
        Parked { at: row.at, header: row.header }
    }

    /// Takes it, which is this one.
    #[inline(always)]
    pub(super) fn take_newest(&mut self, bin: Large, newest: Parked) {
        self.room += i64::from(newest.size());
        let row = self.row(bin.0);
        row.header = NONE.header;
        if row.marks & ASKED == 0 {
            self.mark_asked(bin.0);
        }
        self.advance(bin.0);
    }

    #[cold]
    #[inline(never)]
    fn mark_asked(&mut self, bin: usize) {
        self.row(bin).marks |= ASKED;
        self.asked.add(bin);
    }

    /// The bin has no block.
    fn strike_off(&mut self, bin: usize) {
        self.row(bin).marks &= !LISTED;
        self.occupied.remove(bin);
    }

    /// No bin was asked for since.
    fn ask_anew(&mut self) {
        while let Some(bin) = self.asked.first_from(0) {
            self.row(bin).marks &= !ASKED;
            self.asked.remove(bin);
        }
    }

    /// The list's first block, if it has one, becomes the bin's newest.
    #[inline(always)]
    fn advance(&mut self, bin: usize) {
        let row = self.row(bin);
        let at = row.next;
        if at == 0 {
            return;
        }
        let node = &mut self.nodes[at as usize];
        let Node { block, older, .. } = *node;
        node.older = std::mem::replace(&mut self.unused, at);
        let row = self.row(bin);
        (row.header, row.at, row.next) = (block.header, block.at, older);
        self.end(bin).length -= 1;
        if older != 0 {
            self.nodes[older as usize].newer = 0;
        }
    }

    fn give_back(&mut self, at: u16) {
        self.nodes[at as usize].older = self.unused;
        self.unused = at;
    }

    /// Remembers a block of the bin that has none, if there is room. False: nothing was done.
    #[inline(always)]
    pub(super) fn push_first(&mut self, bin: Large, block: Parked) -> bool {
        let room = self.room - i64::from(block.size());
        let row = self.row(bin.0);
        if room < 0 || row.header.0 != 0 || row.marks & LISTED == 0 {
            return false;
        }
        (row.header, row.at, row.rounded) = (block.header, block.at, ROUNDED);
        self.room = room;
        true
    }

    /// The same, for whoever has made room.
    #[inline(never)]
    pub(super) fn push_after_all(&mut self, bin: Large, block: Parked) -> bool {
        self.push(bin, block)
    }

    /// Remembers a block of the bin. False if there is no room.
    #[inline(always)]
    pub(super) fn push(&mut self, bin: Large, block: Parked) -> bool {
        let room = self.room - i64::from(block.size());
        if room < 0 || (self.row(bin.0).header.0 != 0 && !self.spill(bin.0)) {
            return false;
        }
        self.room = room;
        let row = self.row(bin.0);
        // Whoever asks for a little less than the bin's smallest can have it.
        (row.header, row.at, row.rounded) = (block.header, block.at, ROUNDED);
        if row.marks & LISTED == 0 {
            row.marks |= LISTED;
            self.occupied.add(bin.0);
        }
        true
    }

    /// The bin's newest block becomes the list's first. False if there is no room.
    #[inline(always)]
    fn spill(&mut self, bin: usize) -> bool {
        let Some(at) = self.unused_node() else { return false };
        let row = self.row(bin);
        let (block, older) = (Parked { at: row.at, header: row.header }, row.next);
        row.next = at;
        let end = self.end(bin);
        end.length += 1;
        match older {
            0 => end.oldest = at,
            older => self.nodes[older as usize].newer = at,
        }
        self.nodes[at as usize] = Node { block, newer: 0, older };
        true
    }

    #[inline(always)]
    fn unused_node(&mut self) -> Option<u16> {
        match self.unused {
            0 => self.new_node(),
            at => {
                self.unused = self.nodes[at as usize].older;
                Some(at)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn new_node(&mut self) -> Option<u16> {
        let at = self.nodes.len();
        (at <= NODES).then(|| {
            self.nodes.push(Node { block: NONE, newer: 0, older: 0 });
            at as u16
        })
    }

    /// Takes the block that is to go first, a bin's oldest.
    pub(super) fn evict(&mut self) -> Option<Parked> {
        let bin = if self.plenty { self.fullest()? } else { self.next_idle()? };
        let block = self.take_oldest(bin);
        self.room += i64::from(block.size());
        Some(block)
    }

    /// While memory is plentiful: of [`LOOKS`] bins in turn, one that was not asked for in this round comes
    /// before those that were; then the one that keeps most granules.
    fn fullest(&mut self) -> Option<usize> {
        let (asked, mut looks, mut fullest) = (self.asked, 0, None);
        while looks < LOOKS || fullest.is_none() {
            let bin = self.occupied.first_from(self.hand)?;
            if bin < self.hand {
                self.ask_anew();
            }
            self.hand = bin + 1;
            looks += 1;
            match self.newest(Large(bin)) {
                None => self.strike_off(bin),
                Some(newest) => {
                    let granules = (u64::from(self.ends[bin].length) + 1) * u64::from(newest.size());
                    fullest = fullest.max(Some((!asked.has(bin), granules, bin)));
                }
            }
        }
        fullest.map(|(.., bin)| bin)
    }

    /// While it is short: the next bin that was not asked for lately, until it is empty, since its blocks' neighbours
    /// come together then. (The algorithm is known as CLOCK, here over bins.)
    fn next_idle(&mut self) -> Option<usize> {
        loop {
            let idle = self.occupied.without(self.asked);
            let bin = idle.first_from(self.hand).or_else(|| {
                self.ask_anew();
                self.occupied.first_from(self.hand)
            })?;
            self.hand = bin;
            if self.newest(Large(bin)).is_some() {
                return Some(bin);
            }
            self.strike_off(bin);
        }
    }

    fn take_oldest(&mut self, bin: usize) -> Parked {
        let (row, end) = (&mut self.rows[bin], &mut self.ends[bin]);
        if row.next == 0 {
            return Parked { at: row.at, header: std::mem::replace(&mut row.header, NONE.header) };
        }
        let at = end.oldest;
        let Node { block, newer, .. } = self.nodes[at as usize];
        end.oldest = newer;
        end.length -= 1;
        match newer {
            0 => row.next = 0,
            newer => self.nodes[newer as usize].older = 0,
        }
        self.give_back(at);
        block
    }

    /// A block has come back, without room, which requests up to the smallest size of the bin might have had.
    pub(super) fn came_back(&mut self, bin: Large) {
        self.row(bin.0).rounded = ROUNDED;
    }

    /// Whether a request that was not served by its own bin, or the next one, is rounded up to the next: while
    /// memory is plentiful, for a while after blocks of the next bin have come back, or where one of its own has
    /// that is too small. Who only fills a segment wastes nothing.
    pub(super) fn is_rounded(&mut self, own: Option<Large>, next: Large) -> bool {
        let too_small = own.is_some_and(|own| self.newest(own).is_some());
        let left = &mut self.row(next.0).rounded;
        let rounded = *left > 0 || too_small;
        *left = left.saturating_sub(1);
        rounded && self.plenty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::block_header::State;
    use std::collections::VecDeque;

    fn block(at: u32, size: u32) -> Parked {
        Parked { at: Granule(at), header: Header::new(State::Acked, 1, at, size) }
    }

    /// Against a list for each bin: what is taken and evicted, what there is, and that nothing exceeds the budget.
    #[test]
    fn a_pool_is_a_bounded_stack_for_each_bin() {
        let mut random = fastrand::Rng::with_seed(17);
        for (budget, plenty) in [0, 1, 50, 3000, 1 << 20].iter().flat_map(|&budget| [(budget, true), (budget, false)]) {
            let mut pool = Pool::new();
            pool.set_budget(budget, plenty);
            let mut lists: Vec<VecDeque<Parked>> = vec![VecDeque::new(); LARGES];
            for step in 0..20_000 {
                let bin = [0, 1, 63, 64, 200, LARGES - 1][random.usize(0..6)];
                match random.u32(0..10) {
                    0..5 => {
                        let block = block(step, random.u32(1..20));
                        let before = pool.parked();
                        match pool.push(Large(bin), block) {
                            true => lists[bin].push_back(block),
                            false => assert!(before + block.size() > budget || pool.length() >= NODES),
                        }
                    }
                    5..8 => {
                        assert_eq!(pool.newest(Large(bin)), lists[bin].back().copied());
                        if let Some(newest) = lists[bin].pop_back() {
                            pool.take_newest(Large(bin), newest);
                        }
                    }
                    _ => match pool.evict() {
                        Some(block) => {
                            let list = lists.iter_mut().find(|list| list.front() == Some(&block));
                            list.expect("the oldest of a bin").pop_front();
                        }
                        None => assert!(lists.iter().all(VecDeque::is_empty)),
                    },
                }
                let granules: u32 = lists.iter().flatten().map(|block| block.size()).sum();
                assert_eq!(pool.parked(), granules);
                assert!(granules <= budget);
            }
            assert_eq!(pool.length(), lists.iter().map(VecDeque::len).sum::<usize>());
        }
    }

    /// A bin that nobody asks for any more gives way to those in use, whatever there is of these.
    #[test]
    fn a_bin_out_of_use_is_evicted_first() {
        for (plenty, idle, used) in [(false, 7, 90), (false, 90, 7), (true, 7, 90), (true, 90, 7)] {
            let mut pool = Pool::new();
            pool.set_budget(100, plenty);
            let block = |at| block(at, 1);
            (0..50).for_each(|at| assert!(pool.push(Large(idle), block(at))));
            (50..100).for_each(|at| assert!(pool.push(Large(used), block(at))));
            for at in 100..150 {
                pool.take_newest(Large(used), block(at - 1));
                assert!(pool.push(Large(used), block(at)));
                assert!(!pool.push(Large(used), block(at)));
                assert_eq!(pool.evict(), Some(block(at - 100)));
                assert!(pool.push(Large(used), block(at)));
            }
            assert_eq!(pool.newest(Large(idle)), None);
        }
    }

    /// Which bins are in use is known until the hand has gone round them all, however many evictions that takes.
    #[test]
    fn the_hand_goes_round_in_several_evictions() {
        let (mut pool, idle) = (Pool::new(), 100 + LOOKS as usize + 4);
        pool.set_budget(1 << 20, true);
        for bin in 100..100 + 2 * LOOKS as usize {
            let block = block(bin as u32, if bin == idle { 1 } else { 10 });
            assert!(pool.push(Large(bin), block));
            if bin != idle {
                pool.take_newest(Large(bin), block);
                assert!(pool.push(Large(bin), block));
            }
        }
        let evicted = [pool.evict(), pool.evict()].map(|block| block.expect("many are parked").at.index());
        assert!((100..100 + LOOKS as usize).contains(&evicted[0]) && evicted[1] == idle, "{evicted:?}");
    }

    /// A pool remembers so many blocks, however small they are.
    #[test]
    fn a_pool_has_a_bound_in_blocks() {
        let mut pool = Pool::new();
        pool.set_budget(u32::MAX, true);
        let kept = (0..3000).filter(|&at| pool.push(Large(5), block(at, 1))).count();
        assert_eq!((kept, pool.length()), (NODES + 1, NODES + 1));
    }

    /// A request is rounded up to a bin whose blocks come back, for a while, or where its own has what is too small.
    #[test]
    fn requests_are_rounded_up_where_blocks_come_back() {
        let (own, next) = (Large(5), Large(6));
        for plenty in [false, true] {
            let mut pool = Pool::new();
            pool.set_budget(100, plenty);
            assert!(!pool.is_rounded(None, next) && !pool.is_rounded(Some(own), next), "nothing has come back");
            pool.came_back(next);
            let rounded = (0..20).filter(|_| pool.is_rounded(Some(own), next)).count();
            assert_eq!(rounded, if plenty { usize::from(ROUNDED) } else { 0 });
            assert!(pool.push(own, block(8, 1)));
            assert_eq!((pool.is_rounded(Some(own), next), pool.is_rounded(None, next)), (plenty, false));
        }
    }

    /// Of bins that are all in use, the one goes first that keeps most granules, and all keep about as many then.
    #[test]
    fn the_bin_that_keeps_most_is_evicted_first() {
        let mut pool = Pool::new();
        pool.set_budget(1000, true);
        let bins: [(usize, u32); 3] = [(3, 1), (70, 10), (200, 100)];
        for at in 0..2000 {
            let (bin, size) = bins[at as usize % 3];
            while !pool.push(Large(bin), block(at, size)) {
                pool.evict().expect("something is parked");
            }
        }
        let kept = bins.map(|(bin, size)| pool.list(bin).count() as u32 * size);
        assert!(kept.iter().all(|granules| (250..=450).contains(granules)), "{kept:?}");
    }
}
