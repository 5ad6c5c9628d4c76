//! A cache: what one thread keeps to itself. Its participant number, its parked blocks as indices, and what
//! it has freed for others.
//!
//! A cache is plain process memory, a memory aid and no more: a block is what its header says, and an index
//! that has gone stale is dropped. A process that dies takes indices with it, and no block.

use super::block_header::{Header, State, TAGS};
use super::pool::Pool;
use crate::segment::layout::{BATCH, Granule};
use crate::segment::size_class::{BINS, Bin, EXACT};

/// Indices that a stack can hold.
pub(super) const STACK: usize = 30;

/// No granule's index: out of every sector's range.
const NOTHING: u32 = u32::MAX;

/// One bin's parked blocks, as indices; the newest is on top.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Stack {
    /// Where the next index goes. A word: where a store is soon followed by a load of it, processors forward
    /// words (or foresee that they will) several times as fast as bytes.
    pub(super) top: u32,
    /// Where the oldest one is: what is below never holds any, so that a stack of few is full where the others are.
    pub(super) bottom: u8,
    /// Refills that will leave other caches' batches alone, since this cache has flushed half of a stack.
    pub(super) refill_holdoff: u8,
    /// Where the next batch is expected in the ring of homes.
    pub(super) next_home: u8,
    /// Where the next batch of its own goes there.
    pub(super) next_own_home: u8,
    pub(super) items: [u32; STACK],
}

/// What one thread keeps to itself: its participant number and its parked blocks.
///
/// A cache is plain process memory; losing it loses nothing.
#[derive(Debug)]
pub struct ThreadCache {
    pub(super) owner: u16,
    /// Index of the word that names the granule whose header is about to be stored plainly; 0 without bias,
    /// and before the cache is bound.
    pub(super) hazard: u32,
    /// Granules of the heap that the cache is bound to; 0 as above.
    pub(super) granules: u32,
    /// Where every small block fits: granules before this one.
    pub(super) free_limit: u32,
    /// The header of an untyped live block of this cache's, generation and size left out.
    pub(super) own_live_header: u64,
    /// The tag that it gave last.
    pub(super) tag: u16,
    /// Refills that will look at [`FEW`] homes only, and how many it will be after the next look at all in vain.
    pub(super) short_looks: u8,
    pub(super) patience: u8,
    pub(super) stacks: [Stack; BINS],
    /// Freed blocks of other caches on their way home, [`WAYS`] for each bin; none until there is one.
    pub(super) remote: Option<Box<[RemoteBatch]>>,
    /// Those of them that found no home free.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Parked blocks of other processes' caches that this one is to merge.
    pub(super) limbo: Option<Box<Limbo>>,
    /// Parked large blocks; none until there is one.
    pub(super) large: Option<Box<Pool>>,
    /// Granules that they may have together, where that does not follow from the sector.
    pub(super) most_large: Option<u32>,
    /// What it was refused.
    pub(super) refused: Option<Box<Refusals>>,
}

/// Other caches whose blocks of one bin are collected at a time; a cache's place is its number's last bits.
pub(super) const WAYS: usize = 4;

/// Homes that a cache looks at which has lately found none by looking at all: a look at one that has left the
/// cache costs as much as a split.
pub(super) const FEW: usize = 8;
/// How often, at most, until it looks at all again.
pub(super) const MOST_SHORT_LOOKS: u8 = 15;

/// What a cache was refused, and what has been given back since (matrix::refusals).
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How much others had given back by then.
    pub(super) news_of_others: u64,
    /// How much the cache itself had when the last of them was refused.
    pub(super) own_news: u64,
    pub(super) asked: LeastRefused,
    /// Free blocks, large enough for one of them, that the cache has made since: where they begin, and what they had.
    pub(super) made: Vec<(u32, u32)>,
    /// What is free, in granules, and in the largest free block, at most.
    pub(super) free: u64,
    pub(super) largest: u64,
}

/// Alignments that there are, in granules: each power of two.
const ALIGNMENTS: usize = u32::BITS as usize;

/// What was refused: for each alignment the fewest granules.
#[derive(Debug)]
pub(super) struct LeastRefused([u32; ALIGNMENTS]);

impl Default for LeastRefused {
    fn default() -> Self {
        Self([u32::MAX; ALIGNMENTS])
    }
}

