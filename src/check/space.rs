//! A segment in a model: a heap over words of a checker's, and a participant of it.

use super::trace::{self, Call, Payload};
use super::turns::seat_of_running;
use crate::backend::{Backend, Site};
use crate::matrix::heap::{Heap, Kind, ThreadCache};
use crate::matrix::recovery::Policy;
use crate::memory::Memory;
use crate::segment::layout::{Granule, Layout, Params};
use crate::segment::region::{BoxedRegion, Region};
use crate::segment::size_class::Larges;
use std::cell::RefCell;
use std::sync::Arc;

/// log2 of a granule's bytes, and its words.
const GRANULE_SHIFT: u32 = 6;
const GRANULE_WORDS: usize = 8;
/// Blocks of a size that a participant parks for itself: it gets the one that it freed last.
const PARKED: usize = 2;

/// The participants of a model, by number.
pub(super) struct Numbers {
    pub(super) threads: Vec<u16>,
    pub(super) recoverer: u16,
    /// Who begins, and looks on at the end.
    pub(super) observer: u16,
}

impl Numbers {
    pub(super) fn new(threads: usize) -> Self {
        let mut all = 1..;
        let threads = all.by_ref().take(threads).collect();
        let mut next = || all.next().expect("the numbers do not end");
        Self { threads, recoverer: next(), observer: next() }
    }
}

/// A segment in a model.
pub(super) struct Space<B: Backend> {
    heap: Heap<BoxedRegion<B>>,
}

impl<B: Backend> Space<B> {
    /// Of so many granules.
    pub(super) fn new(granules: u32, numbers: &Numbers) -> Arc<Self> {
        let params = Params {
            granule_shift: GRANULE_SHIFT,
            participants: numbers.observer.into(),
            batches: 0,
            directory: 0,
            header_words: 1,
            line_words: 1,
            biased: false,
            larges: Larges::USUAL,
        };
        let region = BoxedRegion::with_payload(Layout::new(granules, params), granules);
        Arc::new(Self { heap: Heap::format(region) })
    }

    /// Where its blocks' words are.
    pub(super) fn payload(&self) -> Payload {
        let words = self.heap.region().payload(Granule(0), 1).expect("all granules have payload");
        Payload { base: words.as_ptr().addr(), each: GRANULE_WORDS }
    }

    /// As `me`: what the dead left is given back.
    pub(super) fn recover(&self, me: u16, dead: u16) {
        let _ = self.heap.recoveries().recover(&mut ThreadCache::with_ceiling(me, 0), dead, Policy::GiveBack);
    }
}

/// A participant in a model.
pub(super) struct Member<B: Backend> {
    space: Arc<Space<B>>,
    me: u16,
    /// In a box, since the stacks of some checkers' threads are small.
    cache: RefCell<Box<ThreadCache>>,
}

impl<B: Backend> Member<B> {
    pub(super) fn new(space: &Arc<Space<B>>, me: u16) -> Self {
        Self { space: Arc::clone(space), me, cache: RefCell::new(Box::new(ThreadCache::with_ceiling(me, PARKED))) }
    }
}

/// Offsets count granules, from 1 on.
fn granule(block: u32) -> Granule {
    Granule(block.wrapping_sub(1))
}

impl<B: Backend> Memory for Member<B> {
    type Word = B::Word;

    fn allocate(&self, words: usize) -> Option<u32> {
        let granules = u32::try_from(words.max(1).div_ceil(GRANULE_WORDS)).ok()?;
        let live = self.space.heap.allocate(&mut self.cache.borrow_mut(), granules, 1, Kind::Raw).ok()?;
        let block = live.at.0 + 1;
        trace::met(block, granules);
        trace::called(seat_of_running(), Call::Allocates(block));
        Some(block)
    }
    fn free(&self, block: u32) -> bool {
        let freed = self.space.heap.free(&mut self.cache.borrow_mut(), granule(block), None).is_ok();
        trace::called(seat_of_running().filter(|_| freed), Call::Frees(block));
        freed
    }
    fn hand_over(&self, block: u32) -> bool {
        let given = self.space.heap.live_at(granule(block));
        let given = given.is_ok_and(|live| self.space.heap.ownership().give_from(self.me, live, 0).is_ok());
        trace::called(seat_of_running().filter(|_| given), Call::HandsOver(block));
        given
    }
    fn adopt(&self, block: u32) -> bool {
        let taken = self.space.heap.live_at(granule(block));
        let taken = taken.is_ok_and(|live| self.space.heap.ownership().give_from(self.me, live, self.me).is_ok());
        trace::called(seat_of_running().filter(|_| taken), Call::Adopts(block));
        taken
    }
    fn word(&self, block: u32, at: usize) -> &B::Word {
        let words = self.space.heap.region().payload(granule(block), at + 1);
        words.map(|words| &words[at]).unwrap_or_else(|| panic!("no word {at} of a block at offset {block}"))
    }
    fn fence(&self, site: &'static Site) {
        B::fence(site);
    }
    fn pause(&self) {
        B::pause();
    }
    fn live(&self) -> u64 {
        self.space.heap.tally().map_or(0, |tally| tally.live.blocks)
    }
}
