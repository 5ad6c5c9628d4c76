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
//!   mark makes it T's.
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
//! Dice, Huang, Yang: "Asymmetric Dekker Synchronization" (2001) has the idea of the unequal fences;
//! membarrier(2) the call, in two kinds ([`Reach`]): owners of the thief's own process are reached in
//! microseconds, others in some milliseconds. (What would reach those in microseconds, too, misses some:
//! `verification/orders/membarrier`.) So blocks of other processes are taken last, when nothing else serves,
//! and all of them behind one dear fence ([`FarSteal`]); what it has taken is unowned, so that the next thief
//! needs none. For blocks of the dead none is needed: a thief that reads in a slot that its holder has been declared
//! dead sees what that holder stored. Where the call is not to be had, the segment is made without bias, and
//! every step is a compare-and-swap.

use super::block_header::{Header, State, is_adopter, is_nobody};
use super::thread_cache::ThreadCache;
use super::words::{Heap, Kind, view};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Reach, Word};
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::{Region, WordIndex};
use crate::segment::size_class::{Bin, EXACT};
use crate::segment::slot::Slots;

/// Blocks of other processes' caches that wait in a cache's limbo, at most, until one fence serves them all.
const LIMBO: usize = 4096;

/// Blocks of this process's caches that one heavy fence serves at most.
const STEAL_MOST: usize = 64;
/// Tiles that a thief looks at for them.
const BATCH_REACH: usize = 4 * STEAL_MOST;
/// A block, and the mark on it as it was read.
type Marked = (Granule, Header);

/// Blocks that a thief wants, before the fence.
struct StealBatch {
    most: usize,
    /// Whether other processes' are among them.
    far: bool,
    /// Blocks with this thief's marks.
    marked: Vec<Marked>,
    /// Blocks with another thief's marks.
    anothers: Vec<Marked>,
}

impl StealBatch {
    const fn new(most: usize, far: bool) -> Self {
        Self { most, far, marked: vec![], anothers: vec![] }
    }
    const fn is_full(&self) -> bool {
        self.marked.len() + self.anothers.len() >= self.most
    }
    const fn is_empty(&self) -> bool {
        self.marked.is_empty() && self.anothers.is_empty()
    }
}

/// What one call may yet take of what other processes' caches have parked: a fence that reaches them takes
/// milliseconds. There is one for all of it; and a second only for blocks on which another thief's marks have
/// stood through the first: that thief stands still, and may be dead.
#[derive(Debug)]
pub(super) enum FarSteal {
    /// The call does not look for them: it can do something else first.
    PutOff,
    /// No fence was made yet.
    Ahead,
    /// One was made; these were marked by others before it.
    Made(Vec<Marked>),
}

impl FarSteal {
    /// For a call whose fences may reach so far.
    pub(super) const fn of(reach: Reach) -> Self {
        match reach {
            Reach::Process => Self::PutOff,
            Reach::System => Self::Ahead,
        }
    }
}