impl LeastRefused {
    pub(super) fn add(&mut self, size: u32, align: u32) {
        let least = &mut self.0[align.trailing_zeros() as usize % ALIGNMENTS];
        *least = size.min(*least);
    }
    /// Whether no more was refused, at no larger an alignment.
    pub(super) fn has_no_more_than(&self, size: u32, align: u32) -> bool {
        self.0.iter().take(align.trailing_zeros() as usize + 1).any(|&least| least <= size)
    }
    /// The fewest granules of all.
    pub(super) fn least(&self) -> u32 {
        self.0.iter().copied().min().unwrap_or(u32::MAX)
    }
}

/// Indices of parked blocks that wait for a fence which reaches other processes.
#[derive(Debug, Default)]
pub(super) struct Limbo(pub(super) Vec<u32>);

/// Batches that found no home free: they wait for one, or for a fence that serves them all.
#[derive(Debug, Default)]
pub(super) struct Outbox(pub(super) std::collections::VecDeque<RemoteBatch>);

/// Indices of blocks that this cache has freed for their owner.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct RemoteBatch {
    pub(super) owner: u16,
    pub(super) bin: u8,
    pub(super) length: u8,
    /// Where the next batch goes in the owner's ring of homes.
    pub(super) next_home: u8,
    pub(super) items: [u32; BATCH],
}

impl RemoteBatch {
    pub(super) fn batch(&self) -> &[u32] {
        &self.items[..(self.length as usize).min(BATCH)]
    }
}

impl ThreadCache {
    /// An empty cache of the participant `owner` (1 or more), which no other cache uses at the same time.
    pub fn new(owner: u16) -> Self {
        Self::with_ceiling(owner, STACK)
    }
    /// A cache whose stacks hold at most `ceiling` blocks (models want small ones); 0 parks nothing.
    pub fn with_ceiling(owner: u16, ceiling: usize) -> Self {
        let mut cache = std::mem::MaybeUninit::uninit();
        // SAFETY: the place is ours; `write` leaves no field out.
        unsafe {
            Self::write(cache.as_mut_ptr(), owner, ceiling);
            cache.assume_init()
        }
    }
    /// A cache whose parked large blocks have so many granules at most (models want few).
    pub fn with_pool(owner: u16, ceiling: usize, granules: u32) -> Self {
        Self { most_large: Some(granules), ..Self::with_ceiling(owner, ceiling) }
    }
    /// Writes such a cache where it is to stand, without a copy of it on the stack.
    ///
    /// # Safety
    /// The place is valid for writes and aligned. What stands there is overwritten, not dropped.
    pub(super) unsafe fn write(place: *mut Self, owner: u16, ceiling: usize) {
        let bottom = STACK - ceiling.min(STACK);
        let stack = Stack {
            top: bottom as u32,
            bottom: bottom as u8,
            refill_holdoff: 0,
            next_home: 0,
            next_own_home: 0,
            items: [NOTHING; STACK],
        };
        // SAFETY: fields of the caller's place; all of them.
        unsafe {
            (&raw mut (*place).owner).write(owner);
            (&raw mut (*place).hazard).write(0);
            (&raw mut (*place).granules).write(0);
            (&raw mut (*place).free_limit).write(0);
            (&raw mut (*place).own_live_header).write(Header::new(State::Allocated, owner, 0, 0).0);
            (&raw mut (*place).tag).write(owner % TAGS);
            (&raw mut (*place).short_looks).write(MOST_SHORT_LOOKS);
            (&raw mut (*place).patience).write(MOST_SHORT_LOOKS);
            for bin in 0..BINS {
                (&raw mut (*place).stacks[bin]).write(stack.clone());
            }
            (&raw mut (*place).remote).write(None);
            (&raw mut (*place).outbox).write(None);
            (&raw mut (*place).limbo).write(None);
            (&raw mut (*place).large).write(None);
            (&raw mut (*place).most_large).write(None);
            (&raw mut (*place).refused).write(None);
        }
    }

    /// Gives back what it keeps on the process's heap, for a cache that ends: nothing drops it where it stands.
    pub(super) fn forget(&mut self) {
        (self.outbox, self.limbo, self.refused) = (None, None, None);
    }

