//! Bias: a cache changes the headers of its own blocks by plain stores; another that wants one pays for a barrier.
//!
//! A parked block is in state ACKED: open to everybody, so nothing is hidden (L2) and a killed process takes
//! nothing with it. It keeps its cache's number, and that cache alone may change the header by a plain store,
//! under one rule: *A plain-stores a header whose owner is A, and only while A's slot names that granule*
//! ([`SlotWord::Hazard`]).
//!
//! - **Owner A**: name the granule in A's slot; light fence; look at the header; store it (ACKED by A → ALLOCATED by A,
//!   or back); clear the name. No locked instruction. If the header is not what it should be, A stores nothing.
//! - **Thief T** (healing, the last try of an allocation): mark the header by compare-and-swap (ACKED by A →
//!   *marked* by T, a new generation), for many blocks at once; one heavy fence (`membarrier`); then look at
//!   each owner's slot. If A's slot names the block, A gets it back; else a compare-and-swap from exactly the
//!   mark makes it unowned, and anybody (T first) takes it by another.
//! - **Adopter** of A's live block: much the same (matrix::adoption).
//! - **Remote free** of A's block by another: ALLOCATED by A → ACKED by A, one compare-and-swap; the index goes home in
//!   a batch (matrix::outbox). If A frees it at the same moment, both write the same word. (Both are told that they
//!   freed it: of two racing frees without a generation in between, the second is refused only where it comes after
//!   the first.)
//! - **Unowned** blocks (owner 0) are taken by compare-and-swap.
//!
//! **Proof.** T's heavy fence falls before A's light fence, and then A's look sees the mark, and A stores nothing; or
//! behind it, and then A's name was in the slot for T to see, unless A had cleared it again: then A's store was done
//! before T's look, and the mark is gone.
//!
//! **Progress.** Neither waits: a thief replaces another thief's mark that has stood for the time of a fence by its
//! own; an owner that meets a mark on its block takes it back by compare-and-swap. A stopped owner keeps from
//! others the one block that its slot names.
//!
//! The thief's steps are in [`steal`](super::steal). Dice, Huang, Yang: "Asymmetric Dekker Synchronization" (2001) has
//! the idea of the unequal fences. Where membarrier(2) is not to be had, the segment is made without bias, and every
//! step is a compare-and-swap.

use super::block_header::{Header, State, is_adopter, is_nobody};
use super::thread_cache::ThreadCache;
use super::words::{Heap, Kind, view};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Reach, Word};
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::{Region, WordIndex};
use crate::segment::size_class::{Bin, EXACT};
use crate::segment::slot::Slots;

view! {
    /// The owner's plain stores, and who may take a parked block.
    pub(crate) struct Bias, bias
}