view! {
    /// The owner's plain stores, and what a thief pays instead.
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
    /// store.
    ///
    /// # Safety
    /// `hazard` is the index of a word of this heap's region.
    #[inline(always)]
    pub(super) unsafe fn change_own<T>(
        self,
        hazard: u32,
        g: Granule,
        word: &<R::Backend as Backend>::Word,
        change: impl FnOnce(Header) -> Option<(Header, T)>,
    ) -> Option<T> {
        // SAFETY: the caller's.
        unsafe { self.change_and_tell(hazard, g, word, change, || ()) }
    }

    /// As [`Bias::change_own`], of a live block that becomes a parked one: that it was given back is counted
    /// (matrix::news).
    ///
    /// # Safety
    /// As there, and the word is a slot's hazard word.
    #[inline(always)]
    pub(super) unsafe fn give_own<T>(
        &self,
        hazard: u32,
        g: Granule,
        word: &<R::Backend as Backend>::Word,
        change: impl FnOnce(Header) -> Option<(Header, T)>,
    ) -> Option<T> {
        // SAFETY: the caller's.
        let given = unsafe { self.given_beside(hazard) };
        if !R::Backend::takes(Mutant::NewsToldEarly) {
            self.heap.news().count(given);
            // SAFETY: the caller's.
            return unsafe { self.change_own(hazard, g, word, change) };
        }
        // SAFETY: the caller's.
        unsafe { self.change_and_tell(hazard, g, word, change, || self.heap.news().count(given)) }
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

    /// Names the granule, looks, stores, tells, clears the name.
    ///
    /// # Safety
    /// As for [`Bias::change_own`].
    #[inline(always)]
    unsafe fn change_and_tell<T>(
        &self,
        hazard: u32,
        g: Granule,
        word: &<R::Backend as Backend>::Word,
        change: impl FnOnce(Header) -> Option<(Header, T)>,
        tell: impl FnOnce(),
    ) -> Option<T> {
        // SAFETY: the caller's.
        let hazard = unsafe { self.heap.region().word_in_range(WordIndex(hazard as usize)) };
        if R::Backend::takes(Mutant::HazardUnset) {
            hazard.store(g.0 as u64 + 1, &HAZARD_SET);
        }
        if R::Backend::takes(Mutant::OwnFenceDropped) {
            R::Backend::light_fence(&OWN_FENCE);
        }
        let changed = change(Header(word.load(&OWN_LOOK))).map(|(header, result)| {
            word.store(header.0, &OWN_STORE);
            tell();
            result
        });
        hazard.store(0, &HAZARD_CLEAR);
        changed
    }

    /// Makes a parked block of this cache unowned: from now on any cache may take it by compare-and-swap.
    pub(super) fn renounce(self, cache: &ThreadCache, bin: Bin, g: Granule) {
        let place = self.heap.place(g, bin.size());
        let parked = Header::new(State::Acked, cache.owner, 0, place);
        let change = |header: Header| {
            let unowned = Header::new(State::Acked, 0, header.generation(), place);
            (header.meaning() == parked.0).then_some((unowned, ()))
        };
        // SAFETY: `hazard_of` is in range.
        let _ = unsafe { self.change_own(self.hazard_of(cache), g, self.heap.header(g), change) };
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
    fn is_far(self, me: u16, owner: u16) -> bool {
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

    /// Marks the block at `g` if it is parked by another cache, and not being adopted, and keeps it for
    /// `Bias::revoke`.
    fn mark(self, cache: &ThreadCache, g: Granule, batch: &mut StealBatch) {
        let header = self.heap.look(g);
        let parked = header.is_given_up() && self.heap.fits_sector(g, header) && !self.may_take(cache.owner, header);
        if !parked
            || self.is_adopting(header.parked_by())
            || batch.is_full()
            || !batch.far && self.is_far(cache.owner, header.parked_by())
        {
            return;
        }
        let is_marked = header.state() == State::Marked;
        if is_marked && header.owner() != cache.owner && R::Backend::takes(Mutant::AnothersMarkUsed) {
            batch.anothers.push((g, header));
            return;
        }
        // One of its own number's is as good: its last holder is dead, and that one's compare-and-swap never comes.
        let marked = if is_marked { header } else { header.marked(cache.owner) };
        let unmarked = R::Backend::mutated(Mutant::MarkDropped);
        if is_marked || unmarked || self.heap.header(g).cas(header.0, marked.0, &MARK).is_ok() {
            batch.marked.push((g, if unmarked { header } else { marked }));
        }
    }

    /// Behind one heavy fence: blocks that this thief has marked, and whose owners do not name them, become
    /// unowned, the others their owners' again.
    fn revoke(self, cache: &ThreadCache, marked: &[Marked]) {
        let reach = || self.reach(cache.owner, marked.iter().map(|(_, mark)| mark.parked_by()));
        let fenced = R::Backend::mutated(Mutant::ThiefFenceDropped) || R::Backend::heavy_fence(&THIEF_FENCE, reach());
        for &(g, mark) in marked {
            let owner = mark.parked_by();
            let free_to_go = fenced && R::Backend::check(!self.is_hazardous(owner, g), Mutant::HazardIgnored);
            let whose = if free_to_go { 0 } else { owner };
            let acked = Header::new(State::Acked, whose, mark.generation(), self.heap.place(g, mark.size()));
            let _ = self.heap.header(g).cas(mark.0, acked.0, &TAKE_OVER);
        }
    }

    /// Another thief's marks that have stood for the time of a fence are replaced by this thief's, for a
    /// second fence: of several thieves, the last to mark a block gets it (L1, L2).
    fn mark_again(self, cache: &ThreadCache, anothers: Vec<Marked>) -> Vec<Marked> {
        let mine = |(g, mark): Marked| {
            let marked = mark.marked(cache.owner);
            self.heap.header(g).cas(mark.0, marked.0, &MARK).is_ok().then_some((g, marked))
        };
        anothers.into_iter().filter_map(mine).collect()
    }

    /// Takes parked blocks of this process's other caches over, from the one at `g` on, as many as one fence
    /// may serve. None: another process's cache has parked it ([`Bias::steal_far`]). Else whether the block at
    /// `g` may be taken now, or has changed.
    pub(super) fn steal(self, cache: &ThreadCache, g: Granule) -> Option<bool> {
        let before = self.heap.look(g);
        if self.is_far(cache.owner, before.parked_by()) {
            return None;
        }
        let (mut at, mut batch) = (g, StealBatch::new(STEAL_MOST, false));
        for _ in 0..BATCH_REACH {
            let header = self.heap.look(at);
            if header.state() == State::Inside || !self.heap.fits_sector(at, header) || batch.is_full() {
                break;
            }
            self.mark(cache, at, &mut batch);
            at = at.plus(header.size());
        }
        if !batch.is_empty() {
            self.revoke(cache, &batch.marked);
            let again = self.mark_again(cache, batch.anothers);
            if !again.is_empty() {
                self.revoke(cache, &again);
            }
        }
        let now = self.heap.look(g);
        Some(now.size() != before.size() || !now.is_given_up() || self.may_take(cache.owner, now))
    }

    /// Takes over all that is parked by other processes' caches, and this process's, behind one fence. False
    /// if there is nothing, or the call has made its fence: then nothing was done. What is parked by others
    /// meanwhile stays theirs.
    pub(super) fn steal_far(self, cache: &mut ThreadCache, far: &mut FarSteal) -> bool {
        let mut batch = StealBatch::new(usize::MAX, true);
        match std::mem::replace(far, FarSteal::Made(vec![])) {
            FarSteal::PutOff => {
                *far = FarSteal::PutOff;
                return false;
            }
            FarSteal::Ahead if R::Backend::mutated(Mutant::FarLeftOut) => return false,
            FarSteal::Ahead => self.heap.each_tile(|g, _| {
                self.mark(cache, g, &mut batch);
                true
            }),
            FarSteal::Made(stood) => batch.marked = self.mark_again(cache, stood),
        }
        if batch.is_empty() {
            return false;
        }
        self.revoke(cache, &batch.marked);
        *far = FarSteal::Made(batch.anothers);
        for (g, _) in batch.marked {
            self.merge_parked(cache, g);
        }
        true
    }

    /// Merges the blocks of a batch that are still parked, whoever parked them. Other processes' wait, with
    /// their likes, for one fence.
    pub(super) fn merge_batch(self, cache: &mut ThreadCache, batch: &[u32]) {
        let (me, biased) = (cache.owner, self.heap.biased());
        let is_far = |&g: &u32| biased && self.is_far(me, self.heap.look(Granule(g)).parked_by());
        let (far, near): (Vec<u32>, Vec<u32>) = batch.iter().partition(|g| is_far(g));
        self.merge_all(cache, &near);
        let forgets = !me.is_multiple_of(2) && R::Backend::mutated(Mutant::LimboForgotten);
        if !far.is_empty() && !forgets {
            cache.limbo.get_or_insert_default().0.extend(far);
        }
    }

    /// Where so many wait for a fence that reaches other processes that it is worth it: makes it. For a free,
    /// which does this once. Those of the dead need none by now.
    #[inline]
    pub(super) fn empty_full_limbo(self, cache: &mut ThreadCache) {
        let full = cache.limbo.take_if(|limbo| limbo.0.len() >= LIMBO);
        if let Some(full) = full {
            self.merge_batch(cache, &full.0);
            if cache.limbo.as_ref().is_some_and(|limbo| limbo.0.len() >= LIMBO / 2) {
                self.empty_limbo(cache);
            }
        }
    }

    /// Merges the blocks that wait for a fence which reaches other processes.
    pub(super) fn empty_limbo(self, cache: &mut ThreadCache) {
        if let Some(limbo) = cache.limbo.take() {
            self.merge_all(cache, &limbo.0);
        }
    }

    /// Merges those of these blocks that are still parked, whoever parked them.
    fn merge_all(self, cache: &mut ThreadCache, blocks: &[u32]) {
        if self.heap.biased() {
            let mut batch = StealBatch::new(blocks.len(), true);
            blocks.iter().for_each(|&g| self.mark(cache, Granule(g), &mut batch));
            // What another thief has marked is that one's to merge.
            if !batch.marked.is_empty() {
                self.revoke(cache, &batch.marked);
            }
        }
        for &g in blocks {
            self.merge_parked(cache, Granule(g));
        }
    }

    /// Merges the block at `g` if it is parked and this cache may take it.
    pub(super) fn merge_parked(self, cache: &mut ThreadCache, g: Granule) {
        let header = self.heap.look(g);
        if !header.is_given_up() || !self.heap.fits_sector(g, header) {
            return;
        }
        if self.may_take(cache.owner, header) {
            self.heap.operations().coalesce(cache, g, header);
        } else {
            self.heap.made().sent(cache);
        }
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