    /// The participant's number.
    #[inline(always)]
    pub fn owner(&self) -> u16 {
        self.owner
    }
    /// Whether this cache looks for free blocks from the sector's end: half of the caches do, so that they
    /// keep out of the others' way.
    #[inline(always)]
    pub(super) fn searches_from_above(&self) -> bool {
        !self.owner.is_multiple_of(2)
    }
    /// The next tag, for a word that nobody owns.
    #[inline]
    pub(super) fn next_tag(&mut self) -> u16 {
        self.tag = if self.tag < TAGS { self.tag + 1 } else { 1 };
        self.tag
    }
    /// Whether so many granules fit from `g` on in the heap that the cache is bound to.
    #[inline(always)]
    pub(super) fn has_room_for(&self, g: Granule, size: u32) -> bool {
        g.0 < self.granules && size <= self.granules - g.0
    }
    /// Whether this is the header of a live block of this cache's, typed or not as the caller knows.
    #[inline(always)]
    pub(super) fn owns(&self, header: Header, typed: bool) -> bool {
        match typed {
            true => header.is_typed() && header.owner() == self.owner,
            false => header.held_by_same(Header(self.own_live_header)),
        }
    }
    /// The number of the stack for the live block of this cache's with this header at `g`, if it is one, and of
    /// a small size: each of those has a stack to itself.
    #[inline(always)]
    pub(super) fn own_stack(&self, g: Granule, header: Header, typed: bool) -> Option<usize> {
        if g.0 >= self.free_limit || !self.owns(header, typed) {
            return None;
        }
        let size = header.live_size(typed);
        (size < EXACT).then_some(size as usize)
    }
    pub(super) fn way(&mut self, at: usize) -> &mut RemoteBatch {
        let ways = self.remote.get_or_insert_with(|| vec![RemoteBatch::default(); WAYS * BINS].into());
        &mut ways[at]
    }
    /// Whether blocks are parked here at all.
    #[inline(always)]
    pub(super) fn parks(&self) -> bool {
        self.stacks[0].ceiling() != 0
    }
    /// Whether there are indices of a bin's blocks, stale ones perhaps.
    #[inline(always)]
    pub(super) fn has_parked(&self, bin: Bin) -> bool {
        self.stacks[bin.0].length() != 0
    }
    /// Indices on the stacks; some may be stale.
    pub fn parked(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |pool| pool.length());
        self.stacks.iter().map(|stack| stack.length() as usize).sum::<usize>() + large
    }
    /// Whether the cache has parked large blocks, or has any on their way home.
    pub(super) fn has_large(&self) -> bool {
        self.large.is_some()
    }
    /// Granules of the large blocks that the cache has parked; some may be others' by now.
    pub fn parked_large(&self) -> u32 {
        self.large.as_ref().map_or(0, |pool| pool.parked())
    }
}

impl Stack {
    /// Debug builds look at it wherever the stack changes.
    #[inline(always)]
    fn stay_within_bounds(&self) {
        let (bottom, top) = (usize::from(self.bottom), self.top as usize);
        debug_assert!(bottom <= top && top <= STACK, "a stack from {bottom} to {top}");
    }
    #[inline(always)]
    pub(super) fn length(&self) -> u32 {
        self.top - u32::from(self.bottom)
    }
    pub(super) fn ceiling(&self) -> usize {
        STACK - self.bottom as usize
    }
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        (self.top as usize) < STACK
    }
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Granule> {
        self.stay_within_bounds();
        let newest = self.top.checked_sub(1).filter(|&newest| newest >= u32::from(self.bottom))?;
        self.top = newest;
        self.items.get(newest as usize).map(|&g| Granule(g))
    }
    /// The newest one at a multiple of `mask` + 1 granules; the very newest takes its place.
    #[inline(always)]
    pub(super) fn pop_aligned(&mut self, mask: u32) -> Option<Granule> {
        if mask != 0 {
            let (bottom, top) = (self.bottom as usize, self.top as usize);
            let aligned = (bottom..top).rev().find(|&at| self.items[at] & mask == 0)?;
            self.items.swap(aligned, top - 1);
        }
        self.pop()
    }
    /// False if the stack is full.
    #[inline(always)]
    pub(super) fn push(&mut self, g: Granule) -> bool {
        self.stay_within_bounds();
        let Some(item) = self.items.get_mut(self.top as usize) else { return false };
        *item = g.0;
        self.top += 1;
        true
    }
    /// Takes the oldest half, at most a batch.
    pub(super) fn oldest_half(&mut self, into: &mut [u32; BATCH]) -> usize {
        self.stay_within_bounds();
        let (first, count) = (self.bottom as usize, self.length().div_ceil(2).min(BATCH as u32) as usize);
        into[..count].copy_from_slice(&self.items[first..first + count]);
        self.items.copy_within(first + count..self.top as usize, first);
        self.top -= count as u32;
        count
    }
}