impl<R: Region> Bias<'_, R> {
    /// Binds a cache to this heap: it parks with bias if the heap does.
    #[inline]
    pub(super) fn bind(self, cache: &mut ThreadCache) {
        debug_assert!(self.heap.is_participant(cache.owner), "a cache of number {}", cache.owner);
        if cache.hazard == 0 && self.heap.biased() {
            cache.hazard = self.heap.layout().slot(cache.owner, SlotWord::Hazard).0 as u32;
            cache.granules = self.heap.layout().granules;
            // Where some of those sizes are large, the quick ways stand back.
            let quick = self.heap.layout().params.larges.from >= EXACT;
            cache.free_limit = if quick { (cache.granules + 1).saturating_sub(EXACT) } else { 0 };
        }
    }

    /// Where a bound cache names granules in this heap, or 0: in range, even if the cache was bound to another heap.
    pub(super) fn hazard_of(self, cache: &ThreadCache) -> u32 {
        if cache.hazard == 0 { 0 } else { self.heap.layout().slot(cache.owner, SlotWord::Hazard).0 as u32 }
    }

    /// The owner's way to change a header of its own without a locked instruction: stores what `change` makes
    /// of it, if anything. No other thread uses the cache's number; the cache is bound. `word` is the header
    /// of `g`. Once `change` has found the header as it should be, the block is this cache's alone until the
    /// store. `gives`: a live block becomes a parked one, which is counted (matrix::news).
    ///
    /// # Safety
    /// `hazard` is the index of a slot's hazard word, of this heap's.
    #[inline(always)]
    pub(super) unsafe fn change_own<T>(
        self,
        hazard: u32,
        g: Granule,
        word: &<R::Backend as Backend>::Word,
        gives: bool,
        change: impl FnOnce(Header) -> Option<(Header, T)>,
    ) -> Option<T> {
        // SAFETY: the caller's.
        let (slot, given) =
            unsafe { (self.heap.region().word_in_range(WordIndex(hazard as usize)), self.given_beside(hazard)) };
        let count = |if_early| {
            if gives && R::Backend::mutated(Mutant::NewsToldEarly) == if_early {
                self.heap.news().count(given);
            }
        };
        count(true);
        // 1. Name the granule in the own slot.
        if R::Backend::takes(Mutant::HazardUnset) {
            slot.store(g.0 as u64 + 1, &HAZARD_SET);
        }
        if R::Backend::takes(Mutant::OwnFenceDropped) {
            R::Backend::light_fence(&OWN_FENCE);
        }
        // 2. Look at the header, and 3. if it is as it should be, store it. 4. Count what was given back.
        let changed = change(Header(word.load(&OWN_LOOK))).map(|(header, result)| {
            word.store(header.0, &OWN_STORE);
            count(false);
            result
        });
        // 5. Clear the name.
        slot.store(0, &HAZARD_CLEAR);
        changed
    }

    /// Where the participant whose hazard word this is counts what it gives back.
    ///
    /// # Safety
    /// It is a slot's hazard word, of this heap's.
    #[inline(always)]
    pub(super) unsafe fn given_beside(&self, hazard: u32) -> &<R::Backend as Backend>::Word {
        const BESIDE: usize = SlotWord::Given as usize - SlotWord::Hazard as usize;
        // SAFETY: the caller's: it is of the same slot.
        unsafe { self.heap.region().word_in_range(WordIndex(hazard as usize + BESIDE)) }
    }

    /// Makes a parked block of this cache unowned: from now on any cache may take it by compare-and-swap.
    pub(super) fn renounce(self, cache: &ThreadCache, bin: Bin, g: Granule) {
        let place = self.heap.place(g, bin.size());
        let parked = Header::new(State::Acked, cache.owner, 0, place);
        let change = |header: Header| {
            let unowned = Header::new(State::Acked, 0, header.generation(), place);
            (header.meaning() == parked.0).then_some((unowned, ()))
        };
        // SAFETY: a cache that has parked under bias is bound: `hazard_of` is its slot's word in this heap.
        let _ = unsafe { self.change_own(self.hazard_of(cache), g, self.heap.header(g), false, change) };
    }

    /// Whether `owner` may take a parked block by one compare-and-swap: no other cache stores its header plainly.
    #[inline]
    pub(super) fn may_take(self, owner: u16, header: Header) -> bool {
        let is_small = || self.heap.layout().bin_of(header.size()).is_some();
        !self.heap.biased() || header.parked_by() == owner || is_nobody(header.parked_by()) || !is_small()
    }

    /// Whether the participant `owner` is another process's than `me`, and alive as far as is known. A slot
    /// without a holder is near: its next holder passes a full fence before it looks at a header. So is one
    /// whose holder has been declared dead: its last store was done before the kernel released its life, and
    /// so before this was declared and read.
    pub(super) fn is_far(self, me: u16, owner: u16) -> bool {
        let process = |number| self.heap.slot(number, SlotWord::Process).load(&SLOT_LOOK);
        let other = process(owner);
        other != 0 && other != process(me) && Slots(self.heap.region()).begun(owner).is_none()
    }

    /// What a heavy fence of `me` has to reach, for what it has marked to be seen by these owners.
    pub(super) fn reach(self, me: u16, mut owners: impl Iterator<Item = u16>) -> Reach {
        R::Backend::fence(&REACH_FENCE);
        let far = owners.any(|owner| self.is_far(me, owner)) && R::Backend::takes(Mutant::ReachTooShort);
        if far { Reach::System } else { Reach::Process }
    }

    /// Whether `owner` may be about to store the header at `g` plainly; asked behind a heavy fence.
    pub(super) fn is_hazardous(self, owner: u16, g: Granule) -> bool {
        self.heap.slot(owner, SlotWord::Hazard).load(&HAZARD_LOOK) == g.0 as u64 + 1
    }

    /// Whether an owner's number says that a participant is adopting the block and has not yet ruled out that
    /// its owner stores its header.
    pub(super) fn is_adopting(self, owner: u16) -> bool {
        is_adopter(owner) && R::Backend::takes(Mutant::AdoptingIgnored)
    }
}

impl<R: Region> Heap<R> {
    /// Takes the parked block at `g` by compare-and-swap: the way without bias, and for unowned and marked blocks.
    #[inline]
    pub(super) fn claim_parked(&self, owner: u16, g: Granule, size: u32, kind: Kind) -> Option<Header> {
        let (state, low) = kind.state_of(self.place(g, size), self.spans(g, size));
        let word = self.header(g);
        let header = self.header_at(g, Header(word.load(&HEADER_HINT)));
        let right_size = R::Backend::check(header.size() == size, Mutant::PopSizeUnchecked);
        let live = Header::new(state, owner, header.next_generation(), low);
        // Held first where it is to be labelled.
        let labelled = state == State::Typed;
        let taken = if labelled { Header::new(State::Coalescing, owner, live.generation(), low) } else { live };
        let free_to_take = header.is_given_up() && right_size && self.bias().may_take(owner, header);
        if !free_to_take || word.cas(header.0, taken.0, &CLAIM).is_err() {
            return None;
        }
        if labelled {
            self.label(g, state, kind);
            word.store(live.0, &HELD_STORE);
        }
        Some(live)
    }
}
